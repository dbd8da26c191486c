"""Rendering of many states by several workers: `RenderPool`."""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

import numpy as np
from jaxtyping import Float, Int, UInt8

from rlgen.core.errors import UserError
from rlgen.core.types import FixturePoses
from rlgen.libero.rendering.renderer import Renderer, RendererName, renderer_factory
from rlgen.libero.rendering.software import CAMERAS
from rlgen.libero.scenes.scene import Scene


class RenderPool:
    """A pool of workers that render states of one scene or of several, in the benchmark's raw orientation.

        with RenderPool(scene, image_size=128, workers=2) as pool:
            images = pool.render(scene.stored_states)  # [50, 2, 128, 128, 3]

    Equal states give equal images whatever the number of workers. A worker is a thread with renderers of its own,
    for both renderers: they hold no lock on the interpreter while they work, and a GL context belongs to the thread
    that made it. Threads share the model (up to 200 MB) and start at once, which processes do not. The renderer `warp`
    takes the states of a scene all at once, and needs no workers.
    """

    def __init__(
        self,
        scenes: Scene | Sequence[Scene],
        renderer: RendererName = "fast",
        *,
        image_size: int = 128,
        cameras: Sequence[str] = CAMERAS,
        workers: int = 1,
    ):
        """Starts the workers and makes their renderers.

        Args:
          scenes: one scene, or the scenes that `render` refers to by index; equal ones share their renderers.
          renderer: `fast`, `benchmark` or `warp`.
          image_size: width and height, pixels.
          cameras: names, in the order of the images.
          workers: threads.

        Raises:
          UserError: for an unknown renderer, no GL library for `benchmark`, no MuJoCo Warp for `warp`, or fewer
            workers than one.
        """
        if workers < 1:
            raise UserError(f"{workers} workers: expected at least 1")
        self._scenes = scenes = scenes if isinstance(scenes, Sequence) else [scenes]
        models = {id(scene): scene.visual_model for scene in scenes}
        self._nq = [models[id(scene)].nq for scene in scenes]
        self._state_size = max(1 + model.nq + model.nv for model in models.values())
        self._renderer_index = [list(models).index(id(scene)) for scene in scenes]
        self._image_shape = (len(cameras), image_size, image_size, 3)
        self._workers, self._batched = [], []
        if renderer == "warp":
            # Optional, and heavy.
            from rlgen.libero.warp.render import WarpRenderer

            first = {id(scene): scene for scene in scenes}
            self._batched = [WarpRenderer(first[key], cameras=cameras, image_size=image_size) for key in models]
            return
        factories = [
            renderer_factory(renderer, model, cameras=cameras, image_size=image_size) for model in models.values()
        ]
        self._workers = [_Worker() for _ in range(workers)]
        try:
            # One after the other, since loading a model into OpenGL changes the model's settings for a moment.
            for worker in self._workers:
                for make in factories:
                    worker.thread.submit(lambda worker=worker, make=make: worker.renderers.append(make())).result()
        except BaseException:
            self.close()
            raise

    def render(
        self,
        states: Float[np.ndarray, "N D"],
        scene_indices: Int[np.ndarray, " N"] | None = None,
        fixtures: FixturePoses | Sequence[FixturePoses | None] | None = None,
    ) -> UInt8[np.ndarray, "N cameras h w 3"]:
        """Renders every state from every camera.

        Args:
          states: time, qpos, qvel a row (D = 1 + nq + nv); with several scenes D is that of the largest, and shorter
            states are filled up with zeros.
          scene_indices: position in `scenes` of each state's scene; the first scene by default.
          fixtures: where the fixtures stand, in all states or in each, None for the scene's own draw.

        Raises:
          UserError: for states or fixtures that do not belong to these scenes.
        """
        states = self._checked(states)
        if fixtures is None or isinstance(fixtures, np.ndarray):
            fixtures = [fixtures] * len(states)
        indices = np.zeros(len(states), int) if scene_indices is None else scene_indices
        images = np.empty((len(states), *self._image_shape), np.uint8)
        if self._batched:
            self._render_batches(states, np.asarray(indices), fixtures, images)
            return images
        pending = deque(range(len(states)))

        def work(renderers: list[Renderer]) -> None:
            while pending:
                try:
                    row = pending.popleft()
                except IndexError:  # another worker took the last one
                    return
                scene = indices[row]
                qpos = states[row, 1 : 1 + self._nq[scene]]
                moved = self._scenes[scene].moved_bodies(fixtures[row])
                images[row] = renderers[self._renderer_index[scene]].render(qpos, moved)

        tasks = [worker.thread.submit(work, worker.renderers) for worker in self._workers]
        try:
            for task in as_completed(tasks):
                task.result()
        except BaseException:
            pending.clear()
            raise
        return images

    def _render_batches(
        self,
        states: Float[np.ndarray, "N D"],
        indices: Int[np.ndarray, " N"],
        fixtures: Sequence[FixturePoses | None],
        images: UInt8[np.ndarray, "N cameras h w 3"],
    ) -> None:
        """Renders the states of each scene at once into `images`."""
        owners = np.array(self._renderer_index)[indices]
        for index, renderer in enumerate(self._batched):
            rows = np.flatnonzero(owners == index)
            if len(rows):
                qpos = states[rows, 1 : 1 + self._nq[indices[rows[0]]]]
                images[rows] = renderer.render(qpos, [fixtures[row] for row in rows])

    def close(self) -> None:
        """Ends the workers and frees their renderers."""
        for renderer in self._batched:
            renderer.close()
        for worker in self._workers:
            # In the worker's thread, which owns the GL context.
            for renderer in worker.renderers:
                worker.thread.submit(renderer.close)
            worker.renderers = []
            worker.thread.shutdown()

    def __enter__(self) -> "RenderPool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _checked(self, states: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N D"]:
        states = np.asarray(states, float)
        if states.ndim != 2 or states.shape[1] != self._state_size:
            raise UserError(
                f"states of shape {states.shape} do not belong to this scene: "
                f"expected rows of {self._state_size} numbers (time, qpos, qvel); render them with their own task"
            )
        return states


class _Worker:
    """A thread and the renderers that it made, one for each scene."""

    def __init__(self) -> None:
        self.thread, self.renderers = ThreadPoolExecutor(1), []
