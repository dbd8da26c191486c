"""Published test vectors (RFC 3720, B.4) and agreement with the definition."""

import numpy as np
import pytest

from rlgen.data.crc32c import crc32c, masked_crc32c


def _by_definition(data: bytes) -> int:
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_vectors(data, expected):
    assert crc32c(data) == expected


@pytest.mark.parametrize("size", [1, 5, 63, 64, 65, 127, 128, 255, 256, 257, 1024, 4099, 65536, 65541, 131077])
def test_every_way_of_folding_agrees_with_the_definition(size):
    data = np.random.default_rng(size).bytes(size)
    assert crc32c(data) == _by_definition(data)
    assert crc32c(memoryview(data)) == crc32c(data)


def test_leading_zeros_count():
    assert len({crc32c(bytes(size)) for size in range(60, 400)}) == 340


def test_mask():
    # the rotation by 15 bits and the constant that TFRecord adds
    crc = 0xE3069283
    assert masked_crc32c(b"123456789") == (((crc >> 15) | (crc << 17 & 0xFFFFFFFF)) + 0xA282EAD8) % 2**32
