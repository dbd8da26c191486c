"""The builder of scene bundles, which uses the benchmark's own code.

It is a program of its own (`python -m rlgen.libero.scenes.build`), because importing the benchmark edits the
environment, prints, draws from NumPy's global generator and asks for a configuration file. Nothing else in rlgen
imports libero or robosuite.

A scene bundle is a folder of
  scene.xml, assets/: the MJCF and its files.
  sources.json: the benchmark's names of these files.
  physics-<version>.mjb: the physics, compiled by a version of MuJoCo.
  scene.json: names and constants that the MJCF does not have.
  stored.npy: the benchmark's 50 stored initial states.
  placements.npy: training reset states, sampled from the BDDL regions, so that the stored states can be held out.
  bundled_placements.npy: the same draws with the bundle's fixtures, from which wide resets are drawn.
"""

import argparse
import contextlib
import fcntl
import functools
import hashlib
import os
import shutil
import signal
import sys
import tempfile
import types
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from rlgen.core.errors import UserError
from rlgen.core.files import write_json
from rlgen.core.process import end_with_parent, name_numba_cache
from rlgen.libero.scenes.build_goal import goal_atoms, reset_condition_atoms
from rlgen.libero.scenes.build_reset_states import fixture_poses, fixture_samplers, sample_reset_states
from rlgen.libero.scenes.indicators import add_indicators
from rlgen.libero.scenes.scene import physics_model
from rlgen.libero.tasks.initial_states import read_initial_states
from rlgen.libero.tasks.suites import Task, find_task, package_folder


