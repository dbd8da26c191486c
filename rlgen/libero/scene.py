"""A task ready to run: physics model, where things are in it, goal, prompt, initial states. Immutable."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import mujoco
import numpy as np
from jaxtyping import Float, Int

from rlgen.errors import UserError
from rlgen.libero.assets import AssetSource, fingerprint
from rlgen.libero.predicates import Goal, compile_goal
from rlgen.libero.tasks import Task, find_task

BUNDLE_FORMAT = 2
MODEL_FILE = "scene.xml"
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
      assets: what the objects are made of, the phrase for reports.
      model: the physics alone, without what is only to be seen; a few megabytes.
      stored: the benchmark's initial states, `[50, D]`, not settled; held out from training.
      placements: initial states drawn from the BDDL regions, `[P, D]`, not settled; for training.
      object_bodies: bodies of the movable objects, in the benchmark's order.
    """

    task: Task
    folder: Path
    assets: str
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

    @cached_property
    def visual_model(self) -> mujoco.MjModel:
        """The model with all that is to be seen, up to 200 MB; the same joints in the same order."""
        return mujoco.MjModel.from_xml_path(str(self.folder / MODEL_FILE))


def load_scene(task: str | Task, assets: AssetSource, cache: Path) -> Scene:
    """Loads a task, building its bundle in `cache` the first time (about 10 s).

    Raises:
      UserError: unknown task, or assets that cannot be used.
    """
    task = find_task(task) if isinstance(task, str) else task
    [folder] = build_bundles([task], assets, cache)
    return load_bundle(folder)


def load_bundle(folder: Path) -> Scene:
    """Loads a bundle from wherever it was copied to; needs neither libero nor robosuite.

    Raises:
      UserError: the folder is not a bundle that this version reads.
    """
    try:
        description = json.loads((folder / "scene.json").read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} is not a scene bundle: {error}; build it again") from error
    if description.get("format") != BUNDLE_FORMAT:
        raise UserError(
            f"{folder} has bundle format {description.get('format')}, expected {BUNDLE_FORMAT}; build it again"
        )
    model = _physics_model(folder)
    robot = _robot_index(model, description["robot"])
    return Scene(
        task=Task(**description["task"]),
        folder=folder,
        assets=description["assets"],
        model=model,
        robot=robot,
        control=_control(model, robot, description["control"]),
        goal=compile_goal(model, description["goal"]),
        object_names=tuple(entry["name"] for entry in description["objects"]),
        object_bodies=np.array([model.body(entry["body"]).id for entry in description["objects"]], np.int32),
        stored=np.load(folder / "stored.npy", allow_pickle=False),
        placements=np.load(folder / "placements.npy", allow_pickle=False),
    )


def bundle_key(task: Task, assets: str) -> str:
    """Names a bundle by all that goes into it; `assets` is the fingerprint of the asset tree."""
    content = (BUNDLE_FORMAT, PLACEMENTS, PLACEMENT_SEED, task.id, task.bddl_file.read_text(), assets)
    return f"{task.suite}-{task.index}-{hashlib.sha256(repr(content).encode()).hexdigest()[:16]}"


def build_bundles(
    tasks: Sequence[Task],
    assets: AssetSource,
    cache: Path,
    *,
    workers: int = 1,
    on_built: Callable[[int], None] | None = None,
) -> list[Path]:
    """The bundles of tasks in `cache`, those that are missing built by `workers` processes.

    Args:
      on_built: called now and then with the number of bundles that are there.

    Raises:
      UserError: a task cannot be built from these assets.
    """
    content = fingerprint(assets.path)
    folders = {task: cache / "scenes" / bundle_key(task, content) for task in tasks}
    missing = [task for task, folder in folders.items() if not folder.is_dir()]
    (cache / "scenes").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as logs:
        shares = [missing[worker::workers] for worker in range(workers)]
        running = [
            _start_builder({task: folders[task] for task in share}, assets, Path(logs) / str(number))
            for number, share in enumerate(shares)
            if share
        ]
        _wait(running, lambda: on_built and on_built(sum(folder.is_dir() for folder in folders.values())))
        for number, process in enumerate(running):
            if process.returncode != 0:
                lines = (Path(logs) / str(number)).read_text(errors="replace").strip().splitlines() or ["no output"]
                raise UserError(
                    f"scenes cannot be built from {assets.label} at {assets.path}: {lines[-1]}; "
                    "check the assets folder, or use --standins"
                )
    return list(folders.values())


def _start_builder(folders: dict[Task, Path], assets: AssetSource, log: Path) -> subprocess.Popen:
    command = [
        *(sys.executable, "-m", "rlgen.libero.build", "--assets", str(assets.path), "--label", assets.label),
        *("--placements", str(PLACEMENTS), "--seed", str(PLACEMENT_SEED), "--format", str(BUNDLE_FORMAT)),
        *(f"{task.id}={folder}" for task, folder in folders.items()),
    ]
    with open(log, "w") as file:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)


def _wait(processes: list[subprocess.Popen], look: Callable[[], None]) -> None:
    """Until all have ended; none is left behind when this is interrupted."""
    try:
        while any(process.poll() is None for process in processes):
            time.sleep(0.05)
            look()
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
            process.wait()


def _physics_model(folder: Path) -> mujoco.MjModel:
    """The model without what is only to be seen, kept beside the MJCF for each MuJoCo version.

    MuJoCo takes masses and inertias from the visible geoms before it leaves them out: steps are the same bits.
    """
    compiled = folder / f"physics-{mujoco.__version__}.mjb"
    if compiled.exists():
        return mujoco.MjModel.from_binary_path(str(compiled))
    spec = mujoco.MjSpec.from_file(str(folder / MODEL_FILE))
    for element in (*spec.textures, *spec.materials):
        spec.delete(element)
    spec.compiler.discardvisual = True
    model = spec.compile()
    if os.access(folder, os.W_OK):
        temporary = folder / f".{compiled.name}.{os.getpid()}"
        mujoco.mj_saveModel(model, str(temporary))
        os.replace(temporary, compiled)
    return model


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
