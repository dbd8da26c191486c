"""Datasets whose indices, tables or archives say what cannot be, through every command that reads them."""

import io
import json
import shutil
import struct
import zipfile

import h5py
import numpy as np
import pytest
from dataset_doors import DOORS, THROUGH, refusal
from export_of_noise import COUNT, SIZE, STEPS, export
from foreign_rlds import Foreign

from rlgen.core.errors import UserError
from rlgen.data.dataset import FORMATS, open_dataset
from rlgen.data.frames import RecordFrames
from rlgen.data.index import read_index

DEEP = "[" * 100_000


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return {kind: export(kind, folder / kind) for kind in FORMATS}


@pytest.fixture
def copy_of(datasets, tmp_path):
    return lambda kind: shutil.copytree(datasets[kind], tmp_path / "libero_object_no_noops" / "1.0.0")


def edit(path, change) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def set_entry(key, value):
    return lambda entries: entries[0].__setitem__(key, value)


def set_plan(key, value):
    return lambda manifest: manifest["plan"].__setitem__(key, value)


INDEX = {
    "steps of -1": ("steps", -1, "[0].steps is -1, expected an integer from 1"),
    "steps of 0": ("steps", 0, "[0].steps is 0"),
    "steps as a text": ("steps", "3", "[0].steps is '3', expected an integer"),
    "half a step": ("steps", 2.5, "[0].steps is 2.5"),
    "other steps": ("steps", 4, "episodes and steps of"),
    "other record": ("record", 1, "[0].record is 1, expected 0"),
    "file as a number": ("file", 5, "[0].file is 5, expected a text"),
    "file by its root": ("file", "/etc/hostname", "[0].file is '/etc/hostname', expected the name of a file in"),
    "file outside": ("file", "../../x", "[0].file is '../../x', expected the name of a file in"),
    "no prompt": ("prompt", None, "[0] is an object of 5, expected an object with 'prompt'"),
}
MANIFEST = {
    "size as a text": (set_plan("size", "x"), "plan.size is 'x', expected an integer from 1 to 4096"),
    "no size": (set_plan("size", None), "plan is an object of 8, expected an object with 'size'"),
    "size of -1": (set_plan("size", -1), "plan.size is -1, expected an integer from 1 to 4096"),
    "size of a billion": (set_plan("size", 10**9), "plan.size is 1000000000, expected an integer from 1 to 4096"),
    "file outside": (lambda m: m["plan"]["files"].__setitem__(0, "../x"), "plan.files[0] is '../x'"),
    "a file of no plan": (lambda m: m["finished"][0].__setitem__("file", "x"), "finished[0].file is 'x'"),
    "no hash": (lambda m: m["finished"][0].__setitem__("sha256", "x" * 64), "finished[0].sha256 is 'xxx"),
}


@pytest.mark.parametrize("name", INDEX)
@pytest.mark.parametrize("kind", FORMATS)
def test_an_index_that_cannot_be_is_named_with_its_place(copy_of, kind, name):
    folder, (key, value, message) = copy_of(kind), INDEX[name]
    edit(folder / "episodes.json", set_entry(key, value))
    with pytest.raises(UserError) as caught:
        open_dataset(folder)
    assert str(folder / "episodes.json") in str(caught.value) and message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", MANIFEST)
@pytest.mark.parametrize("kind", FORMATS)
def test_a_manifest_that_cannot_be_is_named_with_its_place(copy_of, kind, name):
    folder, (change, message) = copy_of(kind), MANIFEST[name]
    edit(folder / "export.json", change)
    with pytest.raises(UserError) as caught:
        open_dataset(folder)
    assert str(folder / "export.json") in str(caught.value) and message in str(caught.value)


@pytest.mark.parametrize("file", ["export.json", "episodes.json", "dataset_info.json", "features.json"])
@pytest.mark.parametrize("door", DOORS)
def test_json_that_is_nested_too_deeply_is_one_line_in_every_command(capsys, copy_of, tmp_path, door, file):
    folder = copy_of("rlds")
    (folder / file).write_text(DEEP)
    line = refusal(capsys, door, folder, tmp_path / "out")
    assert "nested too deeply" in line and f"{folder}: no readable {file}" in line


