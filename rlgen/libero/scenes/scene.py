"""Scenes: one task ready to run, loaded from a scene bundle."""

import copy
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import mujoco
import numpy as np
from jaxtyping import Float, Int

from rlgen.core.errors import UserError
from rlgen.core.types import FixturePoses
from rlgen.libero.scenes.fixtures import NOT_MOVED, Fixtures, FixtureSampler, draw_fixtures
from rlgen.libero.scenes.goals import Goal, compile_goal
from rlgen.libero.tasks.suites import Task

MODEL_FILE = "scene.xml"
# How far training reset states are drawn from: the task's own regions, or further.
Resets = Literal["standard", "wide"]


def physics_model(folder: Path) -> mujoco.MjModel:
    """Loads the physics of a scene bundle: the model without visual geoms and sensors, a few megabytes.

    It is stored beside the MJCF for each MuJoCo version. MuJoCo takes masses and inertias from the visual geoms before
    it discards them: steps are the same bits. The gripper's force sensors are not part of the benchmark's observations
    and cost 5 % of a step.
    """
    compiled = folder / f"physics-{mujoco.__version__}.mjb"
    if compiled.exists():
        model = mujoco.MjModel.from_binary_path(str(compiled))
    else:
        model = _compile(folder)
        _store(model, compiled)
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_SENSOR)
    return model


def _compile(folder: Path) -> mujoco.MjModel:
    spec = mujoco.MjSpec.from_file(str(folder / MODEL_FILE))
    first, last = spec.compiler.inertiagrouprange
    for geom in list(spec.geoms):
        collides = geom.contype or geom.conaffinity
        if not collides and not first <= geom.group <= last:
            spec.delete(geom)
    # Newer versions of MuJoCo refuse names of materials that are not there.
    for element in (*spec.geoms, *spec.sites):
        element.material = ""
    # Most of the time to compile would go into meshes that are not used any more.
    used = {geom.meshname for geom in spec.geoms}
    unused = [mesh for mesh in spec.meshes if mesh.name not in used]
    for element in (*spec.textures, *spec.materials, *unused):
        spec.delete(element)
    spec.compiler.discardvisual = True
    return spec.compile()


def _store(model: mujoco.MjModel, file: Path) -> None:
    if os.access(file.parent, os.W_OK):
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        mujoco.mj_saveModel(model, str(temporary))
        os.replace(temporary, file)


# Bundles of format 6 do not say how fixtures are drawn, and are read for what needs no draw; in some of format 7
# objects of training reset states overlap; in those of up to 8 what stands on fixtures stands as on the bundle's; in
# some of 9 settling throws objects away.
SCENE_BUNDLE_FORMAT, READABLE_FORMATS = 10, (6, 7, 8, 9, 10)


@dataclass(frozen=True)
class RobotIndex:
    """Indices and addresses of the Panda in the model."""

    arm_qpos: Int[np.ndarray, "7"]
    arm_dof: Int[np.ndarray, "7"]
    arm_joint: Int[np.ndarray, "7"]
    arm_actuator: Int[np.ndarray, "7"]
    finger_qpos: Int[np.ndarray, "2"]
    finger_actuator: Int[np.ndarray, "2"]
    grip_site: int
    hand_body: int


@dataclass(frozen=True)
class Control:
    """Constants of the controller (OSC_POSE of robosuite 1.4) and of the gripper.

    Attributes:
      substeps: physics steps in a control step.
      kp, kd: stiffness and damping of the end effector.
      output_max: change of the goal by an action of 1, metres and radians.
      initial_joints: joint positions at reset, which the null-space term pulls to, radians.
      initial_orientation: orientation goal at reset, rotation matrix.
      gripper_speed: change of the internal gripper command in a substep.
    """

    substeps: int
    kp: float
    kd: float
    output_max: Float[np.ndarray, "6"]
    initial_joints: Float[np.ndarray, "7"]
    initial_orientation: Float[np.ndarray, "3 3"]
    gripper_speed: float


