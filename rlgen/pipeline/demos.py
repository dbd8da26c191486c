"""`rlgen demos`: demonstrations, scripted or from a file, successes only, in LIBERO's HDF5 layout."""

from pathlib import Path
from typing import Any

import numpy as np

from rlgen.core.errors import UserError
from rlgen.data.formats.hdf5.writer import write_demos
from rlgen.demos.imports.for_run import take_demonstrations
from rlgen.demos.scripted.simple import ScriptedExpert
from rlgen.libero.envs.observations import Observer
from rlgen.libero.scenes.demo_info import demo_file_info
from rlgen.pipeline.context import Context, Work
from rlgen.pipeline.policy import gather

FILE = "demos.hdf5"


def run(context: Context, work: Work) -> dict[str, Any]:
    """Records `demos.episodes` successes from sampled placements."""
    config = context.run.config.demos
    work.progress.total = config.episodes
    if config.file is not None:
        return _from_file(context, work, Path(config.file), config.episodes)
    work.progress.say("loading the task and compiling the control step (up to 30 s the first time)")
    scene = context.scene
    episodes, tried = gather(
        context,
        work,
        work.folder / "episodes",
        ScriptedExpert(scene, clean=config.clean),
        split="train",
        source="scripted",
        seed=context.seed("demos"),
        trials=4 * config.episodes + 20,
        wanted=config.episodes,
        mode="fast",
    )
    if len(episodes) < config.episodes:
        raise UserError(
            f"the demonstrator succeeded in {len(episodes)} of {tried} episodes of {scene.task.id}, "
            f"expected {config.episodes}; lower --demos.episodes or choose another task"
        )
    observer = Observer(scene)
    robots = [observer(episode.states).robot for episode in episodes]
    write_demos(work.folder / FILE, episodes, robots, demo_file_info(scene))
    lengths = [len(episode) for episode in episodes]
    return {"file": FILE, "episodes": len(episodes), "tried": tried, "mean_length": float(np.mean(lengths))}


def _from_file(context: Context, work: Work, path: Path, count: int) -> dict[str, Any]:
    work.progress.say(f"taking demonstrations from {path}")
    taken = take_demonstrations(
        path, work.folder / FILE, context.scene, count=count, threads=context.run.config.threads
    )
    work.progress.update(advance=taken.kept, note=f"{taken.kept} kept of {taken.read}")
    lengths = {"episodes": taken.kept, "tried": taken.read, "mean_length": taken.steps / taken.kept}
    return {"file": FILE, "source": str(path), **lengths}
