"""Framing of records compared with a real file, and damage by file and record."""

import pytest
from shared import shared_dir

from rlgen.core.errors import UserError
from rlgen.data.formats.rlds.tfrecord import frame, masked_crc32c, read_record_at, read_records, record_offsets

RECORDS = [b"", b"a", b"b" * 1000, bytes(range(256)) * 300]


def test_checksums_are_those_of_the_format():
    # CRC-32C of "123456789" as RFC 3720 has it, rotated by 15 bits, and the constant that TFRecord adds
    crc = 0xE3069283
    assert masked_crc32c(b"123456789") == (((crc >> 15) | (crc << 17 & 0xFFFFFFFF)) + 0xA282EAD8) % 2**32


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "x.tfrecord"
    with open(path, "wb") as out:
        for record in RECORDS:
            header, footer = frame(record)
            out.write(header + record + footer)
    return path


def test_records_come_back_unchanged(file):
    assert list(read_records(file)) == RECORDS
    offsets = record_offsets(file)
    assert [read_record_at(file, offset, index) for index, offset in enumerate(offsets)] == RECORDS


def test_framing_a_real_file_again_gives_its_bytes():
    path = next(shared_dir("golden/rlds/bridge_dataset/1.0.0").glob("*train*"))
    again = b"".join(header + record + footer for record in read_records(path) for header, footer in [frame(record)])
    assert again == path.read_bytes()


def test_a_byte_anywhere_is_noticed_and_its_record_named(file):
    whole = file.read_bytes()
    starts = [*record_offsets(file), len(whole)]
    for position in [*range(0, 60), 500, 1040, 1060, 5000, len(whole) - 1]:
        damaged = bytearray(whole)
        damaged[position] ^= 4
        file.write_bytes(damaged)
        record = sum(position >= start for start in starts) - 1
        with pytest.raises(UserError, match=rf"x\.tfrecord: record {record} is damaged"):
            list(read_records(file))


@pytest.mark.parametrize("cut", [1, 4, 5, 100, 76_800])
def test_a_truncated_file_gives_its_whole_records_first(file, cut):
    file.write_bytes(file.read_bytes()[:-cut])
    records = read_records(file)
    assert [next(records) for _ in range(3)] == RECORDS[:3]
    with pytest.raises(UserError, match="record 3 is damaged, the file ends inside it"):
        next(records)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.tfrecord: cannot be read"):
        next(read_records(tmp_path / "none.tfrecord"))
