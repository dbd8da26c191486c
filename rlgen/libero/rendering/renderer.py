"""The renderers of a scene behind one interface: the benchmark's own, and a fast one that needs no GL library.

A third, `warp`, draws many states at once on a GPU (`rlgen.libero.warp.render`); only `RenderPool` has it. All turn
joint positions into images in the benchmark's raw convention (robosuite's "opengl"): row 0 is the bottom of what the
camera sees, as in `agentview_image`. `rlgen.data.images` turns them into the orientation of datasets (`rotate_180`) and
of people (`flip_vertical`). `RenderPool` in `pool.py` renders many states at once.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal, Protocol

import mujoco
import numpy as np
from jaxtyping import Float, UInt8

from rlgen.core.errors import UserError
from rlgen.libero.rendering.opengl import OpenGLRenderer
from rlgen.libero.rendering.software import CAMERAS, SoftwareRenderer
from rlgen.libero.rendering.triangles import read_triangles
from rlgen.libero.scenes.fixtures import NOT_MOVED

RendererName = Literal["fast", "benchmark", "warp"]


class Renderer(Protocol):
    """A renderer of one model, for one thread at a time."""

    def render(
        self, qpos: Float[np.ndarray, " nq"], moved: Mapping[int, Float[np.ndarray, "7"]] = NOT_MOVED
    ) -> UInt8[np.ndarray, "cameras size size 3"]:
        """Returns the image of each camera, in the benchmark's raw orientation.

        Args:
          qpos: joint positions.
          moved: poses of bodies that hang on the world and stand elsewhere than in the model, as of `move_bodies`.
        """
        ...

    def close(self) -> None:
        """Frees what the renderer holds; it renders nothing afterwards."""
        ...


def make_renderer(
    name: RendererName, model: mujoco.MjModel, *, cameras: Sequence[str] = CAMERAS, image_size: int = 128
) -> Renderer:
    """Makes a renderer by name.

    Args:
      name: `fast` (`SoftwareRenderer`) or `benchmark` (`OpenGLRenderer`).
      model: the scene's visual model.
      cameras: names, in the order of the images.
      image_size: width and height, pixels.

    Raises:
      UserError: for an unknown name, `warp`, or without a GL library for `benchmark`.
    """
    return renderer_factory(name, model, cameras=cameras, image_size=image_size)()


def renderer_factory(
    name: RendererName, model: mujoco.MjModel, *, cameras: Sequence[str] = CAMERAS, image_size: int = 128
) -> Callable[[], Renderer]:
    """Returns a function that makes equal renderers of one model; what these can share is computed once, here.

    Args:
      name: `fast` or `benchmark`.
      model: the scene's visual model.
      cameras: names, in the order of the images.
      image_size: width and height, pixels.

    Raises:
      UserError: for an unknown name, or `warp`.
    """
    if name == "fast":
        triangles = read_triangles(model)
        return partial(SoftwareRenderer, model, cameras=cameras, image_size=image_size, triangles=triangles)
    if name == "benchmark":
        return partial(OpenGLRenderer, model, cameras=cameras, image_size=image_size)
    if name == "warp":
        raise UserError("renderer warp draws many states at once, expected fast or benchmark here; use RenderPool")
    raise UserError(f"unknown renderer {name!r}: expected fast, benchmark or warp")
