"""The directory of a run: its configuration in `run.json`, and a folder for each stage with its results.

A stage that is done has left `done.json` there. Which stages there are, and in which order, is said in
`rlgen.pipeline.stages`; this module only reads and writes their folders.
"""

import time
from pathlib import Path
from typing import Any

from rlgen.configs.aliases import upgrade, upgrade_assets
from rlgen.configs.schema import Config
from rlgen.configs.stored import from_json, to_json
from rlgen.core.errors import UserError, first_line
from rlgen.core.files import read_json, write_json
from rlgen.core.ownership import is_vacant, read_record, remove

RECORD = "run.json"
MARK = "rlgen-run"
# 1 is that of version 0.1.0, whose names of settings `configs.aliases` knows.
FORMAT = 2


class Run:
    """An opened run directory. Stages read their inputs from there and leave their results there.

    Attributes:
      folder: of the run.
      config: what the run does.
      assets: kind, path and label of the object assets that it was started with.
    """

    def __init__(self, folder: Path, config: Config, assets: dict[str, Any]):
        self.folder, self.config, self.assets = Path(folder), config, assets

    def stage_folder(self, stage: str) -> Path:
        """Returns the folder of a stage, and makes it if it is absent."""
        folder = self.folder / stage
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def done(self, stage: str) -> bool:
        """Returns whether a stage is finished."""
        return (self.folder / stage / "done.json").is_file()

    def result(self, stage: str) -> dict[str, Any]:
        """Returns the result of a finished stage.

        Raises:
          UserError: it has not run, or its result is damaged.
        """
        if not self.done(stage):
            raise UserError(
                f"stage {stage} of {self.folder} is not done; run `rlgen run {stage} --run {self.folder}` first"
            )
        path = self.folder / stage / "done.json"
        result = read_record(path)
        if not isinstance(result, dict):
            raise UserError(f"{path} is damaged; repeat the stage with `{self.repeat(stage)}`")
        return result

    def repeat(self, stage: str, *options: str) -> str:
        """Returns the command that repeats a stage with other options."""
        return " ".join(("rlgen run", stage, "--run", str(self.folder), "--overwrite", *options))

    def finish(self, stage: str, result: dict[str, Any]) -> None:
        """Records that a stage is finished."""
        write_json(self.folder / stage / "done.json", result)

    def seconds(self, stage: str) -> float:
        """Returns the seconds that a stage has worked, interruptions left out."""
        record = read_record(self.folder / stage / "clock.json")
        seconds = record.get("seconds") if isinstance(record, dict) else None
        # Damaged JSON may hold any number: not finite, or of more digits than a float can hold.
        return float(seconds) if isinstance(seconds, int | float) and 0 <= seconds < 1e12 else 0.0

    def started(self, stage: str) -> bool:
        """Returns whether a stage has left anything."""
        return (self.folder / stage).exists()

    def clear(self, stage: str) -> None:
        """Removes what a stage has left."""
        remove(self.folder / stage)


class StageClock:
    """Adds up the seconds of a stage over interruptions; `save` at every checkpoint."""

    def __init__(self, run: Run, stage: str):
        self._path = run.stage_folder(stage) / "clock.json"
        self._before = run.seconds(stage)
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds that the stage has worked, those before interruptions included."""
        return self._before + time.monotonic() - self._start

    def save(self) -> None:
        """Writes the seconds so far."""
        write_json(self._path, {"seconds": round(self.seconds, 3)})


def create_run(folder: Path, config: Config, assets: dict[str, Any]) -> Run:
    """Starts a run in a directory that is empty or absent.

    Args:
      folder: of the run.
      config: what the run does.
      assets: kind, path and label of its object assets.

    Raises:
      UserError: the directory holds something else.
    """
    if not is_vacant(folder):
        raise UserError(f"{folder} exists and is not an rlgen run; choose another --run")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / RECORD, {"kind": MARK, "format": FORMAT, "assets": assets, "config": to_json(config)})
    return Run(folder, config, assets)


def is_run_record(value: Any) -> bool:
    """Returns whether the value of a `run.json` is of this program, of whichever version."""
    return isinstance(value, dict) and value.get("kind") == MARK


def is_run(folder: Path) -> bool:
    """Returns whether a directory holds a run; a damaged record, which `open_run` names, counts as one."""
    if not (folder / RECORD).is_file():
        return False
    record = read_record(folder / RECORD)
    return record is None or is_run_record(record)


def open_run(folder: Path) -> Run:
    """Opens a run.

    Raises:
      UserError: there is none, or it is damaged or of another version.
    """
    if not is_run(folder):
        raise UserError(f"{folder} holds no run; start one with `rlgen run demos --run {folder}` or `rlgen quickstart`")
    try:
        record = read_json(folder / RECORD)
        if record["format"] not in range(1, FORMAT + 1):
            raise ValueError(f"format {record['format']} is of another version")
        config = from_json(upgrade(record["config"], record["format"]))
        return Run(folder, config, upgrade_assets(record["assets"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else first_line(error)
        raise UserError(f"{folder / RECORD} cannot be read: {reason}; choose another --run") from error


def change_config(run: Run, config: Config) -> Run:
    """Stores a changed configuration, and returns the run with it."""
    write_json(
        run.folder / RECORD,
        {"kind": MARK, "format": FORMAT, "assets": run.assets, "config": to_json(config)},
    )
    return Run(run.folder, config, run.assets)
