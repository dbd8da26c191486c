"""Pictures of a scene: the benchmark's own, and a fast view that needs no GL library.

Both views turn joint positions into pictures in the benchmark's raw convention (robosuite's "opengl"): row 0
is the bottom of what the camera sees, as in `agentview_image`. `rlgen.data.images` turns them into
the orientation of datasets (`rotate_180`) and of people (`flip_vertical`).
"""

import queue
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Protocol

import mujoco
import numpy as np
from jaxtyping import Float, UInt8

from rlgen.core.errors import UserError
from rlgen.core.process import worker_pool
from rlgen.libero.rendering.gl import OpenGLRenderer, find_gl
from rlgen.libero.rendering.software import CAMERAS, SoftwareRenderer
from rlgen.libero.rendering.triangles import read_triangles

RendererName = Literal["fast", "benchmark"]


class Renderer(Protocol):
    """Draws one model."""

    def draw(self, qpos: Float[np.ndarray, " nq"]) -> UInt8[np.ndarray, "cameras size size 3"]:
        """Pictures at joint positions `qpos`, in the benchmark's raw orientation."""
        ...


def make_renderer(
    name: RendererName, model: mujoco.MjModel, *, cameras: Sequence[str] = CAMERAS, size: int = 128
) -> Renderer:
    """Makes a view by name.

    Raises:
      UserError: for an unknown name, or without a GL library for `benchmark`.
    """
    if name == "fast":
        return SoftwareRenderer(model, cameras=cameras, size=size)
    if name == "benchmark":
        return OpenGLRenderer(model, cameras=cameras, size=size)
    raise UserError(f"unknown view {name!r}: expected fast or benchmark")


_BATCH = 16  # states a worker takes at a time: small enough to share out, large enough to be worth it
Batch = UInt8[np.ndarray, "n cameras size size 3"]
Submit = Callable[[Float[np.ndarray, "n nq"]], "Future[Batch]"]


def render_states(
    model: mujoco.MjModel,
    states: Float[np.ndarray, "T D"],
    *,
    view: RendererName = "fast",
    size: int = 128,
    cameras: Sequence[str] = CAMERAS,
    workers: int = 1,
    on_frame: Callable[[int], None] | None = None,
) -> UInt8[np.ndarray, "T cameras size size 3"]:
    """Draws every state once from every camera, in the benchmark's raw orientation.

    Args:
      model: the scene that the states belong to.
      states: time, qpos, qvel a row (D = 1 + nq + nv).
      view: `fast` (threads) or `benchmark` (processes, each with a GL context of its own).
      size: width and height in pixels.
      cameras: names.
      workers: threads or processes.
      on_frame: called in this thread with the number of states drawn so far.

    Raises:
      UserError: for states of another model, an unknown view, or no GL library for `benchmark`.
    """
    (images,) = render_episodes(
        model, [states], view=view, size=size, cameras=cameras, workers=workers, on_frame=on_frame
    )
    return images


def render_episodes(
    model: mujoco.MjModel,
    episodes: Iterable[Float[np.ndarray, "T D"]],
    *,
    view: RendererName = "fast",
    size: int = 128,
    cameras: Sequence[str] = CAMERAS,
    workers: int = 1,
    on_frame: Callable[[int], None] | None = None,
) -> Iterator[UInt8[np.ndarray, "T cameras size size 3"]]:
    """Draws episode after episode, one in memory at a time, with workers that are started once.

    Takes and raises what `render_states` does; `on_frame` counts over all episodes.
    """
    done = 0
    with _workers(model, view, size, tuple(cameras), workers) as submit:
        for states in episodes:
            qpos = _positions(model, states)
            images = np.empty((len(qpos), len(cameras), size, size, 3), np.uint8)
            starts = range(0, len(qpos), _BATCH)
            tasks = {submit(qpos[start : start + _BATCH]): start for start in starts}
            for task in as_completed(tasks):
                batch = task.result()
                images[tasks[task] : tasks[task] + len(batch)] = batch
                done += len(batch)
                if on_frame:
                    on_frame(done)
            yield images


def _positions(model: mujoco.MjModel, states: Float[np.ndarray, "T D"]) -> Float[np.ndarray, "T nq"]:
    wanted = 1 + model.nq + model.nv
    states = np.asarray(states, float)
    if states.ndim != 2 or states.shape[1] != wanted:
        raise UserError(
            f"states of shape {states.shape} do not belong to this scene: "
            f"expected rows of {wanted} numbers (time, qpos, qvel); draw them with their own task"
        )
    return np.ascontiguousarray(states[:, 1 : 1 + model.nq])


@contextmanager
def _workers(
    model: mujoco.MjModel, view: RendererName, size: int, cameras: tuple[str, ...], workers: int
) -> Iterator[Submit]:
    if workers < 1:
        raise UserError(f"{workers} workers: expected at least 1")
    if view == "fast":
        with ThreadPoolExecutor(workers) as pool:
            yield _share_views(pool, model, size, cameras, workers)
    elif view == "benchmark":
        if find_gl() == "none":
            raise UserError("no GL library for the benchmark view: install libegl1 or use the fast view")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.mjb"
            mujoco.mj_saveModel(model, str(path))
            with worker_pool(workers, _start_process, str(path), size, cameras, find_gl()) as pool:
                yield lambda qpos: pool.submit(_draw_in_process, qpos)
    else:
        raise UserError(f"unknown view {view!r}: expected fast or benchmark")


def _share_views(pool: Executor, model: mujoco.MjModel, size: int, cameras: tuple[str, ...], workers: int) -> Submit:
    triangles, views = read_triangles(model), queue.SimpleQueue()
    for _ in range(workers):
        views.put(SoftwareRenderer(model, cameras=cameras, size=size, triangles=triangles))

    def draw(qpos: Float[np.ndarray, "n nq"]) -> Batch:
        view = views.get()
        try:
            return _draw(view, qpos)
        finally:
            views.put(view)

    return lambda qpos: pool.submit(draw, qpos)


def _draw(view: Renderer, qpos: Float[np.ndarray, "n nq"]) -> Batch:
    return np.stack([view.draw(row) for row in qpos])


class _Process:
    """What a worker process holds; a process pool's initialiser has nowhere else to put it."""

    view: Renderer


def _start_process(path: str, size: int, cameras: tuple[str, ...], gl: str) -> None:
    _Process.view = OpenGLRenderer(mujoco.MjModel.from_binary_path(path), cameras=cameras, size=size, gl=gl)


def _draw_in_process(qpos: Float[np.ndarray, "n nq"]) -> Batch:
    return _draw(_Process.view, qpos)