def main() -> None:
    """Builds every `<task>=<folder>` of the command line whose folder is not there yet."""
    end_with_parent()
    # Unfinished folders are removed on the way out.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    parser = argparse.ArgumentParser()
    parser.add_argument("jobs", nargs="+", metavar="TASK=FOLDER")
    parser.add_argument("--assets", required=True)
    parser.add_argument("--label", required=True)
    for name in ("--training-states", "--seed", "--format"):
        parser.add_argument(name, type=int, required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as configuration:
        prepare(arguments.assets, Path(configuration))
        for job in arguments.jobs:
            name, _, folder = job.partition("=")
            task = find_task(name)
            head = {"format": arguments.format, "task": asdict(task), "assets": arguments.label}
            try:
                build_scene_bundle(
                    task, Path(folder), head, Path(arguments.assets), arguments.training_states, arguments.seed
                )
            except Exception as error:
                sys.exit(f"{name}: {' '.join(str(error).split())}")


def build_scene_bundle(
    task: Task, folder: Path, head: dict[str, Any], assets: Path, training_states: int, seed: int
) -> None:
    """Writes a task's scene bundle.

    The folder appears complete or not at all, and one process at a time builds it.

    Args:
      task: the task.
      folder: of the bundle; nothing is done if it exists.
      head: first entries of `scene.json`: format, task, description of the assets.
      assets: root of the asset tree.
      training_states: number of training reset states.
      seed: of these states.
    """
    with _lock(folder.with_suffix(".lock")):
        if folder.is_dir():
            return
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            _write_bundle(official_environment(task), task, head, assets, temporary, training_states, seed)
            os.replace(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def prepare(assets: str, configuration: Path, gl: str = "disable") -> None:
    """Makes libero importable in this process, without questions and with these assets.

    Args:
      assets: root of the asset tree.
      configuration: an empty folder that lives as long as the process needs the benchmark.
      gl: the GL library that it renders with, or `disable`.
    """
    name_numba_cache()
    os.environ["LIBERO_CONFIG_PATH"] = str(configuration)
    os.environ["MUJOCO_GL"] = gl
    root = package_folder()
    folders = {
        "benchmark_root": root,
        "bddl_files": root / "bddl_files",
        "init_states": root / "init_files",
        "datasets": configuration,
        "assets": assets,
    }
    (configuration / "config.yaml").write_text("".join(f"{key}: {value}\n" for key, value in folders.items()))
    if gl == "disable":
        # robosuite makes `egl` of that and imports it, which fails where there is no GL library.
        no_gl = types.ModuleType("robosuite.renderers.context.egl_context")
        no_gl.EGLGLContext = None
        sys.modules[no_gl.__name__] = no_gl
    # robosuite would log to /tmp/robosuite.log, which may be another user's.
    macros = types.ModuleType("robosuite.macros_private")
    macros.FILE_LOGGING_LEVEL = None
    sys.modules[macros.__name__] = macros
    import libero.libero

    # The package looks for assets beside itself and at the hub only; this is where it stores what it found.
    libero.libero._assets_path_cache = str(assets)


def official_environment(task: Task, *, images: bool = False) -> Any:
    """Makes and resets the benchmark's `ControlEnv`; `prepare` must have been called.

    Every reset samples the positions of the fixtures, a centimetre or two apart; here always from seed 0.

    Args:
      task: the task.
      images: True for observations with images of its two cameras.
    """
    from libero.libero.envs.env_wrapper import ControlEnv

    np.random.seed(0)
    env = ControlEnv(bddl_file_name=str(task.bddl_file), has_offscreen_renderer=images, use_camera_obs=images)
    env.reset()
    return env


def _write_bundle(
    env: Any, task: Task, head: dict[str, Any], assets: Path, out: Path, training_states: int, seed: int
) -> None:
    model = env.sim.model._model
    tree = ElementTree.fromstring(env.env.model.get_xml())
    add_indicators(tree, env)
    _write_model(tree, fixture_poses(env), assets, out)
    write_json(out / "scene.json", {**head, **_description(env)})
    stored = read_initial_states(task.initial_states_file)
    if stored.shape[1] != 1 + model.nq + model.nv:
        raise UserError(f"stored states have {stored.shape[1]} numbers, the model {1 + model.nq + model.nv}")
    np.save(out / "stored.npy", stored)
    drawn, with_bundled_fixtures = sample_reset_states(env, training_states, seed)
    np.save(out / "placements.npy", drawn)
    np.save(out / "bundled_placements.npy", with_bundled_fixtures)
    physics_model(out)


def _write_model(
    tree: ElementTree.Element, fixtures: dict[str, tuple[np.ndarray, np.ndarray]], assets: Path, out: Path
) -> None:
    """Writes the MJCF with fixtures at their poses; files are copied under names made from their contents."""
    compiler = tree.find("compiler")
    if compiler is not None:
        for attribute in ("meshdir", "texturedir", "assetdir"):
            compiler.attrib.pop(attribute, None)
    (out / "assets").mkdir()
    sources = {}
    for element in tree.iter():
        if "file" in element.attrib:
            source = Path(element.attrib["file"])
            element.attrib["file"] = _copy_asset(source, out)
            sources[element.attrib["file"]] = _benchmark_name(source, assets)
        if element.tag == "body" and element.get("name") in fixtures:
            for attribute, numbers in zip(("pos", "quat"), fixtures[element.get("name", "")], strict=True):
                element.set(attribute, " ".join(repr(float(number)) for number in numbers))
    (out / "scene.xml").write_text(ElementTree.tostring(tree, encoding="unicode"))
    write_json(out / "sources.json", sources)


def _benchmark_name(source: Path, assets: Path) -> str:
    """Returns an asset's path as in the public demonstrations; by its parts the benchmark's tools find the file."""
    if source.resolve().is_relative_to(assets.resolve()):
        return f"libero/libero/assets/{source.resolve().relative_to(assets.resolve())}"
    last = max((index for index, part in enumerate(source.parts) if part == "robosuite"), default=None)
    if last is None:
        raise UserError(f"{source} is neither in {assets} nor in robosuite; give the assets folder that it is in")
    return "/".join(source.parts[last:])


def _copy_asset(source: Path, out: Path) -> str:
    """Links a file into the bundle; bundles of one folder share the bytes. Returns its path in the bundle."""
    name = f"assets/{source.stem}-{_digest(source)}{source.suffix}"
    if not (out / name).exists():
        shared = out.parent / name
        if not shared.exists():
            shared.parent.mkdir(exist_ok=True)
            temporary = shared.with_name(f".{os.getpid()}-{shared.name}")
            shutil.copyfile(source, temporary)
            os.replace(temporary, shared)
        try:
            os.link(shared, out / name)
        except OSError:  # a disk without links
            shutil.copyfile(shared, out / name)
    return name


@functools.cache
def _digest(source: Path) -> str:
    """Returns a digest of a file's contents; cached, since tasks share most of their assets."""
    return hashlib.sha256(source.read_bytes()).hexdigest()[:16]


def _description(env: Any) -> dict[str, Any]:
    """Returns the names and constants that `load_scene_bundle` needs and the MJCF does not have."""
    robot, problem = env.robots[0], env.env
    controller = robot.controller
    return {
        "goal": goal_atoms(env),
        "premise": reset_condition_atoms(env),
        "fixtures": fixture_samplers(env),
        "objects": [
            {"name": name, "body": body.root_body, "joint": body.joints[-1] if body.joints else None}
            for name, body in problem.objects_dict.items()
        ],
        "robot": {
            "arm_joints": list(robot.robot_joints),
            "finger_joints": list(robot.gripper_joints),
            "grip_site": robot.gripper.important_sites["grip_site"],
            "hand_body": robot.robot_model.eef_name,
        },
        "control": {
            "frequency": env.env.control_freq,
            "kp": float(controller.kp[0]),
            "kd": float(controller.kd[0]),
            "output_max": [float(x) for x in controller.output_max],
            "initial_joints": [float(x) for x in robot.robot_model.init_qpos],
            "initial_fingers": [float(x) for x in robot.gripper.init_qpos],
            "gripper_speed": float(robot.gripper.speed),
        },
    }


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    main()