@pytest.mark.parametrize("door", DOORS)
def test_an_index_that_cannot_be_is_one_line_in_every_command(capsys, copy_of, tmp_path, door):
    folder = copy_of("array_record")
    edit(folder / "episodes.json", set_entry("steps", -1))
    assert "[0].steps is -1" in refusal(capsys, door, folder, tmp_path / "out")


def test_a_damaged_card_is_one_line(capsys, copy_of, tmp_path):
    folder = copy_of("rlds")
    for text, message in ((DEEP, "nested too deeply"), ("5", "its content is 5, expected an object")):
        (folder / "dataset_card.json").write_text(text)
        for door in ("show", "quality", "merge"):
            assert message in refusal(capsys, door, folder, tmp_path / "out")


# Numbers that are not finite ---------------------------------------------------------------------------------------


def spoil_table(folder, value: float) -> None:
    with np.load(folder / "steps.npz") as stored:
        columns = dict(stored)
    columns["action"][STEPS + 1, 2] = value
    np.savez(folder / "steps.npz", **columns)


def spoil_parquet(folder, value: float) -> None:
    import pyarrow
    import pyarrow.parquet as parquet

    path = folder / read_index(folder)[1].file
    file = parquet.ParquetFile(path)
    tables = [file.read_row_group(group) for group in range(file.num_row_groups)]
    rows = tables[1]["action"].to_pylist()
    rows[1][2] = value
    place = tables[1].schema.get_field_index("action")
    column = pyarrow.array(rows, tables[1].schema.field(place).type)
    tables[1] = tables[1].set_column(place, tables[1].schema.field(place), column)
    with parquet.ParquetWriter(path, file.schema_arrow, write_page_checksum=True) as writer:
        for table in tables:
            writer.write_table(table)


def spoil_hdf5(folder, value: float) -> None:
    with h5py.File(folder / read_index(folder)[1].file, "r+") as file:
        file["data/demo_1/obs/ee_pos"][1, 2] = value


SPOIL = {
    "array_record": (
        spoil_table,
        "steps.npz: episode libero_object/task_0/noise/train-1-1: action: not finite at step 1",
    ),
    "lerobot": (spoil_parquet, "record 1 (episode libero_object/task_0/noise/train-1-1): action: not finite at step 1"),
    "hdf5": (spoil_hdf5, "/data/demo_1/obs/ee_pos: not finite at step 1"),
}


@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize("kind", SPOIL)
@pytest.mark.parametrize("door", DOORS)
def test_numbers_that_are_not_finite_are_named_in_every_command(capsys, copy_of, tmp_path, door, kind, value):
    folder, (spoil, message) = copy_of(kind), SPOIL[kind]
    spoil(folder, value)
    line = refusal(capsys, door, folder, tmp_path / "out")
    assert message in line and f"number 2 is {value}" in line and str(folder) in line


def test_what_is_sound_goes_through_every_command(datasets, tmp_path):
    for kind, folder in datasets.items():
        for door, go in THROUGH.items():
            go(folder, tmp_path / f"{kind}-{door}")


# Records and tables that do not belong together --------------------------------------------------------------------


def test_a_table_of_other_steps_is_noticed(copy_of):
    folder = copy_of("array_record")
    with np.load(folder / "steps.npz") as stored:
        columns = dict(stored)
    columns["action"][0, 0] = 0.125
    np.savez(folder / "steps.npz", **columns)
    with pytest.raises(UserError, match=r"action of episode .*train-0-0 is not that in steps\.npz"):
        open_dataset(folder)[0]


