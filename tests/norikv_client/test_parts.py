"""The client's parts without a server: versions, shards, pauses, replies, errors."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import exceptions

from norikv_resp.client import (
    ABSENT,
    ClientConfig,
    InvalidArgumentError,
    NoriKVClient,
    RetryConfig,
    Version,
    as_client,
    errors,
)
from norikv_resp.client.hash import bytes_to_string, get_shard_for_key, jump_consistent_hash
from norikv_resp.client.nodes import Nodes
from norikv_resp.client.replies import as_resp2, error_of
from norikv_resp.client.retry import RetryPolicy
from norikv_resp.client.vectors import packed

# -- versions --------------------------------------------------------------------


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_versions_survive_their_text(term: int, index: int) -> None:
    version = Version(term, index)
    assert Version.parse(str(version)) == Version.parse(str(version).encode()) == version


def test_versions_are_ordered_by_term_first() -> None:
    assert Version(1, 99) < Version(2, 0) < Version(2, 1)
    assert Version.parse(b"0") == Version.parse("0-0") == ABSENT < Version(0, 1)
    assert len({Version(1, 2), Version(1, 2)}) == 1


@pytest.mark.parametrize("text", ["", "1", "-", "1-", "-1", "1-2-3", "a-b", " 1-2", "1-2 "])
def test_what_is_not_a_version(text: str) -> None:
    with pytest.raises(ValueError, match="not a version"):
        Version.parse(text)


# -- shards ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "shard"),
    [("hello", 309), ("user:123", 928), ("test-key", 504), ("", 332), ("🌍", 393), ("abc", 722)],
)
def test_keys_are_in_the_shards_where_norikv_has_them(key: str, shard: int) -> None:
    client = NoriKVClient(ClientConfig(["localhost:6379"]))
    assert client.get_shard_for_key(key) == client.get_shard_for_key(key.encode()) == shard


def test_a_shard_moves_few_keys_when_one_is_added() -> None:
    keys = [b"key-%d" % number for number in range(1000)]
    moved = [key for key in keys if get_shard_for_key(key, 100) != get_shard_for_key(key, 101)]
    assert 0 < len(moved) < 40
    assert all(get_shard_for_key(key, 101) == 100 for key in moved)
    with pytest.raises(InvalidArgumentError):
        NoriKVClient(ClientConfig(["localhost:6379"], total_shards=0))
    with pytest.raises(ValueError, match="num_buckets"):
        jump_consistent_hash(7, 0)
    assert bytes_to_string("tëxt".encode()) == "tëxt"


# -- retries ---------------------------------------------------------------------


def test_pauses_grow_are_spread_and_bounded() -> None:
    config = RetryConfig(
        initial_delay_ms=10, max_delay_ms=100, backoff_multiplier=2, jitter_ms=5, max_attempts=9
    )
    policy = RetryPolicy(config, Nodes.__new__(Nodes), 1.0)
    for attempts, most in ((1, 15), (2, 25), (3, 45), (4, 85), (5, 100), (60, 100)):
        pauses = [policy.pause(attempts) * 1000 for _ in range(300)]
        assert max(pauses) <= most
        assert min(pauses) < most * 0.1 and max(pauses) > most * 0.9  # over the whole of it


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_attempts": 0},
        {"initial_delay_ms": -1},
        {"backoff_multiplier": 0.5},
        {"deadline_ms": 0},
    ],
)
def test_a_retry_policy_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        NoriKVClient(ClientConfig(["localhost:6379"], retry=RetryConfig(**wrong)))


# -- replies ---------------------------------------------------------------------


def test_replies_are_those_of_resp2() -> None:
    reply = [{b"a": 1.5, b"b": [True, None]}, {b"x"}, 2.0, False, b"", 7]
    assert as_resp2(reply) == [[b"a", b"1.5", b"b", [1, None]], [b"x"], b"2", 0, b"", 7]


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (exceptions.ResponseError("WRONGTYPE Operation"), errors.WrongTypeError, "WRONGTYPE"),
        (exceptions.ResponseError("wrong number"), InvalidArgumentError, "INVALID_ARGUMENT"),
        (
            exceptions.ResponseError("IDEMMISMATCH this token"),
            errors.IdempotencyMismatchError,
            "IDEMPOTENCY_MISMATCH",
        ),
        (
            exceptions.ResponseError("too many idempotency records: raise"),
            errors.ResourceExhaustedError,
            "RESOURCE_EXHAUSTED",
        ),
        (exceptions.OutOfMemoryError("memory"), errors.ResourceExhaustedError, None),
        (exceptions.ResponseError("MISCONF Writes are refused"), errors.UnavailableError, None),
        (exceptions.BusyLoadingError("loading"), errors.UnavailableError, "UNAVAILABLE"),
        (exceptions.ReadOnlyError("replica"), errors.NotLeaderError, "NOT_LEADER"),
        (exceptions.NoPermissionError("no"), errors.PermissionDeniedError, "PERMISSION_DENIED"),
        (exceptions.AuthenticationError("no"), errors.PermissionDeniedError, None),
        (exceptions.ExecAbortError("Transaction"), InvalidArgumentError, None),
        (exceptions.ResponseError("internal error, see"), errors.NoriKVError, "INTERNAL"),
        (exceptions.ResponseError("DB index is out of"), InvalidArgumentError, None),
        (exceptions.ResponseError("NOTBUSY No scripts"), errors.NoriKVError, "NOTBUSY"),
    ],
)
def test_what_the_server_says_in_the_clients_errors(
    error: Exception, kind: type[errors.NoriKVError], code: str | None
) -> None:
    known = error_of(error)
    assert type(known) is kind
    assert code is None or known.code == code
    assert not known.outcome_unknown


def test_a_failed_commit_whose_outcome_is_unknown_says_so() -> None:
    text = "MISCONF Errors writing to the commit log: EIO; the outcome is unknown, retry with IDEM."
    known = error_of(exceptions.ResponseError(text))
    assert known is not None and known.outcome_unknown


def test_a_broken_connection_is_nothing_that_the_server_said() -> None:
    assert error_of(exceptions.ConnectionError("reset")) is None
    assert error_of(exceptions.TimeoutError("late")) is None


# -- words -----------------------------------------------------------------------


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_vectors_are_packed_as_little_endian_floats(vector: list[float]) -> None:
    import struct

    assert list(struct.unpack(f"<{len(vector)}f", packed(vector))) == vector


@pytest.mark.parametrize("wrong", [[], ["a"], [1e300], [None]])
def test_what_is_not_a_vector(wrong: list[Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        packed(wrong)


def test_as_client_takes_clients_only() -> None:
    client = NoriKVClient(ClientConfig(["localhost:6379"]))
    assert as_client(client) is client
    with pytest.raises(InvalidArgumentError):
        as_client("redis://localhost")  # type: ignore[arg-type]


def test_a_client_needs_no_loop_to_be_made() -> None:
    client = NoriKVClient.from_url("redis://localhost:1")
    with pytest.raises(errors.NoNodesAvailableError):
        asyncio.run(client.connect())
