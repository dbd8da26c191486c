"""The commands that read datasets: what they say to one that they refuse, and what they do with one that they read."""

from pathlib import Path

import pytest

from rlgen.cli.main import main
from rlgen.curation.compare import read_source
from rlgen.curation.merge import MergeOptions, merge_datasets
from rlgen.curation.viewer import write_pages

TRAIN = ("vla", "train", "--model", "tiny", "--actions", "relative", "--hold-out", "0", "--dry-run")
TRAIN = (*TRAIN, "--mask-cameras", "--data")
DOORS = ("show", "quality", "merge", "train")


def command(door: str, folder: Path, out: Path) -> list[str]:
    words = [*TRAIN, str(folder)] if door == "train" else ["data", door, str(folder), "--out", str(out)]
    return words if door != "train" else [*words, "--out", str(out)]


def refusal(capsys, door: str, folder: Path, out: Path, *options: str) -> str:
    """Returns the line with which a command refuses a dataset."""
    with pytest.raises(SystemExit) as end:
        main([*command(door, folder, out), *options])
    error = capsys.readouterr().err
    assert end.value.code == 2 and "Traceback" not in error
    return error.splitlines()[-1]


# What a command does with a dataset that it can read, without the figures of `quality`.
THROUGH = {
    "show": lambda folder, out: write_pages([folder], out),
    "quality": lambda folder, out: read_source(folder, None).quality(),
    "merge": lambda folder, out: merge_datasets([folder], MergeOptions(out), lambda *_: None),
    "train": lambda folder, out: main(command("train", folder, out)),
}
