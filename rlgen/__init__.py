"""Diffusion-RL experts that write LIBERO datasets, and a flow VLA trained on them.

The names below are loaded when they are first used; `import rlgen` itself imports nothing heavy.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlgen.api import VectorEnv, load_expert, load_scene, load_vla, open_dataset

__all__ = ["VectorEnv", "load_expert", "load_scene", "load_vla", "open_dataset"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'rlgen' has no attribute {name!r}; public are {', '.join(__all__)}")
    from rlgen import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
