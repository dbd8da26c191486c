"""Damage below checksums: records, tables and archives are changed, and their checksums computed again.

This is what reaches deep into a reader; damage to a file's bytes hardly ever does, as the checksums notice it.
"""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rlgen.bench.fuzz.damage import BYTE_KINDS, damage_bytes
from rlgen.data.formats.array_record.record_file import RecordFile, write_records
from rlgen.data.formats.rlds.tfrecord import frame, read_records

Random = np.random.Generator
_NUMBERS = (float("nan"), float("inf"), -1e38, 0.0, 0.25)


def damage_records(path: Path, random: Random) -> str:
    """Changes one record, column or array of a file in place, with valid checksums; returns the kind of change.

    Args:
      path: a TFRecord, array_record, parquet or `.npz` file.
      random: draws place and kind.
    """
    if path.suffix == ".parquet":
        return _damage_parquet(path, random)
    if path.suffix == ".npz":
        return _damage_npz(path, random)
    if ".array_record-" in path.name:
        with RecordFile(path) as file:
            records = [file.read(index) for index in range(len(file))]
        kind = _damage_one(records, random)
        write_records(path, records)
        return kind
    records = list(read_records(path))
    kind = _damage_one(records, random)
    path.write_bytes(b"".join(part for record in records for part in _framed(record)))
    return kind


def _framed(record: bytes) -> tuple[bytes, bytes, bytes]:
    header, footer = frame(record)
    return header, record, footer


def _damage_one(records: list[bytes], random: Random) -> str:
    """Changes one record of a list, or the list itself."""
    place = int(random.integers(len(records)))
    draw = random.random()
    if draw < 0.1:
        other = int(random.integers(len(records)))
        records[place], records[other] = records[other], records[place]
        return "records exchanged"
    if draw < 0.2:
        records.insert(place, records[place]) if random.random() < 0.5 else records.pop(place)
        return "records repeated or removed"
    if draw < 0.5:
        records[place] = damage_bytes(records[place], str(random.choice(BYTE_KINDS)), random)
        return "bytes of a record"
    records[place] = _damage_example(records[place], random)
    return "features of a record"


def _damage_example(record: bytes, random: Random) -> bytes:
    """Changes the values of one feature of a `tf.Example`."""
    from tensorflow_datasets.proto import tf_example_pb2

    message = tf_example_pb2.Example.FromString(record)
    features = message.features.feature
    name = str(random.choice(sorted(features)))
    kind = features[name].WhichOneof("kind")
    if kind is None or random.random() < 0.1:
        del features[name]
        return message.SerializeToString()
    values = getattr(features[name], kind).value
    change = int(random.integers(6))
    place = int(random.integers(len(values))) if len(values) else 0
    if change == 0 or not len(values):
        values.extend(values[:1])
    elif change == 1:
        del values[place]
    elif change == 2:
        del values[:]
    elif change == 3:  # of another type
        del features[name]
        features[name].int64_list.value.extend([int(random.integers(-5, 5))] * len(values))
    elif kind == "bytes_list":
        values[place] = _hostile_bytes(values[place], random)
    else:
        number = _NUMBERS[random.integers(len(_NUMBERS))]
        values[place] = number if kind == "float_list" else int(random.integers(-3, 1 << 62))
    return message.SerializeToString()


def _hostile_bytes(data: bytes, random: Random) -> bytes:
    """Returns other bytes in place of an image or a text, such as an image that says it is huge."""
    start = data.find(b"\xff\xc0")
    if start >= 0 and random.random() < 0.5:
        return data[: start + 5] + random.bytes(4) + data[start + 9 :]
    return (b"", b"\xff" * 10, damage_bytes(data, str(random.choice(BYTE_KINDS)), random))[random.integers(3)]


def _damage_parquet(path: Path, random: Random) -> str:
    """Changes one column of one row group."""
    import pyarrow
    import pyarrow.parquet as parquet

    with parquet.ParquetFile(path) as file:
        tables = [file.read_row_group(group) for group in range(file.num_row_groups)]
    place = int(random.integers(len(tables)))
    table = tables[place]
    name = str(random.choice(table.column_names))
    index, kind = table.column_names.index(name), int(random.integers(5))
    if kind == 0:
        tables = [part.drop_columns([name]) for part in tables]
    elif kind == 1:
        tables[place] = table.slice(1)
    elif kind == 2:  # a column of another type
        types: list[Any] = [pyarrow.int8(), pyarrow.string(), pyarrow.list_(pyarrow.string())]
        new = types[random.integers(len(types))]
        columns = [pyarrow.nulls(len(part), new) for part in tables]
        tables = [part.set_column(index, name, column) for part, column in zip(tables, columns, strict=True)]
    else:
        rows = table[name].to_pylist()
        row = int(random.integers(len(rows)))
        rows[row] = _hostile_cell(rows[row], random)
        column = pyarrow.array(rows, table.schema.field(name).type)
        tables[place] = table.set_column(index, table.schema.field(name), column)
    with parquet.ParquetWriter(path, tables[0].schema, write_page_checksum=True) as writer:
        for part in tables:
            writer.write_table(part)
    return "a column"


def _hostile_cell(value: Any, random: Random) -> Any:
    if random.random() < 0.2:
        return None
    if isinstance(value, list):
        value[random.integers(len(value))] = _NUMBERS[random.integers(len(_NUMBERS))]
        return value
    if isinstance(value, dict):
        data = value["bytes"]
        return {"bytes": None if random.random() < 0.2 else _hostile_bytes(data, random), "path": None}
    return "x" if isinstance(value, str) else value + 1


def _damage_npz(path: Path, random: Random) -> str:
    """Changes one array of an archive: its header, its numbers, or its presence."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    name = str(random.choice(sorted(members)))
    changes: tuple[Callable[[bytes], bytes], ...] = (
        lambda data: damage_bytes(data, str(random.choice(BYTE_KINDS)), random),
        lambda data: damage_bytes(data[:128], "bits", random) + data[128:],
        lambda data: _with_header(data, random),
        lambda data: _with_number(data, random),
    )
    if random.random() < 0.1:
        del members[name]
    else:
        members[name] = changes[random.integers(len(changes))](members[name])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    return "an array"


def _with_header(data: bytes, random: Random) -> bytes:
    """Returns an array of another shape or type, with the same bytes."""
    array = np.lib.format.read_array(io.BytesIO(data))
    shape = [(10**12,), (-1,), (0,), (*array.shape, 1), array.shape[::-1], (2**31, 2**31)][random.integers(6)]
    dtype = str(random.choice(["<f8", "<f4", "|O", "|S8", ">i8", "|b1"]))
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": dtype, "fortran_order": False, "shape": tuple(shape)})
    return out.getvalue() + array.tobytes()


def _with_number(data: bytes, random: Random) -> bytes:
    array = np.lib.format.read_array(io.BytesIO(data)).copy()
    if array.size and array.dtype.kind == "f":
        array.flat[random.integers(array.size)] = _NUMBERS[random.integers(len(_NUMBERS))]
    out = io.BytesIO()
    np.lib.format.write_array(out, array[:-1] if array.ndim and random.random() < 0.3 else array)
    return out.getvalue()
