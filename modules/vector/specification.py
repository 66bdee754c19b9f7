"""Vectors as clients write them: ``FP32 blob``, ``VALUES n v …``, before them ``REDUCE n``."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, NamedTuple

from norikv_resp.command import Request, parse_int
from norikv_resp.errors import ReplyError
from norikv_resp.vector_rows import FLOAT_SIZE

from .arrays import FLOAT, np
from .errors import INVALID_SPECIFICATION

if TYPE_CHECKING:
    from collections.abc import Sequence

LARGEST_DIMENSIONS = 32768

#: Numbers, one space between two of them. What this lets through, float() judges.
_are_numbers = re.compile(rb"[-+.0-9a-zA-Z]+( [-+.0-9a-zA-Z]+)*").fullmatch


class Specification(NamedTuple):
    """A vector as it was given: little-endian single precision, perhaps with NaN or infinity.

    ``reduce`` is 0 without REDUCE; ``end`` is the place of the word after the vector.
    """

    floats: bytes
    dimensions: int
    reduce: int
    end: int


def parse_specification(request: Request, at: int, *, may_reduce: bool) -> Specification:
    """The vector that begins at word *at*; INVALID_SPECIFICATION.

    An FP32 blob is taken as it is, in O(1).
    """
    reduce = 0
    if may_reduce and len(request) > at + 2 and request[at].upper() == b"REDUCE":
        reduce = _count(request[at + 1])
        at += 2
    if len(request) < at + 2:
        raise INVALID_SPECIFICATION
    form = request[at].upper()
    if form == b"FP32":
        raw = request[at + 1]
        dimensions = dimensions_of(raw)
        end = at + 2
    elif form == b"VALUES":
        dimensions = _count(request[at + 1])
        end = at + 2 + dimensions
        if dimensions > LARGEST_DIMENSIONS or len(request) < end:
            raise INVALID_SPECIFICATION
        raw = _pack(request[at + 2 : end])
    else:
        raise INVALID_SPECIFICATION
    if reduce > dimensions:
        raise INVALID_SPECIFICATION
    return Specification(raw, dimensions, reduce, end)


def end_of_specification(request: Request, at: int) -> int:
    """Where the vector at word *at* would end, of a request that was not judged yet; 0: unknown."""
    if len(request) > at + 2 and request[at].upper() == b"REDUCE":
        at += 2
    if len(request) < at + 2:
        return 0
    if request[at].upper() != b"VALUES":
        return at + 2
    try:
        return at + 2 + _count(request[at + 1])
    except ReplyError:
        return 0


def dimensions_of(blob: bytes) -> int:
    """How many numbers a blob holds; INVALID_SPECIFICATION."""
    dimensions, rest = divmod(len(blob), FLOAT_SIZE)
    if rest or not 1 <= dimensions <= LARGEST_DIMENSIONS:
        raise INVALID_SPECIFICATION
    return dimensions


def _count(word: bytes) -> int:
    try:
        count = parse_int(word)
    except ReplyError:
        raise INVALID_SPECIFICATION from None
    if count < 1:
        raise INVALID_SPECIFICATION
    return count


def _pack(words: Sequence[bytes]) -> bytes:
    """Numbers as single precision; INVALID_SPECIFICATION for other words and for NaN."""
    try:
        if not _are_numbers(b" ".join(words)):
            raise INVALID_SPECIFICATION
        values = list(map(float, words))
    except ValueError:
        raise INVALID_SPECIFICATION from None
    if any(value != value for value in values):
        raise INVALID_SPECIFICATION
    try:
        return struct.pack(f"<{len(values)}f", *values)
    except OverflowError:  # beyond single precision: infinite, which is judged later
        with np.errstate(over="ignore"):
            return np.array(values).astype(FLOAT).tobytes()