@dataclass(frozen=True)
class Scene:
    """One task, ready to run; shared by all environments of the task.

    Attributes:
      task: the benchmark's task.
      folder: the scene bundle that it was loaded from.
      assets: description of the object assets, as shown in reports.
      model: physics alone, without visual geoms.
      robot: indices of the robot in the model.
      control: constants of the controller.
      goal: the task's goal.
      reset_conditions: what the task file says of the objects at the start.
      object_names: names of the movable objects, in the benchmark's order.
      object_bodies: their bodies.
      stored_states: the benchmark's initial states (time, qpos, qvel), not settled; held out from training.
      training_states: initial states sampled from the BDDL regions for training, not settled. As in the stored ones,
        what stands on a fixture or lies in it was put where a draw of the fixture stood, not the bundle's.
      bundled_states: the same draws with what stands on fixtures put by the bundle's: wide draws begin there.
      fixture_samplers: of the fixtures, in the benchmark's order; None if the bundle is too old to have them.
      fixtures: where the fixtures stand, if elsewhere than in the bundle.
      bundled: the scene as it was loaded, if the fixtures were moved.
      resets: how far training states are drawn from the BDDL regions, see `rlgen.libero.envs.wide_resets`.
      training_fixtures: whether fixtures stand as in the bundle in training, or are drawn.
      observed: of what observations tell where it is: of the objects that the goal names, or of all, and of fixtures.
    """

    task: Task
    folder: Path
    assets: str
    model: mujoco.MjModel
    robot: RobotIndex
    control: Control
    goal: Goal
    reset_conditions: Goal
    object_names: tuple[str, ...]
    object_bodies: Int[np.ndarray, " objects"]
    stored_states: Float[np.ndarray, "S D"]
    training_states: Float[np.ndarray, "R D"]
    bundled_states: Float[np.ndarray, "R D"]
    fixture_samplers: tuple[FixtureSampler, ...] | None
    fixtures: FixturePoses | None = None
    bundled: "Scene | None" = None
    resets: Resets = "standard"
    training_fixtures: Fixtures = "fixed"
    observed: Literal["goal", "all"] = "goal"

    @property
    def training_split(self) -> str:
        """Returns the split that the training reset states are of: `train` (standard resets) or `wide`."""
        return "train" if self.resets == "standard" else "wide"

    def initial_states(self, split: str) -> Float[np.ndarray, "S D"]:
        """Returns the initial states of a split.

        Args:
          split: `train` (training reset states), `wide` (the same with wide resets) or `heldout` (stored states).

        Raises:
          UserError: another split, or training reset states that this scene does not have.
        """
        if split == "heldout":
            return self.stored_states
        if split == self.training_split:
            return self.training_states
        if split in ("train", "wide"):
            raise UserError(f"split {split!r} of a scene with {self.resets} resets; `with_split` makes one that has it")
        raise UserError(f"unknown split {split!r}, expected 'train', 'wide' or 'heldout'")

    @cached_property
    def visual_model(self) -> mujoco.MjModel:
        """Returns the model with visual geoms and textures, up to 200 MB; joints are the same, in the same order."""
        if self.bundled is not None:
            return self.bundled.visual_model
        return mujoco.MjModel.from_xml_path(str(self.folder / MODEL_FILE))

    @cached_property
    def fixture_bodies(self) -> Int[np.ndarray, " F"]:
        """Returns the bodies of the fixtures, in the order of their poses."""
        return np.array([self.model.body(sampler.body).id for sampler in self._samplers()], np.int32)

    def draw_fixtures(self, fixtures: Fixtures, seed: int) -> FixturePoses | None:
        """Returns where the fixtures stand in an episode; None where they stand as in the bundle.

        Args:
          fixtures: `fixed` for the bundle's own draw, `redraw` for one as the benchmark makes it at a reset.
          seed: of the draw, in 0..2^32-1.

        Raises:
          UserError: an unknown word, or a bundle without samplers.
        """
        if fixtures not in ("fixed", "redraw"):
            raise UserError(f"unknown fixtures {fixtures!r}, expected 'fixed' or 'redraw'")
        return draw_fixtures(self._samplers(), seed) if fixtures == "redraw" else None

    def draw_training_fixtures(self, seed: int) -> FixturePoses | None:
        """Returns where the fixtures stand in an episode of training; arguments and errors as of `draw_fixtures`."""
        return self.draw_fixtures(self.training_fixtures, seed)

    def placed(self, fixtures: FixturePoses | None) -> "Scene":
        """Returns the scene with its fixtures elsewhere, with a model of its own; this one's for None.

        Bodies, sites, joints and goals are the same. The visual model is shared, with the fixtures as in the bundle:
        renderers are given the poses.

        Raises:
          UserError: poses of another number of fixtures.
        """
        if fixtures is None:
            return self
        bundled = self.bundled or self
        model = copy.copy(bundled.model)
        for body, pose in bundled.moved_bodies(fixtures).items():
            model.body_pos[body], model.body_quat[body] = pose[:3], pose[3:]
        return replace(bundled, model=model, fixtures=fixtures, bundled=bundled)

    def moved_bodies(self, fixtures: FixturePoses | None) -> Mapping[int, Float[np.ndarray, "7"]]:
        """Returns the poses of the fixtures by their bodies, for None this scene's; none where nothing was moved.

        Raises:
          UserError: poses of another number of fixtures.
        """
        fixtures = self.fixtures if fixtures is None else fixtures
        if fixtures is None:
            return NOT_MOVED
        if np.shape(fixtures) != (len(self.fixture_bodies), 7):
            raise UserError(
                f"poses of fixtures of shape {np.shape(fixtures)}, {self.task.id} has {len(self.fixture_bodies)}; "
                "use the task that they were drawn for"
            )
        return dict(zip(self.fixture_bodies.tolist(), fixtures, strict=True))

    def _samplers(self) -> tuple[FixtureSampler, ...]:
        if self.fixture_samplers is None:
            raise UserError(
                f"{self.folder} is of an older version and does not say how fixtures are drawn; load the task anew, "
                "or leave them fixed"
            )
        return self.fixture_samplers


