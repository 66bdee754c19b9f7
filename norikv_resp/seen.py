"""Which keys a database may hold at all: most look-ups of new keys need not ask LevelDB.

LevelDB takes 3-5 µs to say that a key is not there, and 15 in the midst of loading, which made
half of the time of a load. A database that was seen empty, because its data directory is new or
because it was flushed, notes every key from then on; what was not noted cannot be there.
"""

from __future__ import annotations

from array import array
from itertools import combinations
from typing import Final

#: Sizes in words of 16 bits.
_FIRST: Final = 1 << 11
_GROWTH: Final = 16
#: 32 MB: with 10 million keys one look-up in thirty is made in vain.
_LAST: Final = 1 << 24

#: Three bits of a word, for each value of nine bits of a hash.
_PATTERNS: Final = [
    1 << one | 1 << two | 1 << three for one, two, three in combinations(range(16), 3)
][:512]


class SeenKeys:
    """A Bloom filter with all bits of a key in one word, so that a look-up is one cache miss."""

    __slots__ = ("_mask", "_room", "_words")

    def __init__(self) -> None:
        self._words = array("H", bytes(2 * _FIRST))
        self._mask = _FIRST - 1
        #: Keys until it grows.
        self._room = _FIRST // 4

    def add(self, key: bytes) -> None:
        """Note that *key* is stored. O(1)."""
        number = hash(key)
        self._words[number & self._mask] |= _PATTERNS[number >> 40 & 511]
        self._room -= 1
        if not self._room and len(self._words) < _LAST:
            # A key's word is found by the low bits of its hash: it is in one of the copies.
            self._words *= min(_GROWTH, _LAST // len(self._words))
            self._mask = len(self._words) - 1
            self._room = len(self._words) // 4

    def may_hold(self, key: bytes) -> bool:
        """False if *key* was never noted. O(1), 0.2 µs."""
        number = hash(key)
        pattern = _PATTERNS[number >> 40 & 511]
        return self._words[number & self._mask] & pattern == pattern
