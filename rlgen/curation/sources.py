"""Files of recorded episodes: this project's HDF5 files, folders of them, and runs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlgen.core.errors import UserError
from rlgen.core.foreign.json_parts import open_json
from rlgen.core.stats import SuccessRate
from rlgen.core.types import Episode
from rlgen.data.episode import load_episode
from rlgen.data.formats.hdf5.reader import iterate_demos, observed_before_action
from rlgen.data.shards import file_sha256
from rlgen.demos.imports.sources import HDF5_SUFFIXES
from rlgen.libero.tasks.suites import Task, find_task
from rlgen.training.run import Run, is_run, open_run

# Where a run keeps what it has collected, by `collect.source`; the actor that is stored in the episodes.
COLLECTED = {"ppo": "collect/episodes", "exploring": "collect/exploring", "clone": "collect/clone"}
ACTORS = {"ppo": "ppo", "exploring": "exploring", "clone": "bc"}


@dataclass(frozen=True)
class EpisodeFile:
    """The recorded episodes of one task in one HDF5 file or run.

    Attributes:
      path: the HDF5 file, or the run's folder.
      task: of all episodes.
      policy: the actor, as the file or the run describes it; JSON values for the card.
      run: whether it is a run.
    """

    path: Path
    task: Task
    policy: dict[str, Any]
    run: bool = False

    def read(self) -> Iterator[tuple[str, Episode]]:
        """Yields the name and the episode of each, one in memory at a time.

        Raises:
          UserError: the file is damaged, or was not recorded by this project.
        """
        if self.run:
            run = open_run(self.path)
            folder = self.path / COLLECTED[run.config.collect.source]
            for file in sorted(folder.glob("*.npz"))[: collected(run)["episodes"]]:
                yield file.name, load_episode(file)
            return
        if not observed_before_action(self.path):
            raise UserError(f"{self.path}: not recorded here; replay it with `rlgen demos import {self.path}` first")
        yield from iterate_demos(self.path)


def find_episode_files(path: Path) -> list[EpisodeFile]:
    """Returns the files of episodes at a path, in the order of their tasks.

    Raises:
      UserError: there are none, or their task is unknown.
    """
    path = Path(path)
    if is_run(path):
        return [_of_run(open_run(path))]
    if path.is_file():
        return [_of_hdf5(path)]
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder; expected HDF5 files of `rlgen demos record`, or a run")
    files = [file for file in sorted(path.rglob("*")) if file.suffix in HDF5_SUFFIXES and not _hidden(file, path)]
    if not files:
        raise UserError(
            f"{path}: no HDF5 file of episodes in it and no run; record some with `rlgen demos record TASK`"
        )
    return sorted(map(_of_hdf5, files), key=lambda file: (file.task.suite, file.task.index))


def _hidden(file: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(root).parts)


def _of_hdf5(path: Path) -> EpisodeFile:
    _, first = next(iterate_demos(path))
    policy: dict[str, Any] = {"actor": first.source, "file": path.name, "sha256": file_sha256(path)}
    record = path.with_suffix(".json")
    if record.is_file():
        part = open_json(record, "record the demonstrations again")
        for name in ("attempts", "demonstrations"):
            count = part.optional(name)
            if count is not None:
                count.plain_integer()
        policy["recorded"] = part.value
    return EpisodeFile(path, find_task(first.task), policy)


def collected(run: Run) -> dict[str, Any]:
    """Returns the result of a run's stage `collect`.

    Raises:
      UserError: the episodes of the run's `collect.source` have not been collected.
    """
    result, source = run.result("collect"), run.config.collect.source
    if result.get("source", "ppo") != source:
        raise UserError(f"{run.folder} has no episodes of {source} yet; run `rlgen run collect --run {run.folder}`")
    return result


def _of_run(run: Run) -> EpisodeFile:
    result, actor = collected(run), ACTORS[run.config.collect.source]
    policy: dict[str, Any] = {
        "actor": actor,
        "checkpoint": _checkpoint(run, actor),
    }
    policy["recorded"] = {"demonstrations": result["episodes"], "attempts": result["tried"], "seed": run.config.seed}
    if run.config.resets != "standard":
        policy["resets"] = run.config.resets
    if run.done("evaluate"):
        policy["evaluated"] = run.result("evaluate")["rates"].get(actor)
    elif run.done("ppo") and actor in (scores := run.result("ppo").get("heldout", {})):
        policy["evaluated"] = SuccessRate.from_json(scores[actor]).to_json()
    if actor == "ppo" and run.done("ppo") and (changed := run.result("ppo").get("change")):
        policy["against_clone"] = {"on": "the stored initial states", **changed}
    return EpisodeFile(run.folder, find_task(run.config.task), policy, run=True)


def _checkpoint(run: Run, actor: str) -> str | None:
    """Returns the checkpoint of the policy that acted; earlier versions do not say which of PPO's it is, the last one.

    Where they left none, the cloned policy acted.
    """
    if actor != "bc" and run.done("ppo") and (stored := run.result("ppo").get("checkpoint")):
        return f"ppo/{stored}"
    for stage in ("bc",) if actor == "bc" else ("ppo", "bc"):
        steps = [path.name for path in (run.folder / stage / "checkpoints").glob("*") if path.name.isdigit()]
        if steps:
            return f"{stage}/checkpoints/{max(steps, key=int)}"
    return None