def test_episodes_that_changed_their_lengths_are_noticed(copy_of):
    """The index of a shard adds up, and its records belong to other episodes."""
    folder = copy_of("array_record")

    def exchange(entries):
        entries[0]["steps"], entries[1]["steps"] = STEPS + 1, STEPS - 1

    edit(folder / "episodes.json", exchange)
    with pytest.raises(UserError, match="record 3 is step 0 of"):
        open_dataset(folder)[0]
    with pytest.raises(UserError, match=r"the record is step 0 of .*train-1-1, expected step 3"):
        RecordFrames(folder).images(np.arange(COUNT * STEPS))


@pytest.mark.parametrize("kind", FORMATS)
def test_an_episode_of_another_name_is_noticed(copy_of, kind):
    folder = copy_of(kind)
    edit(folder / "episodes.json", set_entry("name", "libero_object/task_0/noise/train-5-5"))
    with pytest.raises(UserError, match="name is 'libero_object/task_0/noise/train-0-0', not"):
        open_dataset(folder)[0]


# Archives ----------------------------------------------------------------------------------------------------------


def npy(shape: tuple[int, ...], data: bytes = b"", dtype: str = "<f4") -> bytes:
    header = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode()
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + data


def archive(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(f"{name}.npy", data)
    return out.getvalue()


def tables_of(state: bytes) -> bytes:
    steps = COUNT * STEPS
    rest = {name: npy((steps, 7), bytes(steps * 28)) for name in ("joint_state", "action")}
    return archive({"state": state, **rest})


TABLES = {
    "10^12 numbers": (lambda: tables_of(npy((10**12, 8))), "state has shape (1000000000000, 8), expected (27, 8)"),
    "too few numbers": (lambda: tables_of(npy((27, 8), b"1234")), "state claims 216 numbers in"),
    "zeros": (lambda: tables_of(npy((27, 8), bytes(70_000_000))), "state.npy claims 70000128 bytes out of"),
    "objects": (lambda: tables_of(npy((27, 8), b"", "|O")), "state is of object, expected numbers"),
    "texts": (lambda: tables_of(npy((27, 8), bytes(27 * 32), "|S4")), "state is of |S4, expected numbers"),
    "no header": (lambda: tables_of(b"x" * 100), "steps.npz: not a readable table of steps"),
    "no such array": (lambda: archive({"action": npy((27, 7), bytes(27 * 28))}), "no item named 'state.npy'"),
    "no archive": (lambda: b"PK but nothing else", "steps.npz: not a readable table of steps"),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_compared_with_the_index_before_they_are_unpacked(copy_of, name):
    folder, (make, message) = copy_of("array_record"), TABLES[name]
    (folder / "steps.npz").write_bytes(make())
    with pytest.raises(UserError) as caught:
        RecordFrames(folder)
    assert message in str(caught.value) and str(folder / "steps.npz") in str(caught.value)


def test_a_missing_table_is_named(copy_of):
    folder = copy_of("array_record")
    (folder / "steps.npz").unlink()
    with pytest.raises(UserError, match=r"steps\.npz: not a readable table"):
        open_dataset(folder)[0]


# Datasets that cannot be read yet ----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v1.6", "v4.0", None])
@pytest.mark.parametrize("door", DOORS)
def test_lerobot_datasets_of_others_are_named_with_their_version(capsys, tmp_path, door, version):
    (tmp_path / "data/meta").mkdir(parents=True)
    (tmp_path / "data/meta/info.json").write_text(json.dumps({"codebase_version": version, "fps": 10}))
    line = refusal(capsys, door, tmp_path / "data", tmp_path / "out")
    assert f"a LeRobot dataset {f'of version {version}' if version else 'without a version'}" in line
    assert "can be read" in line


def test_an_rlds_dataset_of_others_may_have_an_index_of_its_own(tmp_path):
    folder = Foreign().write(tmp_path)
    (folder / "episodes.json").write_text("{}")
    (folder / "export.json").write_text('{"by": "somebody else"}')
    assert len(open_dataset(folder)) == 3
    assert open_dataset(folder)[0].image[0].shape == (8, 8, 3) != (SIZE, SIZE, 3)
