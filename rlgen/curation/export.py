"""Recorded episodes as datasets: one for each suite and format, named as the community names them."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from rlgen.core.errors import UserError
from rlgen.curation.card import VIEWS, quality_facts, replay_facts, source_facts, world_facts
from rlgen.curation.render import DemosWithStoredImages, Prepared, RenderedDemos, RenderedEpisodes, RenderOptions
from rlgen.curation.sources import EpisodeFile, find_episode_files
from rlgen.curation.validate import Candidate, Validator, content_hash, none_left
from rlgen.data.card import write_card
from rlgen.data.dataset import FORMATS, open_dataset
from rlgen.data.formats.array_record.format import ArrayRecordFormat
from rlgen.data.formats.hdf5.format import Hdf5Format
from rlgen.data.formats.lerobot.format import LeRobotFormat
from rlgen.data.formats.rlds.writer import RldsFormat
from rlgen.data.index import write_initial_states
from rlgen.data.writer import Format, split_evenly, write_dataset
from rlgen.libero.scenes.demo_info import demo_file_info
from rlgen.libero.scenes.scene import Scene
from rlgen.libero.tasks.suites import Task, find_task

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True)
class ExportOptions:
    """What an export makes.

    Attributes:
      out: folder for the datasets.
      formats: of `FORMATS`. Pictures are drawn for the first; the others take them from it.
      version: three numbers.
      shards: files of a dataset; HDF5 has one for each task.
      overwrite: replace datasets that are there.
      drawing: how pictures are drawn.
      checker: how episodes are made ready.
    """

    out: Path
    formats: tuple[str, ...] = ("rlds",)
    version: str = "1.0.0"
    shards: int = 8
    overwrite: bool = False
    drawing: RenderOptions = field(default_factory=RenderOptions)
    checker: Validator = field(default_factory=Validator)

    def __post_init__(self) -> None:
        unknown = [name for name in self.formats if name not in FORMATS]
        if unknown or not self.formats or len(set(self.formats)) != len(self.formats):
            raise UserError(f"formats {', '.join(self.formats) or 'none'}: expected some of {', '.join(FORMATS)}, once")
        if self.shards < 1 or self.drawing.workers < 1 or self.drawing.size < 1:
            raise UserError(
                f"{self.shards} shards, {self.drawing.workers} workers, pictures of {self.drawing.size}: "
                "each must be at least 1"
            )


def export_paths(
    paths: Sequence[Path],
    options: ExportOptions,
    scene_of: Callable[[Task], Scene],
    assets: dict[str, str],
    tell: Tell,
) -> list[Path]:
    """Exports the episodes at `paths`, suite by suite, and returns the datasets' folders.

    Args:
      paths: HDF5 files, folders of them, runs.
      options: what to make.
      scene_of: loads a task.
      assets: where the object assets come from, for the card.
      tell: hears what is being done, how much of it is done, and of how much.

    Raises:
      UserError: nothing to export there, or what `write_dataset` raises.
    """
    files = [file for path in paths for file in find_episode_files(path)]
    suites = dict.fromkeys(file.task.suite for file in files)
    scenes = lru_cache(maxsize=2)(scene_of)
    made = []
    for suite in suites:
        mine = sorted((file for file in files if file.task.suite == suite), key=lambda file: file.task.index)
        made += SuiteExport(suite, mine, options, scenes, assets, tell).run()
    return made


class SuiteExport:
    """The datasets of one suite."""

    def __init__(
        self,
        suite: str,
        files: Sequence[EpisodeFile],
        options: ExportOptions,
        scene_of: Callable[[Task], Scene],
        assets: dict[str, str],
        tell: Tell,
    ):
        self._suite, self._files, self._options = suite, files, options
        self._scene_of, self._assets, self._tell = scene_of, assets, tell
        self._name = suite if options.checker.keep_noops else f"{suite}_no_noops"

    def run(self) -> list[Path]:
        """Judges the episodes, draws those that are exported, and writes every format."""
        options = self._options
        judged = self._judge()
        chosen = options.checker.exported(judged)
        if not chosen:
            raise none_left(judged, self._suite)
        episodes = Prepared(chosen, options.checker, self._scene_of)
        with ThreadPoolExecutor(options.drawing.workers) as pool:
            made: list[Path] = []
            for kind in options.formats:
                made.append(self._write(kind, episodes, chosen, judged, made[:1], pool))
        self._journal.unlink(missing_ok=True)
        return made

    @property
    def _journal(self) -> Path:
        return self._options.out / f".{self._suite}.checked.jsonl"

    def _judge(self) -> list[Candidate]:
        found: list[Candidate] = []
        for number, file in enumerate(self._files):
            scene = self._scene_of(file.task)
            words = f"{self._suite}: looking at the episodes of task {number + 1} of {len(self._files)}"

            def heard(count: int, words: str = words) -> None:
                self._tell(words, count, 0)

            found += self._options.checker.candidates(file, scene, self._journal, heard)
        return found

    def _write(
        self,
        kind: str,
        episodes: Prepared,
        chosen: Sequence[Candidate],
        judged: Sequence[Candidate],
        before: Sequence[Path],
        pool: ThreadPoolExecutor,
    ) -> Path:
        options, drawing = self._options, self._options.drawing
        layout, lengths = self._layout(kind, chosen, pool)

        def finish(folder: Path) -> None:
            write_initial_states(folder, [candidate.initial_state for candidate in chosen])
            facts = source_facts(chosen) | world_facts(self._assets, drawing)
            facts |= {"replay": replay_facts(judged, chosen, options.checker.mode)}
            write_card(folder, facts | {"quality": quality_facts(folder)})

        return write_dataset(
            options.out,
            self._name,
            _items(kind, RenderedEpisodes(episodes, drawing), episodes, before),
            layout,
            lengths=lengths,
            size=drawing.size,
            version=options.version,
            description=f"Episodes of {self._suite}. Pictures: {VIEWS[drawing.view]}.",
            fingerprint=self._fingerprint(chosen),
            overwrite=options.overwrite,
            progress=lambda done, total: self._tell(f"{self._name} as {kind}", done, total),
            finish=finish,
        )

    def _layout(self, kind: str, chosen: Sequence[Candidate], pool: ThreadPoolExecutor) -> tuple[Format, list[int]]:
        even = split_evenly(len(chosen), self._options.shards)
        if kind == "rlds":
            return RldsFormat(pool), even
        if kind == "array_record":
            return ArrayRecordFormat(pool), even
        if kind == "lerobot":
            return LeRobotFormat([candidate.file.task.prompt for candidate in chosen], pool), even
        tasks = [candidate.file.task.id for candidate in chosen]
        info = Hdf5Format(list(dict.fromkeys(tasks)), lambda task: demo_file_info(self._scene_of(find_task(task))))
        return info, [tasks.count(task) for task in dict.fromkeys(tasks)]

    def _fingerprint(self, chosen: Sequence[Candidate]) -> str:
        options = self._options
        how: tuple[Any, ...] = (options.drawing.view, options.drawing.size, options.checker.mode, self._assets)
        return content_hash([str(how), *(f"{c.verdict.digest} {c.verdict.steps}" for c in chosen)])


def _items(kind: str, drawn: RenderedEpisodes, episodes: Prepared, before: Sequence[Path]) -> Sequence:
    """What a format is given: drawn, or with the pictures of the dataset that was written before."""
    if not before:
        return RenderedDemos(drawn) if kind == "hdf5" else drawn
    return DemosWithStoredImages(episodes, open_dataset(before[0])) if kind == "hdf5" else open_dataset(before[0])
