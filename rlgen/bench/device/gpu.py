"""Parts on LIBERO's world and images on the GPU, by scene and number of worlds."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlgen.bench.device.record import Put, Setup
from rlgen.bench.device.world import TASK, scene_of
from rlgen.bench.timing import seconds_of
from rlgen.libero.scenes.scene import Scene
from rlgen.libero.warp.models import reset_states
from rlgen.libero.warp.render import RayTracer
from rlgen.libero.warp.world import WarpWorld, WorldState

TASKS = ("libero_object/0", "libero_spatial/0", "libero_goal/0", "libero_10/0", "libero_90/0")
WORLDS, DRAWN = (1024, 4096), (256, 1024)
# Control steps of a timed block, physics steps of one, and blocks.
STEPS, PHYSICS_STEPS, BLOCKS = 20, 500, 3
# Degrees of freedom awake at once: arm, fingers and two objects.
AWAKE = 21
IMAGE_SIZE = 128


def control_steps(put: Put, setup: Setup, *, sleep: bool) -> None:
    """Measures control steps per second with the controller, from settled states, by random actions.

    Args:
      put: receives a figure for each scene and number of worlds, most important first.
      setup: of the run.
      sleep: let resting objects sleep, with `AWAKE` degrees of freedom for the solver.
    """
    steps = 1 if setup.dry_run else STEPS
    for task, scene, worlds in _cases(setup, WORLDS):
        world = WarpWorld(scene, worlds, sleep=sleep, awake=AWAKE if sleep else None)
        actions = jax.random.uniform(jax.random.key(0), (steps, worlds, 7), minval=-0.5, maxval=0.5)

        def block(state: WorldState, world: WarpWorld = world, actions: jax.Array = actions) -> tuple[WorldState, Any]:
            def control_step(state: WorldState, action: jax.Array) -> tuple[WorldState, jax.Array]:
                state, step = world.step(state, action)
                return state, step.failed

            return jax.lax.scan(control_step, state, actions)

        figure, (_, failed) = _timed(block, _start(world, scene), setup)
        put(f"{task}, {worlds} worlds", _per_second(figure, steps * worlds) | {"failed": int(failed.any(0).sum())})


def physics_steps(put: Put, setup: Setup) -> None:
    """Measures physics steps of 2 ms per second without a controller, in control steps' worth of them.

    Args:
      put: receives a figure for each scene and number of worlds.
      setup: of the run.
    """
    steps = 5 if setup.dry_run else PHYSICS_STEPS
    for task, scene, worlds in _cases(setup, WORLDS):
        world = WarpWorld(scene, worlds)

        def block(state: WorldState, world: WarpWorld = world) -> Any:
            return jax.lax.fori_loop(0, steps, lambda _, data: world.physics_step(data), state.data)

        figure, _ = _timed(block, _start(world, scene), setup)
        put(f"{task}, {worlds} worlds", _per_second(figure, steps * worlds / world.constants.controller.substeps))


def images(put: Put, setup: Setup) -> None:
    """Measures images of both cameras per second, with textures.

    Args:
      put: receives a figure for each scene and number of worlds.
      setup: of the run.
    """
    size = 32 if setup.dry_run else IMAGE_SIZE
    for task, scene, worlds in _cases(setup, DRAWN):
        tracer = RayTracer(scene, worlds, image_size=size)
        states = _rows(scene, worlds)
        qpos = jnp.asarray(states[:, 1 : 1 + scene.model.nq], jnp.float32)
        figure, drawn = _timed(tracer.draw, qpos, setup)
        put(f"{task}, {worlds} worlds", _per_second(figure, worlds * drawn.shape[1]) | {"image_size": size})


def _cases(setup: Setup, worlds: tuple[int, ...]) -> Iterator[tuple[str, Scene, int]]:
    """Yields tasks, scenes and numbers of worlds: every scene before the next number."""
    tasks, counts = ((TASK,), (2,)) if setup.dry_run else (TASKS, worlds)
    scenes = {task: scene_of(task, setup) for task in tasks}
    for count in counts:
        for task, scene in scenes.items():
            yield task, scene, count


def _rows(scene: Scene, worlds: int) -> np.ndarray:
    """Returns settled training states, as many as there are worlds."""
    states = reset_states(scene).train
    return states[np.arange(worlds) % len(states)]


def _start(world: WarpWorld, scene: Scene) -> WorldState:
    return jax.jit(world.reset)(jnp.asarray(_rows(scene, world.worlds), jnp.float32))[0]


def _timed(work: Callable[[Any], Any], start: Any, setup: Setup) -> tuple[dict[str, float], Any]:
    """Returns seconds of a function of arrays, those of its first call, and its result."""
    compiled, start_s = jax.jit(work), time.perf_counter()
    result = jax.block_until_ready(compiled(start))
    first = time.perf_counter() - start_s
    return seconds_of(lambda: compiled(start), 1 if setup.dry_run else BLOCKS) | {"first_call_s": first}, result


def _per_second(figure: dict[str, float], units: float) -> dict[str, float]:
    rate = {"per_second": "seconds", "high": "low", "low": "high"}
    return {name: units / figure[of] for name, of in rate.items()} | {"first_call_s": figure["first_call_s"]}
