"""Writers that are killed, that meet a full disk, or another writer: in every format."""

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from export_of_noise import LENGTHS, NAME, SIZE, Items, contents, export, make_format

from rlgen.core.errors import UserError
from rlgen.core.ownership import only_writer
from rlgen.data import shards, writer
from rlgen.data.dataset import open_dataset

# Number of random moments; most of them in the format that is used most.
MOMENTS = {
    "rlds": 20,
    "array_record": 5,
    "lerobot": 5,
    "lerobot_v21": 5,
    "lerobot_h264": 5,
    "hdf5": 5,
    "lerobot_v21_h264": 3,
}
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


def replace_dataset(kind, folder, inputs=()):
    """Writes the same episodes as if they were others."""
    options = {"lengths": LENGTHS, "size": SIZE, "fingerprint": os.urandom(8).hex(), "overwrite": True}
    return writer.write_dataset(folder, NAME, Items(kind), make_format(kind), inputs=inputs, **options)


@pytest.mark.parametrize("kind", MOMENTS)
def test_a_dataset_replaces_one_of_ours_alone(tmp_path, kind):
    target = export(kind, tmp_path)
    expected = contents(target)
    assert replace_dataset(kind, tmp_path) == target
    assert contents(target).keys() == expected.keys() and open_dataset(target)
    before = contents(tmp_path)
    for inputs in ([target], [target / "export.json"], [tmp_path, target / "deeper" / "file"]):
        with pytest.raises(UserError, match="is or holds an input of this command"):
            replace_dataset(kind, tmp_path, inputs)
    (target / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"notes\.txt is not part of a dataset and would be removed"):
        replace_dataset(kind, tmp_path)
    (target / "notes.txt").unlink()
    assert contents(tmp_path) == before


@pytest.mark.parametrize("kind", MOMENTS)
@pytest.mark.parametrize("manifest", [None, "{}", '{"plan": {"format": "rlds"}, "finished": []}', "[" * 100_000])
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_folder_of_somebody_is_not_replaced(tmp_path, kind, manifest, overwrite):
    target = make_format(kind).folder(tmp_path, NAME, "1.0.0")
    for folder in (target, target.with_name(f".{target.name}.partial"), target.with_name(f".{target.name}.old")):
        folder.mkdir(parents=True)
        # As a dataset of others has it.
        (folder / "dataset_info.json").write_text("{}")
        if manifest is not None:
            (folder / "export.json").write_text(manifest)
        before = contents(tmp_path)
        with pytest.raises(UserError, match="is not a dataset that rlgen wrote; move it away or choose another --out"):
            replace_dataset(kind, tmp_path) if overwrite else export(kind, tmp_path)
        assert contents(tmp_path) == before
        shutil.rmtree(folder)


@pytest.mark.parametrize("kind", MOMENTS)
def test_links_are_replaced_and_what_they_lead_to_stays(tmp_path, kind):
    target = make_format(kind).folder(tmp_path / "out", NAME, "1.0.0")
    elsewhere = export(kind, tmp_path / "store")
    expected = contents(elsewhere)
    target.parent.mkdir(parents=True)
    target.symlink_to(elsewhere)
    replace_dataset(kind, tmp_path / "out")
    assert not target.is_symlink() and contents(target).keys() == expected.keys()
    assert contents(elsewhere) == expected
    partial = target.with_name(f".{target.name}.partial")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("x")
    partial.symlink_to(tmp_path / "thesis")
    with pytest.raises(UserError, match="is not a dataset that rlgen wrote"):
        writer.write_dataset(
            tmp_path / "out", NAME, Items(kind), make_format(kind), lengths=LENGTHS, size=SIZE, overwrite=True
        )
    assert (tmp_path / "thesis" / "chapter1.txt").is_file()


@pytest.mark.parametrize("kind", MOMENTS)
def test_a_second_writer_is_rejected(tmp_path, kind):
    target = make_format(kind).folder(tmp_path, NAME, "1.0.0")
    with only_writer(target.parent), pytest.raises(UserError, match="another process is writing here"):
        export(kind, tmp_path)
    export(kind, tmp_path)
