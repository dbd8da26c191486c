"""Observations as policies read them: the vector alone, or images rendered from the physics state as well."""

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from rlgen.core.arrays import AnyArray
from rlgen.core.types import ImageObservation, Observation
from rlgen.libero.rendering.pool import RenderPool
from rlgen.libero.rendering.renderer import RendererName
from rlgen.libero.scenes.scene import Scene

# From an `Observation`, or what a `DeviceWorld` observes, to what a policy reads.
Observe = Callable[[Any], AnyArray | ImageObservation]


def make_observe(
    scenes: Sequence[Scene], image_size: int | None, *, threads: int = 2, renderer: RendererName = "fast"
) -> Observe:
    """Makes the function from observations of environments to what a policy reads.

    Args:
      scenes: scene of each row; a single one is that of every row.
      image_size: width and height of the images that the policy reads, pixels; None for a policy on vectors.
      threads: threads that render.
      renderer: `fast`, `benchmark` or `warp`.
    """
    if image_size is None:
        return observe_vector
    return ImageObserver(scenes, image_size, threads=threads, renderer=renderer)


def observe_vector(observation: Any) -> Float[AnyArray, "N O"]:
    """Returns the vector of an `Observation`, or of what a `DeviceWorld` observes."""
    return observation.vector


class ImageObserver:
    """Renders both cameras of each environment, and adds the vector."""

    def __init__(self, scenes: Sequence[Scene], image_size: int, *, threads: int = 2, renderer: RendererName = "fast"):
        """Starts the workers.

        Args:
          scenes: scene of each row of the observations; a single one is that of every row.
          image_size: width and height, pixels.
          threads: threads that render.
          renderer: `fast`, `benchmark` or `warp`.
        """
        self._scenes = tuple(scenes)
        self._first = 0
        self._pool = RenderPool(self._scenes, renderer, image_size=image_size, workers=threads)

    def __call__(self, observation: Observation) -> ImageObservation:
        """Returns the images and the vector of every row."""
        rows = np.arange(len(observation.vector))
        return ImageObservation(images=self._render(observation, rows), vector=vector_with_robot_state(observation))

    def observe_rows(
        self, previous: ImageObservation, observation: Observation, rows: Int[np.ndarray, " M"]
    ) -> ImageObservation:
        """Returns what a call would, with images rendered for some rows only.

        Args:
          previous: its images are taken for the other rows.
          observation: of all rows.
          rows: to render.
        """
        images = previous.images
        if len(rows):
            images = images.copy()
            images[rows] = self._render(observation, rows)
        return ImageObservation(images=images, vector=vector_with_robot_state(observation))

    def split(self, parts: int) -> list["ImageObserver"]:
        """Returns observers of equal, contiguous parts of the rows, sharing the workers; close this one alone."""
        found = []
        for index in range(parts):
            part = copy(self)
            part._first = self._first + index * len(self._scenes) // parts
            found.append(part)
        return found

    def close(self) -> None:
        """Ends the workers."""
        self._pool.close()

    def _render(self, observation: Observation, rows: Int[np.ndarray, " M"]) -> UInt8[np.ndarray, "M V h w 3"]:
        scenes = (self._first + rows) % len(self._scenes)
        return self._pool.render(observation.physics[rows], scenes, observation.fixtures_of(rows))


def vector_with_robot_state(observation: Observation) -> Float[np.ndarray, "N P+O"]:
    """Returns the robot's own state, then the vector of poses, in single precision."""
    return np.concatenate([observation.robot.vla_state, observation.vector], axis=-1).astype(np.float32)
