"""Which keys a database may hold at all: most look-ups of new keys need not ask LevelDB.

LevelDB takes 3-5 µs to say that a key is not there, and 15 in the midst of loading, which made
half of the time of a load. A database that was seen empty, because its data directory is new or
because it was flushed, notes every key from then on; what was not noted cannot be there.
"""

from __future__ import annotations

from itertools import combinations
from typing import Final

_FIRST: Final = 1 << 12
_GROWTH: Final = 16
#: The largest size in bytes: with 10 million keys one look-up in ten is made in vain.
_LAST: Final = 1 << 24

#: Two bits of a byte, for each value of five bits of a hash.
_PAIRS: Final = bytes(
    [1 << one | 1 << two for one, two in combinations(range(8), 2)] + [3, 5, 9, 17]
)


class SeenKeys:
    """A Bloom filter with both bits of a key in one byte, so that a look-up is one cache miss."""

    __slots__ = ("_bits", "_mask", "_room")

    def __init__(self) -> None:
        self._bits = bytearray(_FIRST)
        self._mask = _FIRST - 1
        #: Keys until it grows.
        self._room = _FIRST // 4

    def add(self, key: bytes) -> None:
        """Note that *key* is stored. O(1)."""
        number = hash(key)
        self._bits[number & self._mask] |= _PAIRS[number >> 40 & 31]
        self._room -= 1
        if not self._room and len(self._bits) < _LAST:
            # A key's byte is found by the low bits of its hash: it is in one of the copies.
            self._bits *= _GROWTH
            self._mask = len(self._bits) - 1
            self._room = len(self._bits) // 4

    def may_hold(self, key: bytes) -> bool:
        """False if *key* was never noted. O(1), 0.2 µs."""
        number = hash(key)
        pair = _PAIRS[number >> 40 & 31]
        return self._bits[number & self._mask] & pair == pair
