"""Writers that are killed, that meet a full disk, or another writer: in every format."""

import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from export_of_noise import LENGTHS, NAME, contents, export, make_format

from rlgen.core.errors import UserError
from rlgen.data import shards, writer
from rlgen.data.dataset import open_dataset
from rlgen.data.shards import only_writer

# Number of random moments; most of them in the format that is used most.
MOMENTS = {"rlds": 20, "array_record": 5, "lerobot": 5, "hdf5": 5}
PROGRAM = Path(__file__).parents[1] / "export_of_noise.py"


def test_a_dataset_whose_writer_was_killed_ends_with_the_same_bytes(tmp_path):
    command = [sys.executable, str(PROGRAM), str(tmp_path), *(f"{kind}={count}" for kind, count in MOMENTS.items())]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads(done.stdout)
    assert results.keys() == MOMENTS.keys()
    for kind, result in results.items():
        assert result["different"] == [], kind
        assert result["unfinished"] >= MOMENTS[kind] // 4, kind  # most moments are inside the work
        assert result["files"] >= len(LENGTHS) + 4, kind


@pytest.mark.parametrize("kind", MOMENTS)
def test_a_full_disk_is_one_line_and_finished_shards_stay(tmp_path, monkeypatch, kind):
    """The third shard meets a limit on the size of files, which the system reports in the same way as a full disk."""
    whole, real = contents(export(kind, tmp_path / "whole")), shards.write_manifest
    written = 0

    def fill_up(folder, plan, finished):
        nonlocal written
        real(folder, plan, finished)
        written = len(list(finished))
        if written == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, old[1]))

    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(writer, "write_manifest", fill_up)
            with pytest.raises(UserError, match=r"cannot write .*File too large") as caught:
                export(kind, tmp_path / "full")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert "\n" not in str(caught.value) and written == 2
    target = make_format(kind).folder(tmp_path / "full", NAME, "1.0.0")
    partial = target.with_name(f".{target.name}.partial")
    for file in make_format(kind).files(NAME, LENGTHS)[:2]:
        assert (partial / file).read_bytes() == whole[file]
    assert not target.exists() and not list(partial.rglob("*.part"))
    assert contents(export(kind, tmp_path / "full")) == whole


@pytest.mark.parametrize("kind", MOMENTS)
def test_a_full_disk_while_descriptions_are_written_is_one_line(tmp_path, monkeypatch, kind):
    with monkeypatch.context() as patch:
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        patch.setattr(writer, "sync_folder", lambda folder: (_ for _ in ()).throw(full))
        with pytest.raises(UserError, match="No space left on device; free some space"):
            export(kind, tmp_path)
    assert len(open_dataset(export(kind, tmp_path))) == sum(LENGTHS)


@pytest.mark.parametrize("kind", MOMENTS)
def test_a_second_writer_is_rejected(tmp_path, kind):
    target = make_format(kind).folder(tmp_path, NAME, "1.0.0")
    with only_writer(target.parent), pytest.raises(UserError, match="another process is writing here"):
        export(kind, tmp_path)
    export(kind, tmp_path)
