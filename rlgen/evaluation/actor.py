"""Environments of one task as a policy's clients: pictures drawn, only those asked for that still go on."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float, Int, UInt8

from rlgen.errors import UserError
from rlgen.evaluation.asking import Asked
from rlgen.libero.camera import View, ViewName, make_view
from rlgen.libero.scene import Scene
from rlgen.types import Observation
from rlgen.vla.actor import legal_actions, robot_sample


class Drawer:
    """Pictures of a scene's states by several threads, each with a view that it made itself."""

    def __init__(self, scene: Scene, view: ViewName, size: int, threads: int):
        self._nq = scene.model.nq
        self._threads = [ThreadPoolExecutor(1) for _ in range(threads)]
        made = [thread.submit(make_view, view, scene.visual_model, size=size) for thread in self._threads]
        self._views: list[View] = [view.result() for view in made]

    def __call__(self, physics: Float[np.ndarray, "N D"]) -> UInt8[np.ndarray, "N cameras h w 3"]:
        count, out = len(self._views), [None] * len(physics)

        def share(number: int) -> list[np.ndarray]:
            return [self._views[number].draw(state[1 : 1 + self._nq]) for state in physics[number::count]]

        shares = [thread.submit(share, number) for number, thread in enumerate(self._threads)]
        for number, pictures in enumerate(shares):
            out[number::count] = pictures.result()
        return np.stack(out)

    def close(self) -> None:
        """Ends the threads."""
        for thread in self._threads:
            thread.shutdown()


class EvaluationActor:
    """An actor in a pool of one task's environments.

    Args:
      asked: the policy.
      prompt: the instruction.
      draw: pictures of states, upside down as the benchmark draws them.
      replan: actions to execute before asking again.
    """

    def __init__(self, asked: Asked, prompt: str, draw: Drawer, replan: int):
        self._asked, self._prompt, self._draw, self._replan = asked, prompt, draw, replan
        self._seeds: list[int] = []
        self._steps: np.ndarray | None = None
        self._looks = 0

    @property
    def chunk(self) -> int:
        """Actions between two looks."""
        return self._replan

    def begin(self, seeds: Int[np.ndarray, " N"]) -> None:
        """New episodes in all rows."""
        self._seeds, self._steps, self._looks = [int(seed) for seed in seeds], None, 0

    def __call__(self, observation: Observation) -> Float[np.ndarray, "N H 7"]:
        """Actions of the rows that have moved on since the last look; zeros for those that are over."""
        rows = np.arange(len(observation.step))
        if self._steps is not None:
            rows = np.flatnonzero(observation.step != self._steps)
        self._steps = np.array(observation.step)
        out = np.zeros((len(observation.step), self._replan, 7), np.float32)
        if len(rows):
            samples = self._samples(observation, rows)
            actions = self._asked(samples, [self._seed(row) for row in rows])
            if actions.shape[1] < self._replan:
                raise UserError(f"{self._asked.name} answers {actions.shape[1]} actions, --replan is {self._replan}")
            out[rows] = legal_actions(actions[:, : self._replan])
        self._looks += 1
        return out

    def _samples(self, observation: Observation, rows: Int[np.ndarray, " M"]) -> Sequence[dict]:
        pictures, states = self._draw(observation.physics[rows]), observation.robot.vla_state[rows]
        return [robot_sample(state, each, self._prompt) for state, each in zip(states, pictures, strict=True)]

    def _seed(self, row: int) -> int:
        """Of an episode's noise at this look, whatever else is asked for."""
        return int(np.random.SeedSequence((self._seeds[row], self._looks)).generate_state(1)[0])
