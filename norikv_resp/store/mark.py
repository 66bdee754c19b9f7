"""The store's own rows in LevelDB: the format version and the mark."""

from __future__ import annotations

import struct
from typing import NamedTuple

FORMAT_ROW = b"!format"
MARK_ROW = b"!mark"
FORMAT = 1  # On disk, frozen; a newer one is refused.

_FORMAT = struct.Struct("<I")
_MARK = struct.Struct("<QQQQ")


class Mark(NamedTuple):
    """How far LevelDB's contents reach into the log; written with every batch."""

    settled: int
    """Every frame up to this index is wholly contained."""
    contained: int
    """No record comes from a frame above this index."""
    clock: int
    """The server's clock in ms, high-water, at `contained`."""
    term: int
    """The term that wrote the mark."""


NO_MARK = Mark(0, 0, 0, 0)


def encode_mark(mark: Mark) -> bytes:
    """Encode the value of MARK_ROW."""
    return _MARK.pack(*mark)


def decode_mark(value: bytes) -> Mark:
    """Decode the value of MARK_ROW; raises ValueError when it is malformed."""
    if len(value) != _MARK.size:
        raise ValueError(f"a mark of {len(value)} bytes")
    return Mark(*_MARK.unpack(value))


def encode_format(version: int) -> bytes:
    """Encode the value of FORMAT_ROW."""
    return _FORMAT.pack(version)


def decode_format(value: bytes) -> int:
    """Decode the value of FORMAT_ROW; raises ValueError when it is malformed."""
    if len(value) != _FORMAT.size:
        raise ValueError(f"a format version of {len(value)} bytes")
    version: int = _FORMAT.unpack(value)[0]
    return version
