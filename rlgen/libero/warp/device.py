"""MuJoCo Warp and the device that it runs on; both are optional, and imported here alone.

Kernels are compiled when they are first launched, for minutes in all, and kept in the folder WARP_CACHE_PATH.
"""

from importlib.util import find_spec
from types import ModuleType
from typing import Any, NamedTuple

import mujoco

from rlgen.core.errors import UserError

# The first MuJoCo whose MJX has all that the world needs.
OLDEST = (3, 12)
VERSIONS = ("mujoco==3.17.0", "mujoco-mjx==3.17.0", "warp-lang==1.18.0")
INSTALL = f"pip install --no-deps {' '.join(VERSIONS)}"


class Libraries(NamedTuple):
    """The modules of MuJoCo Warp.

    Attributes:
      warp: Warp itself.
      mjx: MuJoCo's functions on JAX arrays.
      mujoco_warp: MuJoCo's functions on Warp arrays.
    """

    warp: ModuleType
    mjx: ModuleType
    mujoco_warp: ModuleType


def why_absent() -> str | None:
    """Returns why MuJoCo Warp cannot be used here, in a few words; None where it can."""
    if tuple(int(part) for part in mujoco.__version__.split(".")[:2]) < OLDEST:
        return f"MuJoCo is {mujoco.__version__}, expected {'.'.join(map(str, OLDEST))} or newer"
    missing = [name for name in ("warp", "mujoco.mjx") if find_spec(name) is None]
    return f"package {missing[0]} is not installed" if missing else None


def load_warp() -> Libraries:
    """Imports MuJoCo Warp.

    Raises:
      UserError: it is not installed, or MuJoCo is too old for it.
    """
    reason = why_absent()
    if reason is not None:
        raise UserError(f"MuJoCo Warp cannot be used: {reason}; `{INSTALL}` installs what it needs")
    import warp
    from mujoco import mjx
    from mujoco.mjx.third_party import mujoco_warp

    # Its machine code, unlike PTX, is also loaded by drivers older than Warp's own compiler.
    warp.config.cuda_output = "cubin"
    return Libraries(warp, mjx, mujoco_warp)


def graph_mode(warp: ModuleType, device: Any) -> int:
    """Returns how a function of Warp is captured: as a graph on staged buffers, where the device has graphs."""
    modes = warp.JaxCallableGraphMode
    return modes.WARP_STAGED if device.is_cuda else modes.NONE
