"""Export of recorded episodes as datasets: one for each suite and format, named as the community names them.

The steps for a suite (`SuiteExport.run`): validate the episodes by replaying them, select those that are exported,
render their images, and write every format. Images are rendered for the first format; the others take them from there.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from rlgen.core.errors import UserError
from rlgen.core.ownership import only_writer
from rlgen.curation.card import (
    RENDERER_NOTES,
    fixture_facts,
    origin_facts,
    provenance,
    quality_facts,
    replay_facts,
    reset_facts,
    source_facts,
)
from rlgen.curation.render import (
    DemosWithStoredImages,
    PreparedEpisodes,
    RenderedDemos,
    RenderedEpisodes,
    RenderOptions,
    SceneOf,
)
from rlgen.curation.sources import EpisodeFile, find_episode_files
from rlgen.curation.validate import Candidate, Validator, content_hash, none_left
from rlgen.data.card import write_card
from rlgen.data.dataset import FORMATS, VIDEO_FORMATS, encoded_format, open_dataset
from rlgen.data.episode import DatasetEpisode
from rlgen.data.formats.hdf5.format import Hdf5Format
from rlgen.data.formats.hdf5.layout import Demo
from rlgen.data.index import write_provenance, write_starts
from rlgen.data.writer import Format, split_evenly, write_dataset
from rlgen.libero.scenes.demo_info import demo_file_info
from rlgen.libero.tasks.suites import find_task

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class ExportOptions:
    """Settings of an export.

    Attributes:
      out: folder for the datasets.
      formats: some of `FORMATS` and `VIDEO_FORMATS`. Images are rendered for the first one that is no video.
      version: three numbers.
      shards: number of files of a dataset; HDF5 has one for each task, LeRobot 2.1 one for each episode.
      overwrite: replace datasets that exist.
      rendering: settings of rendering.
      validator: validates and prepares the episodes.
    """

    out: Path
    formats: tuple[str, ...] = ("rlds",)
    version: str = "1.0.0"
    shards: int = 8
    overwrite: bool = False
    rendering: RenderOptions = field(default_factory=RenderOptions)
    validator: Validator = field(default_factory=Validator)

    def __post_init__(self) -> None:
        known = (*FORMATS, *VIDEO_FORMATS)
        unknown = [name for name in self.formats if name not in known]
        if unknown or not self.formats or len(set(self.formats)) != len(self.formats):
            raise UserError(f"formats {', '.join(self.formats) or 'none'}: expected some of {', '.join(known)}, once")
        if self.shards < 1 or self.rendering.workers < 1 or self.rendering.image_size < 1:
            raise UserError(
                f"{self.shards} shards, {self.rendering.workers} workers, images of {self.rendering.image_size}: "
                "each must be at least 1"
            )


def export_paths(
    paths: Sequence[Path],
    options: ExportOptions,
    scene_of: SceneOf,
    assets: dict[str, str],
    on_progress: OnProgress,
) -> list[Path]:
    """Exports the episodes at `paths`, suite by suite, and returns the folders of the datasets.

    Args:
      paths: HDF5 files, folders of them, runs.
      options: settings.
      scene_of: loads the scene of a task.
      assets: label and fingerprint of the object assets, for the card.
      on_progress: called with the name of the present step, the number of episodes done in it, and of all; a total of
        0 is unknown.

    Raises:
      UserError: there is nothing to export, or as `write_dataset`.
    """
    files = [file for path in paths for file in find_episode_files(path)]
    with only_writer(options.out):
        return _export_suites(files, options, scene_of, assets, on_progress)


def _export_suites(
    files: Sequence[EpisodeFile],
    options: ExportOptions,
    scene_of: SceneOf,
    assets: dict[str, str],
    on_progress: OnProgress,
) -> list[Path]:
    suites = dict.fromkeys(file.task.suite for file in files)
    scenes = lru_cache(maxsize=2)(scene_of)
    folders = []
    for suite in suites:
        of_suite = sorted((file for file in files if file.task.suite == suite), key=lambda file: file.task.index)
        folders += SuiteExport(suite, of_suite, options, scenes, assets, on_progress).run()
    return folders


class SuiteExport:
    """The export of one suite."""

    def __init__(
        self,
        suite: str,
        files: Sequence[EpisodeFile],
        options: ExportOptions,
        scene_of: SceneOf,
        assets: dict[str, str],
        on_progress: OnProgress,
    ):
        """Takes the suite's name, its files in the order of tasks, and the arguments of `export_paths`."""
        self._suite, self._files, self._options = suite, files, options
        self._scene_of, self._assets, self._on_progress = scene_of, assets, on_progress
        self._name = suite if options.validator.keep_noops else f"{suite}_no_noops"

    def run(self) -> list[Path]:
        """Validates the episodes, renders those that are exported, and writes every format."""
        options = self._options
        candidates = self._validate()
        exported = options.validator.select(candidates)
        if not exported:
            raise none_left(candidates, self._suite)
        episodes = PreparedEpisodes(exported, options.validator, self._scene_of)
        with ThreadPoolExecutor(options.rendering.workers) as executor:
            write = partial(self._write, candidates=candidates, exported=exported, executor=executor)
            # No format gets its images from a video: where there is nothing else, they are rendered for each.
            first, *others = sorted(options.formats, key=VIDEO_FORMATS.__contains__)
            rendered_for = options.formats if first in VIDEO_FORMATS else (first,)
            with RenderedEpisodes(episodes, options.rendering) as rendered:
                made = {name: write(name, rendered, RenderedDemos(rendered)) for name in rendered_for}
            dataset = open_dataset(made[first])
            for name in others:
                if name not in made:
                    made[name] = write(name, dataset, DemosWithStoredImages(episodes, dataset))
        self._journal.unlink(missing_ok=True)
        return [made[name] for name in options.formats]

    @property
    def _journal(self) -> Path:
        return self._options.out / f".{self._suite}.checked.jsonl"

    def _validate(self) -> list[Candidate]:
        candidates: list[Candidate] = []
        for index, file in enumerate(self._files):
            scene = self._scene_of(file.task)
            step = f"{self._suite}: validating the episodes of task {index + 1} of {len(self._files)}"

            def on_episode(count: int, step: str = step) -> None:
                self._on_progress(step, count, 0)

            candidates += self._options.validator.validate(file, scene, self._journal, on_episode)
        return candidates

    def _write(
        self,
        format_name: str,
        episodes: Sequence[DatasetEpisode],
        demos: Sequence[Demo],
        *,
        candidates: Sequence[Candidate],
        exported: Sequence[Candidate],
        executor: Executor,
    ) -> Path:
        """Writes one format, from `episodes` or, if it stores physics states, from `demos` of the same episodes."""
        options, rendering = self._options, self._options.rendering
        format, lengths = self._format(format_name, exported)

        def finish(folder: Path) -> None:
            fixtures = [candidate.fixtures for candidate in exported]
            write_starts(folder, [candidate.initial_state for candidate in exported], fixtures)
            write_provenance(folder, provenance(exported, options.validator.mode, rendering))
            facts = source_facts(exported) | origin_facts(self._assets, rendering) | fixture_facts(fixtures)
            facts |= reset_facts([candidate.split for candidate in exported])
            facts |= {"replay": replay_facts(candidates, exported, options.validator.mode)}
            write_card(folder, facts | {"quality": quality_facts(folder)})

        return write_dataset(
            options.out,
            self._name,
            episodes if format.encoded else demos,
            format,
            lengths=lengths,
            size=rendering.image_size,
            version=options.version,
            # Datasets of earlier versions have these words.
            description=f"Episodes of {self._suite}. "
            f"Pictures: {RENDERER_NOTES[rendering.renderer]}.",  # codespell:ignore
            fingerprint=self._fingerprint(exported),
            overwrite=options.overwrite,
            inputs=[file.path for file in self._files],
            executor=executor,
            on_progress=lambda done, total: self._on_progress(f"{self._name} as {format_name}", done, total),
            finish=finish,
        )

    def _format(self, name: str, exported: Sequence[Candidate]) -> tuple[Format, list[int]]:
        """Returns a format, and the number of episodes in each of its shards."""
        if name != Hdf5Format.name:
            prompts = [candidate.file.task.prompt for candidate in exported]
            return encoded_format(name, prompts), split_evenly(len(exported), self._options.shards)
        tasks = [candidate.file.task.id for candidate in exported]
        size = self._options.rendering.image_size
        names = list(dict.fromkeys(tasks))
        format = Hdf5Format(names, lambda task: demo_file_info(self._scene_of(find_task(task)), size))
        return format, [tasks.count(task) for task in names]

    def _fingerprint(self, exported: Sequence[Candidate]) -> str:
        rendering, mode = self._options.rendering, self._options.validator.mode
        settings: tuple[Any, ...] = (rendering.renderer, rendering.image_size, mode, self._assets)
        return content_hash([str(settings), *(f"{c.validation.digest} {c.validation.steps}" for c in exported)])
