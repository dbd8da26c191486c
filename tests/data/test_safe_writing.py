"""Writers that are killed, that find the disk full, or another one at work: in every format."""

import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from export_of_noise import LENGTHS, NAME, contents, export, layout

from rlgen.core.errors import UserError
from rlgen.data import shards, writer
from rlgen.data.dataset import open_dataset
from rlgen.data.shards import only_writer

# Twenty random moments of the format that most people read, and some of each other one.
MOMENTS = {"rlds": 20, "array_record": 5, "lerobot": 5, "hdf5": 5}
PROGRAM = Path(__file__).parents[1] / "export_of_noise.py"


@pytest.mark.parametrize("kind", MOMENTS)
def test_killed_at_random_moments_it_ends_with_the_same_bytes(tmp_path, kind):
    command = [sys.executable, str(PROGRAM), kind, str(tmp_path), str(MOMENTS[kind])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout)
    assert result["different"] == []
    assert result["unfinished"] >= MOMENTS[kind] // 4  # most moments lie inside the work
    assert result["files"] >= len(LENGTHS) + 4


@pytest.mark.parametrize("kind", MOMENTS)
def test_a_disk_that_fills_is_one_line_and_leaves_what_is_finished(tmp_path, monkeypatch, kind):
    """The third shard meets a limit on the size of files, which the system reports as it does a full disk."""
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
    target = layout(kind).folder(tmp_path / "full", NAME, "1.0.0")
    work = target.with_name(f".{target.name}.partial")
    for file in layout(kind).files(NAME, LENGTHS)[:2]:
        assert (work / file).read_bytes() == whole[file]
    assert not target.exists() and not list(work.rglob("*.part"))
    assert contents(export(kind, tmp_path / "full")) == whole


@pytest.mark.parametrize("kind", MOMENTS)
def test_no_space_while_it_describes_itself(tmp_path, monkeypatch, kind):
    with monkeypatch.context() as patch:
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        patch.setattr(writer, "sync_folder", lambda folder: (_ for _ in ()).throw(full))
        with pytest.raises(UserError, match="No space left on device; free some space"):
            export(kind, tmp_path)
    assert len(open_dataset(export(kind, tmp_path))) == sum(LENGTHS)


@pytest.mark.parametrize("kind", MOMENTS)
def test_a_second_writer_is_refused(tmp_path, kind):
    target = layout(kind).folder(tmp_path, NAME, "1.0.0")
    with only_writer(target.parent), pytest.raises(UserError, match="another process is writing here"):
        export(kind, tmp_path)
    export(kind, tmp_path)
