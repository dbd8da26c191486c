"""`rlgen bench env`: control steps and images per second, compared with the benchmark's own environment.

Both sides run in this process, from the same settled states with the same actions, in turns. `official` is the
benchmark's environment; `exact` and `fast` are the two modes of ours. `raw` is MuJoCo's `mj_step` alone, 25 for each
control step, on the physics model of `fast` and along the same motion: the upper limit for any environment on MuJoCo.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from jaxtyping import Float

from rlgen.bench.timing import Rate, TimedWork, machine, rates
from rlgen.libero.envs.environment import SETTLE_ACTION, SETTLE_STEPS, Physics, model_for
from rlgen.libero.envs.vector_env import VectorEnv
from rlgen.libero.rendering.opengl import find_gl
from rlgen.libero.rendering.renderer import Renderer, RendererName, make_renderer
from rlgen.libero.rendering.software import CAMERAS
from rlgen.libero.scenes import build
from rlgen.libero.scenes.assets import AssetSource
from rlgen.libero.scenes.bundles import load_scene
from rlgen.libero.scenes.scene import Scene
from rlgen.libero.tasks.suites import HORIZONS, find_task

WARMUP, REPETITIONS = 1, 5
STEPS = 100
CHUNK = 8  # control steps between two observations of images
ENVIRONMENTS = 16
IMAGES = 10  # states that are rendered
IMAGE_SIZE = 128  # pixels
RENDERERS: tuple[RendererName, ...] = ("fast", "benchmark")
_NO_HORIZON = 10**9

Log = Callable[[str], None]


def run(assets: AssetSource, cache: Path, *, threads: int, log: Log) -> dict[str, Any]:
    """Runs all comparisons, and returns the report as JSON values.

    Args:
      assets: object models of both sides.
      cache: folder of scenes.
      threads: most threads of the comparison of thread counts.
      log: called with a line after each comparison.
    """
    gl = find_gl()
    with tempfile.TemporaryDirectory() as configuration:
        build.prepare(str(assets.path), Path(configuration), gl if gl != "none" else "disable")
        scenes = {suite: load_scene(find_task(f"{suite}/0"), assets, cache) for suite in HORIZONS}
        suites = {suite: _steps(scene, log) for suite, scene in scenes.items()}
        first = next(iter(scenes.values()))
        report = {
            "machine": machine(),
            "assets": assets.label,
            "gl": gl,
            "warmup": WARMUP,
            "repetitions": REPETITIONS,
            "tasks": {suite: scene.task.id for suite, scene in scenes.items()},
            "suites": {suite: _medians(values) for suite, values in suites.items()},
            "mean": _means(suites),
            "threads": _threads(first, threads, log),
            "pictures": _images(first, gl, log),
            "vision": _vision(first, gl, log),
        }
    report["spread"] = {suite: {k: v.to_json() for k, v in values.items()} for suite, values in suites.items()}
    return report


def _medians(values: dict[str, Rate]) -> dict[str, float]:
    return {name: rate.median for name, rate in values.items()}


def _means(suites: dict[str, dict[str, Rate]]) -> dict[str, float]:
    """Returns ratios of medians, averaged over suites."""

    def mean(numerator: str, denominator: str) -> float:
        return float(np.mean([values[numerator].median / values[denominator].median for values in suites.values()]))

    return {
        "exact_x": mean("exact", "official"),
        "fast_x": mean("fast", "official"),
        "fast_of_raw": mean("fast", "raw"),
    }


def _actions(scene: Scene, count: int = STEPS) -> Float[np.ndarray, "T 7"]:
    """Returns the actions of a smooth random motion."""
    random = np.random.default_rng(scene.task.index)
    steps = random.normal(0, 0.3, (count, 7))
    smooth = np.stack([np.convolve(column, np.full(8, 0.35), mode="same") for column in steps.T], axis=1)
    return np.clip(smooth, -1, 1)


def _steps(scene: Scene, log: Log) -> dict[str, Rate]:
    """Measures control steps per second of one thread."""
    with _benchmark(scene) as env:
        works = {
            "official": _official(env, scene),
            "exact": _ours(scene, "exact"),
            "fast": _ours(scene, "fast"),
            "raw": _raw(scene),
        }
        return _rates(works, log, scene.task.suite)


def _rates(works: dict[str, TimedWork], log: Log, title: str) -> dict[str, Rate]:
    out = rates(works, warmup=WARMUP, repetitions=REPETITIONS)
    log(f"{title}: " + ", ".join(f"{name} {rate.median:.1f}/s" for name, rate in out.items()))
    return out


@contextmanager
def _benchmark(scene: Scene, *, images: bool = False) -> Iterator[Any]:
    """Makes the benchmark's environment, and closes it, without which it complains about its GL context."""
    env = build.official_environment(scene.task, images=images)
    try:
        yield env
    finally:
        env.close()


def _official(env: Any, scene: Scene, *, steps: int = STEPS) -> TimedWork:
    def prepare() -> None:
        env.env.timestep, env.env.done = 0, False
        env.set_init_state(scene.stored_states[0])
        for _ in range(SETTLE_STEPS):
            env.step(SETTLE_ACTION)

    def run() -> int:
        for action in _actions(scene, steps):
            env.step(action)
        return steps

    return TimedWork(prepare, run)


def _ours(scene: Scene, physics: Physics, *, environments: int = 1, threads: int = 1) -> TimedWork:
    pool = VectorEnv([scene] * environments, threads=threads, physics=physics, horizon=_NO_HORIZON)
    chunks = np.tile(_actions(scene), (environments, 1, 1))
    initial = np.tile(scene.stored_states[0], (environments, 1))
    return TimedWork(lambda: pool.reset(initial), lambda: int(pool.step(chunks).control_steps.sum()))


