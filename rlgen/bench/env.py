"""`rlgen bench env`: control steps and pictures a second, the benchmark's own environment beside ours.

Both sides run in this process, from the same settled states with the same actions, in turns. `raw` is MuJoCo's
`mj_step` alone, 25 a control step, on the same physics model with sleeping islands and along the same motion: the
limit of this route.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from rlgen.bench.timing import Rate, Work, machine, rates
from rlgen.libero.envs.environment import SETTLE_ACTION, SETTLE_STEPS, Physics, model_for
from rlgen.libero.envs.vector_env import VectorEnv
from rlgen.libero.rendering.opengl import find_gl
from rlgen.libero.rendering.renderer import Renderer, make_renderer
from rlgen.libero.rendering.software import CAMERAS
from rlgen.libero.scenes import build
from rlgen.libero.scenes.assets import AssetSource
from rlgen.libero.scenes.bundles import load_scene
from rlgen.libero.scenes.scene import Scene
from rlgen.libero.tasks.suites import HORIZONS, find_task

WARMUP, REPETITIONS = 1, 5
STEPS = 100
LOOK_EVERY = 8
ENVIRONMENTS = 16
IMAGES = 10
SIZE = 128
VIEWS = ("fast", "benchmark")
_ENDLESS = 10**9


def run(assets: AssetSource, cache: Path, *, threads: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Everything, as JSON.

    Args:
      assets: of the objects, on both sides.
      cache: where scenes are kept.
      threads: of the machine's cores, for the comparison with one.
      tell: hears a line now and then.
    """
    gl = find_gl()
    with tempfile.TemporaryDirectory() as configuration:
        build.prepare(str(assets.path), Path(configuration), gl if gl != "none" else "disable")
        scenes = {suite: load_scene(find_task(f"{suite}/0"), assets, cache) for suite in HORIZONS}
        suites = {suite: _steps(scene, tell) for suite, scene in scenes.items()}
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
            "threads": _threads(first, threads, tell),
            "pictures": _images(first, gl, tell),
            "vision": _vision(first, gl, tell),
        }
    report["spread"] = {suite: {k: v.to_json() for k, v in values.items()} for suite, values in suites.items()}
    return report


def _medians(values: dict[str, Rate]) -> dict[str, float]:
    return {name: rate.median for name, rate in values.items()}


def _means(suites: dict[str, dict[str, Rate]]) -> dict[str, float]:
    """Ratios of the suites' medians, averaged."""

    def mean(above: str, below: str) -> float:
        return float(np.mean([values[above].median / values[below].median for values in suites.values()]))

    return {
        "exact_x": mean("exact", "official"),
        "fast_x": mean("fast", "official"),
        "fast_of_raw": mean("fast", "raw"),
    }


def _actions(scene: Scene, count: int = STEPS) -> np.ndarray:
    """Smooth random motion, `[count, 7]`."""
    random = np.random.default_rng(scene.task.index)
    steps = random.normal(0, 0.3, (count, 7))
    smooth = np.stack([np.convolve(column, np.full(8, 0.35), mode="same") for column in steps.T], axis=1)
    return np.clip(smooth, -1, 1)


def _steps(scene: Scene, tell: Callable[[str], None]) -> dict[str, Rate]:
    """Control steps a second of one thread."""
    with _benchmark(scene) as env:
        works = {
            "official": _official(env, scene),
            "exact": _ours(scene, "exact"),
            "fast": _ours(scene, "fast"),
            "raw": _raw(scene),
        }
        return _rates(works, tell, scene.task.suite)


def _rates(works: dict[str, Work], tell: Callable[[str], None], what: str) -> dict[str, Rate]:
    out = rates(works, warmup=WARMUP, repetitions=REPETITIONS)
    tell(f"{what}: " + ", ".join(f"{name} {rate.median:.1f}/s" for name, rate in out.items()))
    return out


@contextmanager
def _benchmark(scene: Scene, *, images: bool = False) -> Iterator[Any]:
    """The benchmark's environment, closed in the end: it would complain about its GL context otherwise."""
    env = build.official_environment(scene.task, images=images)
    try:
        yield env
    finally:
        env.close()


def _official(env: Any, scene: Scene, *, steps: int = STEPS) -> Work:
    def begin() -> None:
        env.env.timestep, env.env.done = 0, False
        env.set_init_state(scene.stored_states[0])
        for _ in range(SETTLE_STEPS):
            env.step(SETTLE_ACTION)

    def run() -> int:
        for action in _actions(scene, steps):
            env.step(action)
        return steps

    return Work(begin, run)


def _ours(scene: Scene, mode: Physics, *, environments: int = 1, threads: int = 1) -> Work:
    pool = VectorEnv([scene] * environments, threads=threads, physics=mode, horizon=_ENDLESS)
    chunks = np.tile(_actions(scene), (environments, 1, 1))
    initial = np.tile(scene.stored_states[0], (environments, 1))
    return Work(lambda: pool.reset(initial), lambda: int(pool.step(chunks).control_steps.sum()))


