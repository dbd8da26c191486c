"""What a policy is shown of an environment: its vector, or pictures drawn from its physics."""

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Int

from rlgen.core.types import Observation
from rlgen.libero.rendering.software import SoftwareRenderer
from rlgen.libero.rendering.triangles import read_triangles
from rlgen.libero.scenes.scene import Scene
from rlgen.policies.base import Observed, Sight
from rlgen.policies.network import NetworkPolicy

Observe = Callable[[Observation], Observed]


def observe_vector(observation: Observation) -> Observed:
    """The vector."""
    return observation.vector


class ImageObserver:
    """Draws both cameras by the fast view, in threads; one thread has a view of a scene at a time."""

    def __init__(self, scenes: Sequence[Scene], size: int, *, threads: int = 2):
        """Makes the views.

        Args:
          scenes: scene of each row of the observations; equal ones share their views.
          size: height and width, pixels.
          threads: of drawing.
        """
        self._scenes, self._threads = tuple(scenes), ThreadPoolExecutor(threads)
        self._views: dict[int, queue.SimpleQueue[SoftwareRenderer]] = {}
        for scene in {id(scene): scene for scene in scenes}.values():
            views, triangles = queue.SimpleQueue(), read_triangles(scene.visual_model)
            for _ in range(threads):
                views.put(SoftwareRenderer(scene.visual_model, size=size, triangles=triangles))
            self._views[id(scene)] = views

    def __call__(self, observation: Observation) -> Sight:
        """Pictures and vector of every row."""
        rows = np.arange(len(observation.vector))
        return Sight(images=self._draw(observation, rows), vector=full_vector(observation))

    def again(self, seen: Sight, observation: Observation, rows: Int[np.ndarray, " M"]) -> Sight:
        """What was seen, drawn anew in some rows."""
        images = seen.images
        if len(rows):
            images = images.copy()
            images[rows] = self._draw(observation, rows)
        return Sight(images=images, vector=full_vector(observation))

    def close(self) -> None:
        """Ends the threads."""
        self._threads.shutdown()

    def _draw(self, observation: Observation, rows: Int[np.ndarray, " M"]) -> np.ndarray:
        return np.stack(list(self._threads.map(lambda row: self._draw_one(row, observation.physics[row]), rows)))

    def _draw_one(self, row: int, physics: np.ndarray) -> np.ndarray:
        scene = self._scenes[row % len(self._scenes)]
        views = self._views[id(scene)]
        view = views.get()
        try:
            return view.draw(physics[1 : 1 + scene.model.nq])
        finally:
            views.put(view)


def full_vector(observation: Observation) -> np.ndarray:
    """The robot's own state, then the physics vector: `[N, P + O]`."""
    return np.concatenate([observation.robot.vla_state, observation.vector], axis=-1).astype(np.float32)


def make_observe(policy: NetworkPolicy, scenes: Sequence[Scene], *, threads: int = 2) -> Observe:
    """What a policy is to be shown in these scenes."""
    if policy.eyes is None:
        return observe_vector
    return ImageObserver(scenes, policy.eyes.size, threads=threads)
