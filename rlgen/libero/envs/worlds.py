"""The choice of a vector environment: on threads of the CPU, or on an accelerator."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from rlgen.core.errors import UserError
from rlgen.libero.envs.vector_env import VectorEnv
from rlgen.libero.scenes.scene import Scene

if TYPE_CHECKING:
    from rlgen.libero.warp.vector_env import WarpVectorEnv

# Physics of `VectorEnv`, or MuJoCo Warp's.
World = Literal["exact", "fast", "warp"]


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