def _raw(scene: Scene) -> Work:
    """`mj_step` along the motion of `fast`: at every control step the robot is put where it was, its torques held."""
    pool, model = VectorEnv([scene], threads=1, horizon=_ENDLESS), model_for(scene, "fast")
    data, substeps, robot = mujoco.MjData(model), scene.control.substeps, _robot(scene)
    motion: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def begin() -> None:
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

    return Work(begin, run)


def _robot(scene: Scene) -> np.ndarray:
    """Addresses of arm and fingers, in qpos and, since no joint before them has a quaternion, in qvel."""
    return np.concatenate([scene.robot.arm_qpos, scene.robot.finger_qpos])


def _motion(scene: Scene, pool: VectorEnv) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Positions and velocities of the robot before each control step of `fast`, and what holds it there."""
    robot, model = _robot(scene), scene.model
    data, now = mujoco.MjData(model), pool.reset(scene.stored_states[:1]).physics[0]
    for action in _actions(scene):
        data.qpos[:], data.qvel[:] = now[1 : 1 + model.nq], now[1 + model.nq :]
        mujoco.mj_forward(model, data)
        data.ctrl[scene.robot.arm_actuator] = data.qfrc_bias[scene.robot.arm_dof]
        data.ctrl[scene.robot.finger_actuator] = data.qpos[scene.robot.finger_qpos]
        yield data.qpos[robot], data.qvel[robot], data.ctrl.copy()
        now = pool.step(action[None, None]).observation.physics[0]


def _threads(scene: Scene, threads: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Many environments on one thread, on two, and on all cores."""
    counts = sorted({1, 2, threads})
    works = {str(n): _ours(scene, "fast", environments=ENVIRONMENTS, threads=n) for n in counts}
    out = _rates(works, tell, f"{ENVIRONMENTS} environments by threads")
    medians = _medians(out)
    return {"environments": ENVIRONMENTS, "per_second": medians, "two_over_one": medians["2"] / medians["1"]}


def _images(scene: Scene, gl: str, tell: Callable[[str], None]) -> dict[str, Any]:
    """Pictures a second of one thread: the benchmark's renderer, and our views."""
    states = scene.stored_states[:IMAGES, 1 : 1 + scene.model.nq]
    views = {
        name: make_renderer(name, scene.visual_model, image_size=SIZE)
        for name in (VIEWS if gl != "none" else VIEWS[:1])
    }
    works = {name: Work(_nothing, lambda view=view: _draw(view, states)) for name, view in views.items()}
    with _benchmark(scene, images=gl != "none") as env:
        if gl != "none":
            works["official"] = Work(_nothing, lambda: _draw_official(env, scene))
        medians = _medians(_rates(works, tell, "pictures"))
    official = medians.get("official")
    out: dict[str, Any] = {
        name: {"per_second": rate, "x": rate / official if official else None} for name, rate in medians.items()
    }
    return {"size": SIZE, **out}


def _nothing() -> None:
    pass


def _draw(view: Renderer, states: np.ndarray) -> int:
    for state in states:
        view.render(state)
    return len(states) * len(CAMERAS)


def _draw_official(env: Any, scene: Scene) -> int:
    for state in scene.stored_states[:IMAGES]:
        env.set_state(state)
        env.sim.forward()
        for camera in CAMERAS:
            env.sim.render(camera_name=camera, width=SIZE, height=SIZE)
    return IMAGES * len(CAMERAS)


def _vision(scene: Scene, gl: str, tell: Callable[[str], None]) -> dict[str, Any]:
    """Control steps a second of one environment whose policy looks with two cameras every 8 steps.

    The benchmark's environment draws at every step; ours draws, with the fast view, where the policy looks.
    """
    steps = 3 * LOOK_EVERY
    pool, view = (
        VectorEnv([scene], threads=1, horizon=_ENDLESS),
        make_renderer("fast", scene.visual_model, image_size=SIZE),
    )
    chunks = np.split(_actions(scene, steps), steps // LOOK_EVERY)

    def run() -> int:
        for chunk in chunks:
            seen = pool.step(chunk[None]).observation.physics[0]
            view.render(seen[1 : 1 + scene.model.nq])
        return steps

    works = {"ours": Work(lambda: pool.reset(scene.stored_states[:1]), run)}
    with _benchmark(scene, images=gl != "none") as env:
        if gl != "none":
            works["official"] = _official(env, scene, steps=steps)
        medians = _medians(_rates(works, tell, "looking every 8 steps"))
    official = medians.get("official")
    return {"official": official, "ours": medians["ours"], "x": medians["ours"] / official if official else None}
