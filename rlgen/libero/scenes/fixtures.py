"""Fixtures: cabinets, stoves and racks, which the benchmark places anew at every reset by writing into the model.

They have no joint to the table, so that initial states do not say where they stand. A scene bundle holds one draw
(`fixed`); the benchmark's own environment, and so every evaluation by the public protocol, draws at each reset
(`redraw`), in all tasks from a square of two centimetres. `libero_object` has no fixtures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import mujoco
import numpy as np
from jaxtyping import Float

from rlgen.core.types import FixturePoses

Fixtures = Literal["fixed", "redraw"]
NOT_MOVED: Mapping[int, Float[np.ndarray, "7"]] = MappingProxyType({})


@dataclass(frozen=True)
class FixtureSampler:
    """The benchmark's sampler of one fixture's pose.

    Attributes:
      body: name of the fixture's body, which hangs on the world.
      origin: what the ranges are relative to, and the height; metres.
      ranges: rectangles (low x, high x, low y, high y), of which one is chosen; metres.
      yaw: range of the turn about the vertical, radians.
    """

    body: str
    origin: tuple[float, float, float]
    ranges: tuple[tuple[float, float, float, float], ...]
    yaw: tuple[float, float]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "FixtureSampler":
        """Returns the sampler that a scene bundle describes."""
        ranges = tuple(tuple(row) for row in value["ranges"])
        return cls(value["body"], tuple(value["origin"]), ranges, tuple(value["yaw"]))

    def draw(self, random: np.random.RandomState) -> Float[np.ndarray, "7"]:
        """Draws a pose: the same numbers in the same order as the benchmark's `MultiRegionRandomSampler`."""
        low_x, high_x, low_y, high_y = self.ranges[random.randint(len(self.ranges))]
        x = random.uniform(low_x, high_x) + self.origin[0]
        y = random.uniform(low_y, high_y) + self.origin[1]
        yaw = random.uniform(*self.yaw)
        return np.array([x, y, self.origin[2], np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)])


def draw_fixtures(samplers: Sequence[FixtureSampler], seed: int) -> FixturePoses | None:
    """Draws a pose of every fixture, one sampler after the other.

    Args:
      samplers: of a scene.
      seed: of the draw; the benchmark's samplers give the same bits after `numpy.random.seed(seed)`.

    Returns:
      The poses; None for a scene without fixtures.
    """
    random = np.random.RandomState(seed)
    return np.stack([sampler.draw(random) for sampler in samplers]) if samplers else None


def move_bodies(model: mujoco.MjModel, data: mujoco.MjData, poses: Mapping[int, Float[np.ndarray, "7"]]) -> None:
    """Moves the geoms of bodies that hang on the world to where they are if these bodies have other poses.

    For renderers: their models are too large to be copied for every draw of the fixtures, and are shared by threads.
    Must be called after kinematics.

    Args:
      model: of `data`, not changed.
      data: positions and rotations of its geoms are changed.
      poses: position and quaternion (w, x, y, z) by body.
    """
    roots = model.body_rootid[model.geom_bodyid]
    for body, pose in poses.items():
        geoms, rotation = np.flatnonzero(roots == body), np.empty(9)
        mujoco.mju_quat2Mat(rotation, pose[3:])
        turn = rotation.reshape(3, 3) @ data.xmat[body].reshape(3, 3).T
        data.geom_xpos[geoms] = pose[:3] + (data.geom_xpos[geoms] - data.xpos[body]) @ turn.T
        data.geom_xmat[geoms] = (turn @ data.geom_xmat[geoms].reshape(-1, 3, 3)).reshape(-1, 9)
