import struct

import pytest

from rlgen.data.formats.rlds.tfrecord import read_records
from rlgen.training.metrics import NAME, EventWriter, Metrics, read_metrics, scalars


def fields(message: bytes) -> list[tuple[int, object]]:
    """Numbers and contents of a protocol buffer's fields, read by its wire format."""
    found, place = [], 0

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = message[place]
            place += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while place < len(message):
        key = varint()
        number, kind = key >> 3, key & 7
        if kind == 0:
            found.append((number, varint()))
        elif kind == 1:
            found.append((number, struct.unpack("<d", message[place : place + 8])[0]))
            place += 8
        elif kind == 5:
            found.append((number, struct.unpack("<f", message[place : place + 4])[0]))
            place += 4
        else:
            size = varint()
            found.append((number, message[place : place + size]))
            place += size
    return found


def events(folder) -> list[tuple[int, dict[str, float]]]:
    """Steps and scalars of every event but the first, which says the version."""
    first, *others = [dict(fields(record)) for record in read_records(folder / NAME)]
    assert first[3] == b"brain.Event:2"
    out = []
    for event in others:
        values = [dict(fields(part)) for _, part in fields(event[5])]
        out.append((event[2], {value[1].decode(): value[2] for value in values}))
    return out


def test_every_line_is_an_event_and_a_resumed_stage_writes_none_twice(tmp_path):
    path = tmp_path / "metrics.jsonl"
    metrics = Metrics(path, keep=0)
    for step in (1, 200, 70000):
        metrics.write(step, loss=step / 4, seconds_update=1.5, test={"successes": 3, "trials": 4}, note="words")
    writer = EventWriter(tmp_path)
    resumed = Metrics(path, keep=200, sinks=[writer])
    writer.start(read_metrics(path))
    resumed.write(300, loss=2.0)
    found = events(tmp_path)
    assert [step for step, _ in found] == [1, 200, 300]
    assert found[1][1] == {"loss": 50.0, "seconds/update": 1.5, "test/successes": 3.0, "test/trials": 4.0}
    assert found[2][1] == {"loss": 2.0}


def test_what_is_no_number_is_left_out():
    assert scalars({"step": 3, "a": 1, "b": "x", "c": None, "d": {"e": 2.5}}) == {"a": 1.0, "d/e": 2.5}


def test_without_the_package_one_line_says_what_to_install(monkeypatch):
    import sys

    from rlgen.core.errors import UserError
    from rlgen.training.metrics import WandbLog

    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="`uv sync --extra wandb` or `pip install wandb`, or leave out --wandb"):
        WandbLog("project", "name", {})