def load_scene_bundle(folder: Path) -> Scene:
    """Loads a scene bundle, wherever it was copied to; needs neither libero nor robosuite.

    Raises:
      UserError: the folder is not a scene bundle that this version reads.
    """
    try:
        description = json.loads((folder / "scene.json").read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} is not a scene bundle: {error}; build it again") from error
    if description.get("format") not in READABLE_FORMATS:
        found = description.get("format")
        raise UserError(f"{folder} has scene bundle format {found}, expected {SCENE_BUNDLE_FORMAT}; build it again")
    samplers, drawn, bundled = description.get("fixtures"), folder / "placements.npy", folder / "bundled_placements.npy"
    model = physics_model(folder)
    robot = _robot_index(model, description["robot"])
    return Scene(
        task=Task(**description["task"]),
        folder=folder,
        assets=description["assets"],
        model=model,
        robot=robot,
        control=_control(model, robot, description["control"]),
        goal=compile_goal(model, description["goal"]),
        reset_conditions=compile_goal(model, description["premise"]),
        object_names=tuple(entry["name"] for entry in description["objects"]),
        object_bodies=np.array([model.body(entry["body"]).id for entry in description["objects"]], np.int32),
        stored_states=np.load(folder / "stored.npy", allow_pickle=False),
        training_states=np.load(drawn, allow_pickle=False),
        bundled_states=np.load(bundled if bundled.exists() else drawn, allow_pickle=False),
        fixture_samplers=None if samplers is None else tuple(FixtureSampler.from_json(one) for one in samplers),
    )


def _robot_index(model: mujoco.MjModel, names: dict) -> RobotIndex:
    arm = [model.joint(name) for name in names["arm_joints"]]
    fingers = [model.joint(name) for name in names["finger_joints"]]
    arm_ids = {joint.id for joint in arm}
    finger_ids = {joint.id for joint in fingers}
    actuators = {joint: index for index, joint in enumerate(model.actuator_trnid[:, 0])}
    return RobotIndex(
        arm_qpos=np.array([joint.qposadr[0] for joint in arm], np.int32),
        arm_dof=np.array([joint.dofadr[0] for joint in arm], np.int32),
        arm_joint=np.array(sorted(arm_ids), np.int32),
        arm_actuator=np.array([actuators[joint] for joint in sorted(arm_ids)], np.int32),
        finger_qpos=np.array([joint.qposadr[0] for joint in fingers], np.int32),
        finger_actuator=np.array([actuators[joint] for joint in sorted(finger_ids)], np.int32),
        grip_site=model.site(names["grip_site"]).id,
        hand_body=model.body(names["hand_body"]).id,
    )


def _control(model: mujoco.MjModel, robot: RobotIndex, constants: dict) -> Control:
    data = mujoco.MjData(model)
    data.qpos[robot.arm_qpos] = constants["initial_joints"]
    mujoco.mj_kinematics(model, data)
    return Control(
        substeps=int(1 / constants["frequency"] / model.opt.timestep),
        kp=constants["kp"],
        kd=constants["kd"],
        output_max=np.array(constants["output_max"]),
        initial_joints=np.array(constants["initial_joints"]),
        initial_orientation=data.site_xmat[robot.grip_site].reshape(3, 3).copy(),
        gripper_speed=constants["gripper_speed"],
    )
