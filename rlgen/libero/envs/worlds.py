"""The choice of a world: on threads of the CPU, or on an accelerator."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal

from rlgen.core.errors import UserError
from rlgen.libero.envs.image_observer import Observe, make_observe, observe_vector
from rlgen.libero.envs.vector_env import VectorEnv
from rlgen.libero.rendering.renderer import RendererName
from rlgen.libero.scenes.scene import Scene

if TYPE_CHECKING:
    from rlgen.libero.warp.vector_env import WarpVectorEnv
    from rlgen.libero.warp.world import WarpWorld

# Physics of `VectorEnv`, or MuJoCo Warp's.
World = Literal["exact", "fast", "warp"]
# Of training, as `ppo.world` names them.
TrainingWorld = Literal["cpu", "warp"]


def make_vector_env(
    scenes: Sequence[Scene], world: World = "fast", *, threads: int = 2, horizon: int | None = None
) -> "VectorEnv | WarpVectorEnv":
    """Makes a vector environment.

    Args:
      scenes: scene of each environment; of one task for `warp`.
      world: `exact` or `fast` physics on the CPU, or `warp`, on a GPU where there is one.
      threads: threads that step environments on the CPU.
      horizon: control steps of an episode; each task's own by default.

    Returns:
      A `VectorEnv`, or a `WarpVectorEnv`, which has what rollouts call.

    Raises:
      UserError: an unknown world, or MuJoCo Warp is not installed.
    """
    if world == "warp":
        # Optional, and heavy.
        from rlgen.libero.warp.vector_env import WarpVectorEnv

        return WarpVectorEnv(scenes, horizon=horizon)
    if world not in ("exact", "fast"):
        raise UserError(f"unknown world {world!r}, expected exact, fast or warp")
    return VectorEnv(scenes, threads=threads, physics=world, horizon=horizon)


def make_training_world(
    scene: Scene,
    count: int,
    world: TrainingWorld,
    image_size: int | None,
    *,
    renderer: RendererName,
    threads: int,
    pool: ThreadPoolExecutor | None = None,
) -> "tuple[VectorEnv | WarpWorld, Observe]":
    """Makes the world of PPO and the function that makes a policy's observations there, as `rl.ppo.iterate` takes them.

    Args:
      scene: of every environment.
      count: of environments.
      world: `cpu` has `fast` physics; `warp` is for compiled programs, on a GPU where there is one.
      image_size: width and height of the policy's images, pixels; None for a policy on vectors.
      renderer: of images where the world is on the CPU; the other one has the ray tracer alone.
      threads: that step environments and render on the CPU.
      pool: steps environments there in place of threads of their own; it is left open.

    Raises:
      UserError: MuJoCo Warp is not installed.
    """
    if world == "cpu":
        env = VectorEnv([scene] * count, threads=threads if pool is None else pool)
        return env, make_observe(env.scenes, image_size, threads=threads, renderer=renderer)
    # Optional, and heavy.
    from rlgen.libero.warp.render import DeviceImages
    from rlgen.libero.warp.world import WarpWorld

    observe = observe_vector if image_size is None else DeviceImages(scene, count, image_size)
    return WarpWorld(scene, count), observe
