"""Builds one task with the benchmark's own code and writes it as a bundle.

Runs as a program of its own (`python -m rlgen.libero.build`), because importing the benchmark edits the
environment, prints, draws from NumPy's global generator and wants a configuration file. Nothing else in
rlgen imports libero or robosuite.

A bundle is `scene.xml` (MJCF) with `assets/` beside it, `scene.json` (what the runtime must know by name),
`stored.npy` (the benchmark's 50 initial states) and `placements.npy` (fresh initial states sampled from the
BDDL regions, for training, so that the stored ones can be held out).
"""

import argparse
import hashlib
import os
import shutil
import sys
import tempfile
import types
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np

from rlgen.files import write_json
from rlgen.libero.initial_states import read_initial_states
from rlgen.libero.tasks import Task, find_task, package_folder

# robosuite's `initialization_noise="default"`, with which the stored states were drawn.
JOINT_NOISE = 0.02


def main() -> None:
    """Reads the command line and writes the bundle into `--out`, which must exist."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", required=True)
    parser.add_argument("--assets", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--placements", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    arguments = parser.parse_args()
    task, out = find_task(arguments.task), Path(arguments.out)
    with tempfile.TemporaryDirectory() as configuration:
        env = _official_environment(task, arguments.assets, Path(configuration))
        model = env.sim.model._model
        _write_model(env.env.model.get_xml(), out)
        write_json(out / "scene.json", _description(env, task))
        stored = read_initial_states(task.initial_states_file)
        if stored.shape[1] != 1 + model.nq + model.nv:
            sys.exit(f"stored states have {stored.shape[1]} numbers, the model {1 + model.nq + model.nv}")
        np.save(out / "stored.npy", stored)
        np.save(out / "placements.npy", _sample_placements(env, arguments.placements, arguments.seed))


def _official_environment(task: Task, assets: str, configuration: Path) -> Any:
    """The benchmark's `ControlEnv` without a renderer, after a reset."""
    os.environ["LIBERO_CONFIG_PATH"] = str(configuration)
    os.environ["MUJOCO_GL"] = "disable"
    root = package_folder()
    folders = {
        "benchmark_root": root,
        "bddl_files": root / "bddl_files",
        "init_states": root / "init_files",
        "datasets": configuration,
        "assets": assets,
    }
    (configuration / "config.yaml").write_text("".join(f"{key}: {value}\n" for key, value in folders.items()))
    # robosuite makes `egl` of that and imports it, which fails where there is no GL library; nothing is drawn here.
    no_gl = types.ModuleType("robosuite.renderers.context.egl_context")
    no_gl.EGLGLContext = None
    sys.modules[no_gl.__name__] = no_gl
    import libero.libero

    # The package looks beside itself and at the hub only; this is the place where it remembers what it found.
    libero.libero._assets_path_cache = str(assets)
    from libero.libero.envs.env_wrapper import ControlEnv

    np.random.seed(0)
    env = ControlEnv(bddl_file_name=str(task.bddl_file), has_offscreen_renderer=False, use_camera_obs=False)
    env.reset()
    return env


def _write_model(xml: str, out: Path) -> None:
    """Writes the MJCF with its files copied beside it under names made from their content."""
    tree = ElementTree.fromstring(xml)
    compiler = tree.find("compiler")
    if compiler is not None:
        for attribute in ("meshdir", "texturedir", "assetdir"):
            compiler.attrib.pop(attribute, None)
    (out / "assets").mkdir()
    for element in tree.iter():
        if "file" in element.attrib:
            source = Path(element.attrib["file"])
            digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
            name = f"assets/{source.stem}-{digest}{source.suffix}"
            if not (out / name).exists():
                shutil.copyfile(source, out / name)
            element.attrib["file"] = name
    (out / "scene.xml").write_text(ElementTree.tostring(tree, encoding="unicode"))


def _description(env: Any, task: Task) -> dict[str, Any]:
    """Names and constants that the runtime needs and the MJCF does not say."""
    robot, problem = env.robots[0], env.env
    controller = robot.controller
    return {
        "task": task.id,
        "goal": [list(atom) for atom in problem.parsed_problem["goal_state"]],
        "objects": [
            {"name": name, "body": body.root_body, "joint": body.joints[-1] if body.joints else None}
            for name, body in problem.objects_dict.items()
        ],
        "sites": {
            name: {
                "size": [float(x) for x in np.ravel(site.size)],
                "parent": getattr(site, "parent_name", None),
            }
            for name, site in problem.object_sites_dict.items()
        },
        "robot": {
            "arm_joints": list(robot.robot_joints),
            "finger_joints": list(robot.gripper_joints),
            "arm_actuators": list(robot.robot_model.actuators),
            "finger_actuators": list(robot.gripper.actuators),
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


def _sample_placements(env: Any, count: int, seed: int) -> np.ndarray:
    """Initial states drawn as the benchmark draws them: `[count, D]`, not settled."""
    np.random.seed(seed)
    problem, sim, robot = env.env, env.sim, env.robots[0]
    rows = []
    for _ in range(count):
        sim.reset()
        noise = np.random.randn(len(robot.robot_model.init_qpos)) * JOINT_NOISE
        sim.data.qpos[robot._ref_joint_pos_indexes] = robot.robot_model.init_qpos + noise
        sim.data.qpos[robot._ref_gripper_joint_pos_indexes] = robot.gripper.init_qpos
        placed = problem.placement_initializer.sample()
        placed = problem.conditional_placement_initializer.sample(sim, placed)
        placed = problem.conditional_placement_on_objects_initializer.sample(placed)
        for position, quaternion, body in placed.values():
            if body.name not in problem.fixtures_dict:
                sim.data.set_joint_qpos(body.joints[-1], np.concatenate([position, quaternion]))
        rows.append(np.concatenate([[0.0], sim.data.qpos, sim.data.qvel]))
    return np.stack(rows)


if __name__ == "__main__":
    main()
