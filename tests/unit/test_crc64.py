"""The checksum under Redis's payloads."""

from __future__ import annotations

import random

import pytest

from norikv_resp import crc64 as module
from norikv_resp.crc64 import crc64


def bytewise(data: bytes) -> int:
    """The definition: one bit at a time."""
    checksum = 0
    for byte in data:
        checksum ^= byte
        for _ in range(8):
            checksum = checksum >> 1 ^ (0x95AC9329AC4BC9B5 if checksum & 1 else 0)
    return checksum


def test_checksums_equal_the_published_ones() -> None:
    assert crc64(b"") == 0
    assert crc64(b"123456789") == 0xE9C6D914C4B8D9CA
    text = (
        b"This is a test of the emergency broadcast system."
        b"This is a test of the emergency broadcast system."
    )
    assert crc64(text) == bytewise(text)


@pytest.mark.parametrize("extra", [-1, 0, 1, 7, 8, 9, module._BLOCK - 1, module._BLOCK + 3])
def test_folding_long_data_gives_the_same_checksum(extra: int) -> None:
    data = random.Random(extra).randbytes(module._FOLD_FROM + extra)
    assert crc64(data) == bytewise(data)
