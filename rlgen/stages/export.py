"""`rlgen export`: pictures drawn from the recorded states, and the RLDS dataset."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from jaxtyping import UInt8

from rlgen.data.card import write_card
from rlgen.data.quality import dataset_quality
from rlgen.data.rlds import RldsEpisode, export_rlds, pair_episode
from rlgen.libero.camera import ViewName, find_gl, to_dataset
from rlgen.libero.draw import draw_episodes
from rlgen.libero.observe import Observer
from rlgen.libero.scene import Scene
from rlgen.stages.collect import load_collected
from rlgen.stages.context import Context, Work
from rlgen.types import Episode

VERSION = "1.0.0"
VIEWS = {
    "fast": "fast view: simplified triangles without shadows or gloss; not the benchmark's own pixels",
    "benchmark": "the benchmark's own renderer",
}


class DrawnEpisodes(Sequence[RldsEpisode]):
    """Episodes whose pictures are drawn when they are asked for, cheapest in rising order."""

    def __init__(self, scene: Scene, episodes: Sequence[Episode], *, view: ViewName, size: int, workers: int):
        self._scene, self._episodes = scene, episodes
        self._view, self._size, self._workers = view, size, workers
        self._observer = Observer(scene)
        self._next = 0
        self._drawn = self._draw_from(0)

    def __len__(self) -> int:
        return len(self._episodes)

    def __getitem__(self, number: int) -> RldsEpisode:
        episode = self._episodes[number]
        if number != self._next:
            self._drawn = self._draw_from(number)
        pictures = to_dataset(next(self._drawn))
        self._next = number + 1
        name = f"{episode.task}/{episode.source}/{episode.split}-{episode.initial_index}-{episode.seed}"
        robot = self._observer(episode.states).robot
        return pair_episode(episode, robot, pictures[:, 0], pictures[:, 1], name)

    def _draw_from(self, number: int) -> Iterator[UInt8[np.ndarray, "T cameras h w 3"]]:
        states = [episode.states[:-1] for episode in self._episodes[number:]]
        return draw_episodes(self._scene.visual_model, states, view=self._view, size=self._size, workers=self._workers)


def _how_it_is_drawn(view: str) -> str:
    if view == "benchmark":
        return f"drawing the benchmark's view with GL library {find_gl()}"
    return "compiling the rasteriser of the fast view, which needs no GL library (up to 30 s the first time)"


def run(context: Context, work: Work) -> dict[str, Any]:
    """Writes `export/<suite>_no_noops/1.0.0` with its card."""
    config, scene = context.run.config, context.scene
    episodes = load_collected(context)
    work.progress.total = len(episodes)
    work.progress.say(_how_it_is_drawn(config.export.view))
    drawn = DrawnEpisodes(scene, episodes, view=config.export.view, size=config.export.size, workers=config.threads)
    done = 0

    def tell(stored: int, total: int) -> None:
        nonlocal done
        work.progress.update(advance=stored - done, note=f"{stored} of {total} episodes")
        done = stored
        work.clock.save()

    directory = export_rlds(
        work.folder,
        f"{scene.task.suite}_no_noops",
        drawn,
        size=config.export.size,
        version=VERSION,
        description=f"Diffusion-RL data of {scene.task.id}. Pictures: {VIEWS[config.export.view]}. "
        f"Assets: {scene.assets}.",
        shards=config.export.shards,
        fingerprint=_fingerprint(episodes, config.export.view, config.export.size),
        overwrite=True,
        workers=config.threads,
        progress=tell,
    )
    write_card(directory, _card(context, episodes))
    steps = sum(len(episode) for episode in episodes)
    return {"path": str(directory.relative_to(context.run.folder)), "episodes": len(episodes), "steps": steps}


def dataset_folder(context: Context) -> Path:
    """The exported dataset."""
    return context.run.folder / context.run.result("export")["path"]


def _fingerprint(episodes: Sequence[Episode], view: str, size: int) -> str:
    total = hashlib.sha256(f"{view} {size}".encode())
    for episode in episodes:
        total.update(episode.states.tobytes())
        total.update(episode.actions.tobytes())
    return total.hexdigest()


def _card(context: Context, episodes: Sequence[Episode]) -> dict[str, Any]:
    scene, config, run = context.scene, context.run.config, context.run
    observer = Observer(scene)
    quality = dataset_quality(episodes, [observer(episode.states).robot for episode in episodes]).to_json()
    collected = run.result("collect")
    return {
        "tasks": [scene.task.id],
        "episodes": len(episodes),
        "steps": sum(len(episode) for episode in episodes),
        "policy": "PPO over a 5-step DDIM chain, deterministic chain, exact physics",
        "success_rate": f"{collected['episodes']} kept of {collected['tried']} tried on sampled placements",
        "initial_states": {
            "split": "train: placements sampled from the BDDL regions",
            "heldout": "all 50 stored states",
        },
        "seeds": {"root": config.seed},
        "mujoco": mujoco.__version__,
        "assets": scene.assets,
        "action_semantics": "relative",
        "view": VIEWS[config.export.view],
        "picture_size": config.export.size,
        "versions": package_versions(),
        "quality": {key: value for key, value in quality.items() if key not in ("each", "spread")},
        "licence": "CC BY 4.0 (LIBERO's scenes and objects are CC BY 4.0)",
    }


def package_versions() -> dict[str, str]:
    """Versions of what the results depend on."""
    import platform
    from importlib import metadata

    names = (
        "rlgen",
        "jax",
        "flax",
        "optax",
        "mujoco",
        "numba",
        "numpy",
        "hf-libero",
        "robosuite",
        "tensorflow-datasets",
    )
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}
