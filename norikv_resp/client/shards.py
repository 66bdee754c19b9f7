"""NoriKV's mapping of keys to shards, for code that still asks for it."""

from __future__ import annotations

import xxhash

_MASK = 0xFFFFFFFFFFFFFFFF


def shard_of(key: bytes, total_shards: int) -> int:
    """The shard of *key*: jump consistent hashing (Lamping and Veach, 2014) over XXH64."""
    state = xxhash.xxh64_intdigest(key)
    bucket, candidate = -1, 0
    while candidate < total_shards:
        bucket = candidate
        state = (state * 2862933555777941757 + 1) & _MASK
        candidate = int((bucket + 1) * (2**31 / ((state >> 33) + 1)))
    return bucket
