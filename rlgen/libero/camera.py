"""Pictures of a scene: the benchmark's own, and a fast view that needs no GL library.

Both views turn joint positions into pictures in the benchmark's raw convention (robosuite's "opengl"): row 0
is the bottom of what the camera sees, as in `agentview_image`. Datasets hold pictures rotated by half a turn
(`to_dataset`): upright, and mirrored left to right. `to_upright` is for people.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

import mujoco
import numpy as np
from jaxtyping import Float, UInt8

from rlgen.errors import UserError
from rlgen.libero.view_fast import CAMERAS, FastView
from rlgen.libero.view_gl import BenchmarkView, Gl, find_gl
from rlgen.libero.view_scene import Triangles, read_triangles

__all__ = [
    "CAMERAS",
    "BenchmarkView",
    "FastView",
    "Gl",
    "Triangles",
    "View",
    "ViewName",
    "find_gl",
    "make_view",
    "read_triangles",
    "to_dataset",
    "to_upright",
]

ViewName = Literal["fast", "benchmark"]


class View(Protocol):
    """Draws one model."""

    def draw(self, qpos: Float[np.ndarray, " nq"]) -> UInt8[np.ndarray, "cameras size size 3"]:
        """Pictures at joint positions `qpos`, in the benchmark's raw orientation."""
        ...


def make_view(name: ViewName, model: mujoco.MjModel, *, cameras: Sequence[str] = CAMERAS, size: int = 128) -> View:
    """Makes a view by name.

    Raises:
      UserError: for an unknown name, or without a GL library for `benchmark`.
    """
    if name == "fast":
        return FastView(model, cameras=cameras, size=size)
    if name == "benchmark":
        return BenchmarkView(model, cameras=cameras, size=size)
    raise UserError(f"unknown view {name!r}: expected fast or benchmark")


def to_dataset(pictures: UInt8[np.ndarray, "*n h w 3"]) -> UInt8[np.ndarray, "*n h w 3"]:
    """Rotates raw pictures by 180 degrees, as the LIBERO community's datasets and evaluations do."""
    return np.ascontiguousarray(pictures[..., ::-1, ::-1, :])


def to_upright(pictures: UInt8[np.ndarray, "*n h w 3"]) -> UInt8[np.ndarray, "*n h w 3"]:
    """Turns raw pictures into what a person beside the camera would see: top row first, not mirrored."""
    return np.ascontiguousarray(pictures[..., ::-1, :, :])
