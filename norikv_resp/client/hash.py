"""NoriKV's mapping of keys to shards, and its conversions between text and bytes."""

from __future__ import annotations

import xxhash

from norikv_resp.client.errors import InvalidArgumentError
from norikv_resp.client.types import Key, Value

_MASK = 0xFFFFFFFFFFFFFFFF


def xxhash64(key: Key) -> int:
    """XXH64 of *key*, text as UTF-8, with seed 0: an unsigned number of 64 bits."""
    return xxhash.xxh64_intdigest(key_to_bytes(key))


def jump_consistent_hash(hash_value: int, num_buckets: int) -> int:
    """The bucket of a hash: Lamping and Veach, 2014. A new bucket takes its share from all others.

    Raises:
        ValueError: there is no bucket.
    """
    if num_buckets < 1:
        raise ValueError(f"num_buckets must be at least 1, not {num_buckets}")
    state = hash_value & _MASK
    bucket, candidate = -1, 0
    while candidate < num_buckets:
        bucket = candidate
        state = (state * 2862933555777941757 + 1) & _MASK
        candidate = int((bucket + 1) * (2**31 / ((state >> 33) + 1)))
    return bucket


def get_shard_for_key(key: Key, total_shards: int = 1024) -> int:
    """The shard in which NoriKV would keep *key*; nothing depends on it here."""
    return jump_consistent_hash(xxhash64(key), total_shards)


def key_to_bytes(key: Key) -> bytes:
    """*key* as it is sent, text as UTF-8. InvalidArgumentError if it is neither text nor bytes."""
    if isinstance(key, str):
        return key.encode()
    if isinstance(key, bytes):
        return key
    raise InvalidArgumentError(f"a key is str or bytes, not {type(key).__name__}")


def value_to_bytes(value: Value) -> bytes:
    """*value* as it is stored, text as UTF-8. InvalidArgumentError for what is no value."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    raise InvalidArgumentError(f"a value is str or bytes, not {type(value).__name__}")


def bytes_to_string(data: bytes) -> str:
    """A value as the text that it was put as."""
    return data.decode()
