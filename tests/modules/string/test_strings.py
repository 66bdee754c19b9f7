"""String commands where the recordings do not reach."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
import redis

from tests.support.resp import ErrorReply, Wire
from tests.support.server import ServerProcess

TOO_LONG = ErrorReply("ERR string exceeds maximum allowed size (proto-max-bulk-len)")

CHUNK = 65536


def test_syntax_is_judged_before_values(wire: Wire) -> None:
    """Redis reads all options first, then the numbers in them."""
    syntax = ErrorReply("ERR syntax error")
    assert wire.call("SET", "k", "v", "EX", "abc", "NX", "XX") == syntax
    assert wire.call("GETEX", "k", "EX", "abc", "bogus") == syntax
    assert wire.call("MSETEX", "1", "k", "v", "PX", "abc", "bogus") == syntax


def test_getex_of_a_missing_key_does_not_look_at_the_time(wire: Wire) -> None:
    assert wire.call("GETEX", "missing", "EX", "0") is None
    assert wire.call("GETEX", "missing", "EX", "abc") is None


@pytest.mark.norikv
def test_delex_judges_the_condition_of_existing_strings_only(wire: Wire) -> None:
    assert wire.call("DELEX", "missing", "BOGUS", "v") == 0
    wire.ok("SET", "k", "v")
    assert wire.call("DELEX", "k", "BOGUS", "v") == ErrorReply(
        "ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE"
    )


@pytest.mark.norikv
@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 1_000_003])
def test_parts_of_long_values(wire: Wire, size: int) -> None:
    """Values above 64 KB are stored in chunks; nobody sees where one ends."""
    rng = random.Random(size)
    model = bytearray(rng.randbytes(size))
    wire.ok("SET", "k", bytes(model))
    for _ in range(40):
        edge = rng.choice([0, CHUNK, 2 * CHUNK, len(model)])
        at = max(edge + rng.randint(-3, 3), 0)
        piece = rng.randbytes(rng.choice([1, 2, 7, CHUNK // 2, CHUNK + 5]))
        action = rng.randrange(4)
        if action == 0:
            model += piece
            assert wire.call("APPEND", "k", piece) == len(model)
        elif action == 1:
            model.extend(bytes(max(at - len(model), 0)))
            model[at : at + len(piece)] = piece
            assert wire.call("SETRANGE", "k", at, piece) == len(model)
        else:
            end = at + rng.choice([0, 1, 5, CHUNK])
            assert wire.call("GETRANGE", "k", at, end) == bytes(model[at : end + 1])
        assert wire.call("STRLEN", "k") == len(model)
    assert wire.call("GET", "k") == bytes(model)
    assert wire.call("MGET", "k", "none") == [bytes(model), None]
    assert wire.call("GETVER", "k")[0] == bytes(model)
    assert wire.call("GETDEL", "k") == bytes(model)
    assert wire.call("EXISTS", "k") == 0


def test_size_limit(wire: Wire) -> None:
    wire.ok("SET", "k", "abc")
    assert wire.call("SETRANGE", "k", 512 * 1024 * 1024 - 1, "xy") == TOO_LONG
    assert wire.call("SETRANGE", "new", 2**63 - 1, "x") == TOO_LONG
    assert wire.call("GET", "k") == b"abc"
    wire.ok("CONFIG", "SET", "proto-max-bulk-len", "1mb")
    try:
        assert wire.call("SETRANGE", "k", 2**20 - 3, "xyz") == 2**20
        assert wire.call("APPEND", "k", "!") == TOO_LONG
        assert wire.call("APPEND", "k", "") == 2**20
        assert wire.call("SETRANGE", "k", 2**20 - 1, "xy") == TOO_LONG
    finally:
        wire.ok("CONFIG", "SET", "proto-max-bulk-len", "512mb")


def test_numbers_in_strings(wire: Wire) -> None:
    not_integer = ErrorReply("ERR value is not an integer or out of range")
    for value in (
        b"\xff",
        b"1" * 5000,
        b"1" * 100_000,
        b"-",
        b"--1",
        b"1_0",
        b"0x1",
        "１".encode(),
    ):
        wire.ok("SET", "n", value)
        assert wire.call("INCR", "n") == not_integer
        assert wire.call("GET", "n") == value
    wire.ok("SET", "n", "999999999999999999")
    assert wire.call("INCR", "n") == 10**18
    assert wire.call("INCR", "n") == 10**18 + 1


@pytest.mark.norikv
def test_increx_overflows(wire: Wire) -> None:
    wire.ok("SET", "n", "9223372036854775800")
    assert wire.call("INCREX", "n", "BYINT", "100", "SATURATE") == [2**63 - 1, 7]
    assert wire.call("INCREX", "n", "BYINT", "-100", "UBOUND", "5", "SATURATE")[0] == 5
    wire.ok("SET", "n", str(2**63 - 1))
    assert wire.call(
        "INCREX", "n", "BYINT", "-5", "UBOUND", str(-(2**63)), "SATURATE"
    ) == ErrorReply("ERR applied increment would overflow")
    assert wire.call("GET", "n") == b"9223372036854775807"


@pytest.mark.norikv
def test_increx_bounds_and_infinity(wire: Wire) -> None:
    crossed = ErrorReply("ERR LBOUND can't be greater than UBOUND")
    assert wire.call("INCREX", "f", "BYFLOAT", "1", "UBOUND", "-inf") == crossed
    assert wire.call("INCREX", "f", "BYFLOAT", "1", "LBOUND", "inf") == crossed
    assert wire.ok("INCREX", "f", "BYFLOAT", "1", "LBOUND", "-inf", "UBOUND", "+inf")
    assert wire.call("GET", "f") == b"1"
    assert wire.call("INCREX", "n", "UBOUND", "inf") == ErrorReply(
        "ERR UBOUND is not an integer or out of range"
    )


@pytest.mark.norikv
def test_increx_and_enx(wire: Wire) -> None:
    wire.ok("SET", "n", "1", "EX", "100")
    assert wire.call("INCREX", "n", "EXAT", "1", "ENX") == [2, 1]
    assert wire.call("TTL", "n") == 100
    wire.ok("SET", "n", "1")
    assert wire.call("INCREX", "n", "EXAT", "1", "ENX") == [2, 1]
    assert wire.call("EXISTS", "n") == 0
    for words in ("BYINT 1 BYINT 1", "EX 1 EX 1", "ENX ENX EX 1", "PERSIST PERSIST"):
        assert wire.call("INCREX", "n", *words.split()) == ErrorReply("ERR syntax error")


@pytest.mark.norikv
def test_deadlines_in_the_past(wire: Wire) -> None:
    for request in (
        ("SET", "k", "new", "PXAT", "1"),
        ("GETEX", "k", "PXAT", "1"),
        ("MSETEX", "1", "k", "new", "EXAT", "1"),
        ("SETVER", "k", "new", "EXAT", "1"),
    ):
        wire.ok("SET", "k", "v")
        wire.ok("WATCH", "k")
        wire.ok(*request)
        assert wire.call("EXISTS", "k") == 0, request
        wire.ok("MULTI")
        assert wire.call("EXEC") is None, request


# --------------------------------------------------------------------------
# The hot paths


def _requests(rng: random.Random) -> tuple[Any, ...]:
    key = rng.choice(["a", "b", "c", "missing"])
    value = rng.choice(
        ["", "0", "9", "-1", "007", "abc", "9" * 18, "9" * 19, "x" * 1024, "y" * 70_000]
    )
    return rng.choice(
        [
            ("GET", key),
            ("get", key),
            ("SET", key, value),
            ("set", key, value),
            ("SET", key, value, "EX", rng.choice(["100", "0", "010", "-1", "x", "", "1" * 13])),
            ("SET", key, value, "px", "100000"),
            ("SET", key, value, "XX", "GET"),
            ("TTL", key),
            ("INCR", key),
            ("MGET", key, "a", "b"),
            ("MGET", "a"),
            ("PEXPIRE", key, "100000"),
            ("DEL", key),
            ("GET",),
            ("GET", key, key),
            ("SET", key),
            ("MGET",),
            ("INCR",),
        ]
    )


@pytest.mark.norikv
def test_hot_paths_answer_as_the_general_ones(wire: Wire, resp: int, connect: Any) -> None:
    """MULTI takes the general path: the same requests give the same replies and contents."""
    rng = random.Random(resp)
    other = connect(resp)
    other.ok("SELECT", "1")
    for _ in range(60):
        batch = [_requests(rng) for _ in range(20)]
        hot = [wire.reply(*request).raw for request in batch]
        general = []
        for request in batch:
            other.ok("MULTI")
            queued = other.reply(*request)
            if queued.is_error:
                other.call("DISCARD")
                general.append(queued.raw)
            else:
                general.append(other.reply("EXEC").items[0].raw)
        assert hot == general, batch


def test_hot_paths_see_deadlines_pass(wire: Wire) -> None:
    for request, reply in (
        (("GET", "k"), None),
        (("MGET", "k"), [None]),
        (("INCR", "k"), 1),
        (("SET", "k", "6"), b"OK"),
    ):
        wire.ok("SET", "k", "5", "PX", "200")
        assert wire.call("GET", "k") == b"5"
        time.sleep(0.25)
        assert wire.call(*request) == reply
    assert wire.call("PTTL", "k") == -1


@pytest.mark.norikv
def test_hot_paths_are_counted(wire: Wire) -> None:
    wire.ok("CONFIG", "RESETSTAT")
    for _ in range(5):
        wire.ok("SET", "n", "1")
        wire.ok("GET", "n")
        wire.ok("GET", "missing")
        wire.ok("INCR", "n")
        wire.ok("MGET", "n")
    stats = wire.ok("INFO", "commandstats").decode()
    for line in ("cmdstat_set:calls=5,", "cmdstat_get:calls=10,", "cmdstat_incr:calls=5,"):
        assert line in stats
    assert "cmdstat_mget:calls=5," in stats


@pytest.mark.norikv
def test_hot_writes_move_versions_and_watchers(wire: Wire, connect: Any) -> None:
    watcher = connect()
    for request in (("SET", "k", "1"), ("INCR", "k")):
        before = wire.ok("SETVER", "k", "1")
        watcher.ok("WATCH", "k")
        wire.ok(*request)
        assert wire.ok("GETVER", "k")[1] != before
        watcher.ok("MULTI")
        assert watcher.call("EXEC") is None


# --------------------------------------------------------------------------
# Keyspace events


EVENTS = [
    (("SET", "k", "v"), ["set"]),
    (("SET", "k", "v", "EX", "100"), ["set", "expire"]),
    (("SET", "k", "v", "KEEPTTL"), ["set"]),
    (("SET", "k", "v", "NX"), []),
    (("GETEX", "k", "PERSIST"), ["persist"]),
    (("GETEX", "k", "PX", "100000"), ["expire"]),
    (("GETEX", "k"), []),
    (("GETEX", "k", "PXAT", "1"), ["del"]),
    (("SETEX", "k", "100", "1"), ["set", "expire"]),
    (("INCR", "k"), ["incrby"]),
    (("DECRBY", "k", "5"), ["incrby"]),
    (("INCRBYFLOAT", "k", "0.5"), ["incrbyfloat"]),
    (("APPEND", "k", "0"), ["append"]),
    (("SETRANGE", "k", "1", "x"), ["setrange"]),
    (("SETRANGE", "k", "1", ""), []),
    (("GETSET", "k", "5"), ["set"]),
    (("GETDEL", "k"), ["del"]),
    (("GETDEL", "k"), []),
    (("SETNX", "k", "5"), ["set"]),
    (("MSET", "k", "5"), ["set"]),
    (("GET", "k"), []),
]
NEW_EVENTS = [
    (("INCREX", "k"), ["incrby"]),
    (("INCREX", "k", "EX", "100"), ["incrby", "expire"]),
    (("INCREX", "k", "EX", "200", "ENX"), ["incrby"]),
    (("INCREX", "k", "BYFLOAT", "0.5", "PERSIST"), ["incrbyfloat", "persist"]),
    (("INCREX", "k", "BYFLOAT", "1", "PERSIST"), ["incrbyfloat"]),
    (("INCREX", "k", "BYFLOAT", "1", "UBOUND", "1"), []),
    (("INCREX", "k", "BYFLOAT", "1", "PXAT", "1"), ["del"]),
    (("MSETEX", "1", "k", "v", "EX", "100"), ["set", "expire"]),
    (("DELEX", "k", "IFEQ", "w"), []),
    (("DELEX", "k", "IFEQ", "v"), ["del"]),
    (("CAS", "k", "0", "v", "PX", "100000"), ["set", "expire"]),
    (("CAS", "k", "0", "v"), []),
    (("DELEX", "k"), ["del"]),
]


def test_reads_of_missing_keys_are_announced(server: ServerProcess, connect: Any) -> None:
    listener, reader = connect(), connect()
    reader.ok("CONFIG", "SET", "notify-keyspace-events", "Em")
    try:
        listener.ok("SUBSCRIBE", "__keyevent@0__:keymiss")
        for request in ("GET k", "STRLEN k", "GETRANGE k 0 1", "GETEX k", "GETDEL k", "MGET k"):
            reader.ok(*request.split())
            assert listener.read() == [b"message", b"__keyevent@0__:keymiss", b"k"], request
        reader.ok("SET", "k", "v", "GET")
        assert listener.read()[2] == b"k"
        reader.ok("INCR", "n")
        reader.ok("GET", "n")
        assert listener.pending() == b""
    finally:
        reader.ok("CONFIG", "SET", "notify-keyspace-events", "")


@pytest.mark.parametrize(
    "steps", [EVENTS, pytest.param(NEW_EVENTS, marks=pytest.mark.norikv)], ids=["redis", "new"]
)
def test_keyspace_events(
    server: ServerProcess, connect: Any, steps: list[tuple[tuple[str, ...], list[str]]]
) -> None:
    listener, writer = connect(), connect()
    writer.ok("CONFIG", "SET", "notify-keyspace-events", "E$gx")
    try:
        listener.ok("PSUBSCRIBE", "__keyevent@0__:*")
        for request, events in steps:
            writer.ok(*request)
            seen = []
            for _ in events:
                _, _, channel, key = listener.read()
                assert key == b"k"
                seen.append(channel.decode().partition(":")[2])
            assert seen == events, request
            assert listener.pending() == b"", request
    finally:
        writer.ok("CONFIG", "SET", "notify-keyspace-events", "")


# --------------------------------------------------------------------------
# redis-py


def test_redis_py(redis_client: redis.Redis) -> None:
    client: Any = redis_client
    assert client.set("k", "v", ex=100) is True
    assert client.set("k", "v", nx=True) is None
    assert client.get("k") == b"v"
    assert client.getex("k", persist=True) == b"v"
    assert client.ttl("k") == -1
    assert client.mset({"a": "1", "b": "2"}) is True
    assert client.mget("a", "b", "none") == [b"1", b"2", None]
    assert client.incr("a", 5) == 6
    assert client.incrbyfloat("a", 0.5) == 6.5
    assert client.append("k", "w") == 2
    assert client.setrange("k", 4, "x") == 5
    assert client.getrange("k", 0, -1) == b"vw\0\0x"
    assert client.getdel("k") == b"vw\0\0x"
    client.mset({"x": "ohmytext", "y": "mynewtext"})
    assert client.lcs("x", "y") == b"mytext"
    assert client.lcs("x", "y", len=True) == 6