def _raw(scene: Scene) -> TimedWork:
    """Returns `mj_step` along the motion of `fast`: the robot is set before every control step, its torques held."""
    pool, model = VectorEnv([scene], threads=1, horizon=_NO_HORIZON), model_for(scene, "fast")
    data, substeps, robot = mujoco.MjData(model), scene.control.substeps, _robot_joints(scene)
    motion: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def prepare() -> None:
        settled = pool.reset(scene.stored_states[:1]).physics[0]
        mujoco.mj_resetData(model, data)
        data.qpos[:] = settled[1 : 1 + model.nq]
        mujoco.mj_forward(model, data)
        data.ctrl[scene.robot.arm_actuator] = data.qfrc_bias[scene.robot.arm_dof]
        mujoco.mj_step(model, data, SETTLE_STEPS * substeps)
        if not motion:
            motion.extend(_motion(scene, pool))

    def run() -> int:
        for qpos, qvel, ctrl in motion:
            data.qpos[robot], data.qvel[robot], data.ctrl[:] = qpos, qvel, ctrl
            mujoco.mj_step(model, data, substeps)
        return len(motion)

    return TimedWork(prepare, run)


def _robot_joints(scene: Scene) -> np.ndarray:
    """Returns the addresses of arm and fingers in qpos and in qvel: equal, as no joint before has a quaternion."""
    return np.concatenate([scene.robot.arm_qpos, scene.robot.finger_qpos])


def _motion(scene: Scene, pool: VectorEnv) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yields the robot's positions and velocities before each control step of `fast`, and the controls that hold it."""
    robot, model = _robot_joints(scene), scene.model
    data, state = mujoco.MjData(model), pool.reset(scene.stored_states[:1]).physics[0]
    for action in _actions(scene):
        data.qpos[:], data.qvel[:] = state[1 : 1 + model.nq], state[1 + model.nq :]
        mujoco.mj_forward(model, data)
        data.ctrl[scene.robot.arm_actuator] = data.qfrc_bias[scene.robot.arm_dof]
        data.ctrl[scene.robot.finger_actuator] = data.qpos[scene.robot.finger_qpos]
        yield data.qpos[robot], data.qvel[robot], data.ctrl.copy()
        state = pool.step(action[None, None]).observation.physics[0]


def _threads(scene: Scene, threads: int, log: Log) -> dict[str, Any]:
    """Measures control steps per second of many environments on one thread, on two, and on `threads`."""
    counts = sorted({1, 2, threads})
    works = {str(n): _ours(scene, "fast", environments=ENVIRONMENTS, threads=n) for n in counts}
    out = _rates(works, log, f"{ENVIRONMENTS} environments by threads")
    medians = _medians(out)
    return {"environments": ENVIRONMENTS, "per_second": medians, "two_over_one": medians["2"] / medians["1"]}


def _images(scene: Scene, gl: str, log: Log) -> dict[str, Any]:
    """Measures images per second of one thread: the benchmark's environment, and our renderers."""
    states = scene.stored_states[:IMAGES, 1 : 1 + scene.model.nq]
    renderers = {
        name: make_renderer(name, scene.visual_model, image_size=IMAGE_SIZE)
        for name in (RENDERERS if gl != "none" else RENDERERS[:1])
    }
    works = {
        name: TimedWork(_nothing, lambda renderer=renderer: _render(renderer, states))
        for name, renderer in renderers.items()
    }
    with _benchmark(scene, images=gl != "none") as env:
        if gl != "none":
            works["official"] = TimedWork(_nothing, lambda: _render_official(env, scene))
        medians = _medians(_rates(works, log, "images"))
    official = medians.get("official")
    out: dict[str, Any] = {
        name: {"per_second": rate, "x": rate / official if official else None} for name, rate in medians.items()
    }
    return {"size": IMAGE_SIZE, **out}


def _nothing() -> None:
    pass


def _render(renderer: Renderer, states: np.ndarray) -> int:
    for state in states:
        renderer.render(state)
    return len(states) * len(CAMERAS)


def _render_official(env: Any, scene: Scene) -> int:
    for state in scene.stored_states[:IMAGES]:
        env.set_state(state)
        env.sim.forward()
        for camera in CAMERAS:
            env.sim.render(camera_name=camera, width=IMAGE_SIZE, height=IMAGE_SIZE)
    return IMAGES * len(CAMERAS)


def _vision(scene: Scene, gl: str, log: Log) -> dict[str, Any]:
    """Measures control steps per second of one environment whose policy observes two cameras every 8 steps.

    The benchmark's environment renders at every step; ours renders, with the fast renderer, when the policy observes.
    """
    steps = 3 * CHUNK
    pool = VectorEnv([scene], threads=1, horizon=_NO_HORIZON)
    renderer = make_renderer("fast", scene.visual_model, image_size=IMAGE_SIZE)
    chunks = np.split(_actions(scene, steps), steps // CHUNK)

    def run() -> int:
        for chunk in chunks:
            physics = pool.step(chunk[None]).observation.physics[0]
            renderer.render(physics[1 : 1 + scene.model.nq])
        return steps

    works = {"ours": TimedWork(lambda: pool.reset(scene.stored_states[:1]), run)}
    with _benchmark(scene, images=gl != "none") as env:
        if gl != "none":
            works["official"] = _official(env, scene, steps=steps)
        medians = _medians(_rates(works, log, "images every 8 steps"))
    official = medians.get("official")
    return {"official": official, "ours": medians["ours"], "x": medians["ours"] / official if official else None}
