"""A task ready to run: physics model, where things are in it, goal, prompt, initial states. Immutable."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np
from jaxtyping import Float, Int

from rlgen.errors import UserError
from rlgen.libero.assets import AssetSource, fingerprint
from rlgen.libero.predicates import Goal, compile_goal
from rlgen.libero.tasks import Task, find_task

BUNDLE_FORMAT = 1
PLACEMENTS = 256
PLACEMENT_SEED = 0


@dataclass(frozen=True)
class RobotIndex:
    """Where the Panda is in the model; all are indices or addresses."""

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
    """Constants of OSC_POSE and the gripper (robosuite 1.4).

    Attributes:
      substeps: physics steps a control step.
      kp, kd: stiffness and damping of the end effector.
      output_max: metres and radians that an action of 1 moves the goal.
      initial_joints: joint positions at reset, the target of the null-space term, radians.
      initial_orientation: orientation goal at reset, rotation matrix.
      gripper_speed: change of the internal gripper command a substep.
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
      folder: the bundle it was loaded from.
      stored: the benchmark's initial states, `[50, D]`, not settled; held out from training.
      placements: initial states drawn from the BDDL regions, `[P, D]`, not settled; for training.
      object_bodies: bodies of the movable objects, in the benchmark's order.
      assets: what the scene is made of.
    """

    task: Task
    folder: Path
    assets: AssetSource
    model: mujoco.MjModel
    robot: RobotIndex
    control: Control
    goal: Goal
    object_names: tuple[str, ...]
    object_bodies: Int[np.ndarray, " objects"]
    stored: Float[np.ndarray, "S D"]
    placements: Float[np.ndarray, "P D"]

    def initial_states(self, split: str) -> Float[np.ndarray, "S D"]:
        """The initial states of a split: `train` (sampled placements) or `heldout` (stored states)."""
        try:
            return {"train": self.placements, "heldout": self.stored}[split]
        except KeyError:
            raise UserError(f"unknown split {split!r}, expected 'train' or 'heldout'") from None


def load_scene(task: str | Task, assets: AssetSource, cache: Path) -> Scene:
    """Loads a task, building its bundle in `cache` the first time (about 10 s).

    Raises:
      UserError: unknown task, a goal or assets that cannot be used.
    """
    task = find_task(task) if isinstance(task, str) else task
    folder = _bundle(task, assets, cache)
    description = json.loads((folder / "scene.json").read_text())
    model = _load_model(folder)
    robot = _robot_index(model, description["robot"])
    names = tuple(entry["name"] for entry in description["objects"])
    bodies = {entry["name"]: model.body(entry["body"]).id for entry in description["objects"]}
    return Scene(
        task=task,
        folder=folder,
        assets=assets,
        model=model,
        robot=robot,
        control=_control(model, robot, description["control"]),
        goal=compile_goal(model, description["goal"], bodies, description["sites"]),
        object_names=names,
        object_bodies=np.array([bodies[name] for name in names], np.int32),
        stored=np.load(folder / "stored.npy", allow_pickle=False),
        placements=np.load(folder / "placements.npy", allow_pickle=False),
    )


def bundle_key(task: Task, assets: AssetSource) -> str:
    """Names a bundle by all that goes into it."""
    content = (
        BUNDLE_FORMAT,
        PLACEMENTS,
        PLACEMENT_SEED,
        task.id,
        task.bddl_file.read_text(),
        fingerprint(assets.path),
    )
    return f"{task.suite}-{task.index}-{hashlib.sha256(repr(content).encode()).hexdigest()[:16]}"


def _bundle(task: Task, assets: AssetSource, cache: Path) -> Path:
    """The bundle's folder, built if it is not there; appears whole or not at all."""
    folder = cache / "scenes" / bundle_key(task, assets)
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _lock(folder.with_suffix(".lock")):
        if folder.is_dir():
            return folder
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            _run_builder(task, assets, temporary)
            os.replace(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _run_builder(task: Task, assets: AssetSource, out: Path) -> None:
    command = [
        *(sys.executable, "-m", "rlgen.libero.build", "--task", task.id, "--assets", str(assets.path)),
        *("--out", str(out), "--placements", str(PLACEMENTS), "--seed", str(PLACEMENT_SEED)),
    ]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        lines = (result.stderr.strip() or result.stdout.strip() or "no output").splitlines()
        raise UserError(
            f"{task.id} cannot be built from {assets.label} at {assets.path}: {lines[-1]}; "
            "check the assets folder, or use --standins"
        )


def _load_model(folder: Path) -> mujoco.MjModel:
    """Loads the MJCF, through a compiled copy beside it that only this MuJoCo version uses."""
    compiled = folder / f"scene-{mujoco.__version__}.mjb"
    if not compiled.exists():
        model = mujoco.MjModel.from_xml_path(str(folder / "scene.xml"))
        temporary = folder / f".{compiled.name}.{os.getpid()}"
        mujoco.mj_saveModel(model, str(temporary))
        os.replace(temporary, compiled)
    return mujoco.MjModel.from_binary_path(str(compiled))


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


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Only one process builds a bundle at a time."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
