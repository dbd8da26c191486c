"""The VLA as an actor in a pool: it sees pictures, the robot's own state and the instruction."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
from jaxtyping import Float, Int, UInt8

from rlgen.libero.camera import FastView, read_triangles
from rlgen.libero.scene import Scene
from rlgen.types import Observation
from rlgen.vla.actor import VlaActor

Draw = Callable[[Float[np.ndarray, " D"]], UInt8[np.ndarray, "cameras h w 3"]]


def fast_views(scene: Scene, size: int, threads: int) -> list[Draw]:
    """Functions from a physics state to the fast view's pictures of `size` pixels a side, one a thread."""
    nq, model = scene.model.nq, scene.visual_model
    triangles = read_triangles(model)
    views = [FastView(model, size=size, triangles=triangles) for _ in range(threads)]
    return [lambda state, view=view: view.draw(state[1 : 1 + nq]) for view in views]


def draw_all(
    threads: ThreadPoolExecutor, views: list[Draw], physics: Float[np.ndarray, "N D"]
) -> UInt8[np.ndarray, "N cameras h w 3"]:
    """Pictures of every state, shared over the views."""
    count = len(views)
    shares = threads.map(lambda number: [views[number](state) for state in physics[number::count]], range(count))
    pictures: list = [None] * len(physics)
    for number, share in enumerate(shares):
        pictures[number::count] = share
    return np.stack(pictures)


class PoolVlaActor:
    """Draws a picture of each environment where the model looks, and asks the model.

    Args:
      actor: the model.
      prompt: the instruction.
      views: functions from a physics state to its pictures, one a thread.
    """

    def __init__(self, actor: VlaActor, prompt: str, views: list[Draw]):
        self._actor, self._prompt, self._views = actor, prompt, views
        self._threads = ThreadPoolExecutor(len(views))
        self._seed = self._looks = 0

    @property
    def chunk(self) -> int:
        return self._actor.chunk

    def begin(self, seeds: Int[np.ndarray, " N"]) -> None:
        self._seed, self._looks = int(seeds[0]) & 0xFFFFFFFF, 0

    def __call__(self, observation: Observation) -> Float[np.ndarray, "N H 7"]:
        key = jax.random.fold_in(jax.random.PRNGKey(self._seed), self._looks)
        self._looks += 1
        pictures = draw_all(self._threads, self._views, observation.physics)
        return self._actor(observation, pictures, self._prompt, key)
