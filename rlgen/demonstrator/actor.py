"""The demonstrator as an actor."""

from collections.abc import Generator

import numpy as np
from jaxtyping import Float, Int

from rlgen.demonstrator.motion import Motor, Move
from rlgen.demonstrator.places import Places
from rlgen.demonstrator.reach import Reach
from rlgen.demonstrator.script import perform
from rlgen.demonstrator.sight import Sight
from rlgen.demonstrator.skills import Workplace
from rlgen.demonstrator.style import Style, draw_style
from rlgen.demonstrator.terrain import Terrain
from rlgen.libero.scene import Scene
from rlgen.types import Observation


class Demonstrator:
    """An actor that performs a task by scripted skills; chunk of one step.

    Everything an episode does depends on its seed and its physics states alone.

    Attributes:
      scene: the task.

    Args:
      scene: the task.
      clean: straight and steady instead of human-like.
    """

    chunk = 1

    def __init__(self, scene: Scene, *, clean: bool = False):
        self.scene = scene
        self._clean = clean
        self._sight = Sight(scene)
        self._reach, self._terrain = Reach(self._sight), Terrain(self._sight)
        self._places = Places(self._sight, self._terrain)
        self._rows: list[tuple[Motor, Generator[Move, None, None]]] = []

    def begin(self, seeds: Int[np.ndarray, " N"]) -> None:
        """Draws a style for every row from its seed."""
        self._rows = [self._performer(np.random.default_rng(int(seed))) for seed in seeds]

    def __call__(self, observation: Observation) -> Float[np.ndarray, "N 1 7"]:
        """One action a row."""
        actions = []
        rows = zip(self._rows, observation.physics, observation.step, strict=True)
        for (motor, moves), physics, step in rows:
            self._sight.update(physics, int(step))
            actions.append(motor.action(next(moves), self._sight.hand))
        return np.stack(actions)[:, None]

    def _performer(self, random: np.random.Generator) -> tuple[Motor, Generator[Move, None, None]]:
        style = Style() if self._clean else draw_style(random)
        work = Workplace(self._sight, self._reach, self._terrain, self._places, style, random)
        return Motor(style, random), perform(work)
