"""DEL, RENAME, COPY, MOVE, VER, databases and OBJECT through a socket."""

from __future__ import annotations

import pytest

from tests.conftest import Connect
from tests.support.resp import Wire

BIG = b"0123456789abcdef" * 20_000  # 320 KB: stored in pieces


def version(wire: Wire, key: str) -> tuple[int, int]:
    term, _, index = wire.ok("VER", key).partition(b"-")
    return int(term), int(index)


def test_deleting_counts_each_key_once(wire: Wire) -> None:
    wire.ok("MSET", "a", "1", "b", "2")
    assert wire.ok("EXISTS", "a", "a", "b", "c") == 3
    assert wire.ok("TOUCH", "a", "c") == 1
    assert wire.ok("DEL", "a", "a", "c") == 1
    assert wire.ok("UNLINK", "b", "b") == 1
    assert wire.ok("EXISTS", "a", "b") == 0


@pytest.mark.norikv
def test_versions_only_grow_over_everything_that_writes(wire: Wire) -> None:
    assert wire.ok("VER", "a") is None
    seen = (0, 0)
    for command in (
        ("SET", "a", "1"),
        ("EXPIRE", "a", "100"),
        ("PERSIST", "a"),
        ("COPY", "a", "b", "REPLACE"),
        ("RENAME", "b", "a"),
        ("DEL", "a"),
        ("SET", "a", "1"),
    ):
        wire.ok(*command)
        if command[0] in ("COPY", "DEL"):
            continue
        now = version(wire, "a")
        assert now > seen, command
        seen = now
    for command in (("GET", "a"), ("PERSIST", "a"), ("RENAME", "a", "a"), ("DEL", "none")):
        wire.ok(*command)
        assert version(wire, "a") == seen, command


@pytest.mark.norikv
def test_swapdb_raises_the_versions_of_both_databases(wire: Wire) -> None:
    wire.ok("SET", "a", "zero")
    before = version(wire, "a")
    wire.ok("SELECT", "1")
    wire.ok("SET", "a", "one")
    wire.ok("SWAPDB", "0", "1")
    assert wire.ok("GET", "a") == b"zero"
    assert version(wire, "a") > before
    wire.ok("SELECT", "0")
    assert wire.ok("GET", "a") == b"one"


def test_nothing_is_owed_for_commands_that_changed_nothing(wire: Wire) -> None:
    # A failed write takes an index without a frame; what follows must not wait for one.
    wire.ok("DEL", "none")
    assert wire.ok("DBSIZE") == 0
    wire.ok("EXPIRE", "none", "10")
    assert wire.ok("SCAN", "0") == [b"0", []]
    wire.ok("SWAPDB", "2", "3")
    assert wire.ok("KEYS", "*") == []
    assert wire.ok("RANDOMKEY") is None


@pytest.mark.parametrize("value", [b"small", BIG], ids=["inline", "pieces"])
def test_moving_and_copying_keep_value_and_deadline(wire: Wire, value: bytes) -> None:
    wire.ok("SET", "a", value, "PXAT", "4102444800123")
    wire.ok("RENAME", "a", "b")
    assert wire.ok("EXISTS", "a") == 0
    assert wire.ok("COPY", "b", "c") == 1
    assert wire.ok("COPY", "b", "c") == 0
    assert wire.ok("COPY", "b", "far", "DB", "3") == 1
    assert wire.ok("MOVE", "b", "4") == 1
    for database, key in ((0, "c"), (3, "far"), (4, "b")):
        wire.ok("SELECT", str(database))
        assert wire.ok("GET", key) == value
        assert wire.ok("PEXPIRETIME", key) == 4102444800123
        assert wire.ok("DBSIZE") == 1


def test_copies_in_pieces_do_not_share_them(wire: Wire) -> None:
    wire.ok("SET", "a", BIG)
    wire.ok("COPY", "a", "b")
    wire.ok("SETRANGE", "b", "100000", "changed")
    assert wire.ok("GET", "a") == BIG
    wire.ok("DEL", "a")
    assert wire.ok("GET", "b") == BIG[:100000] + b"changed" + BIG[100007:]


def test_overwriting_by_rename_takes_the_deadline_of_the_renamed(wire: Wire) -> None:
    wire.ok("SET", "a", "1")
    wire.ok("SET", "b", BIG, "EX", "100")
    wire.ok("RENAME", "a", "b")
    assert wire.ok("TTL", "b") == -1
    assert wire.ok("RENAMENX", "b", "b") == 0
    assert wire.ok("DBSIZE") == 1


def test_flushing_one_database_leaves_the_others(wire: Wire) -> None:
    wire.ok("SET", "a", "1")
    wire.ok("SELECT", "1")
    wire.ok("MSET", "a", "1", "b", BIG)
    wire.ok("FLUSHDB", "ASYNC")
    assert wire.ok("DBSIZE") == 0
    assert wire.ok("GET", "b") is None
    wire.ok("SET", "b", "new")
    assert wire.ok("KEYS", "*") == [b"b"]
    wire.ok("SELECT", "0")
    assert wire.ok("GET", "a") == b"1"


@pytest.mark.norikv
def test_encodings_follow_content_and_history(wire: Wire) -> None:
    cases = {
        "12": b"int",
        "-9223372036854775808": b"int",
        "9223372036854775808": b"embstr",
        "012": b"embstr",
        "x" * 40: b"embstr",
        "x" * 41: b"raw",
    }
    for value, name in cases.items():
        wire.ok("SET", "k", value)
        assert wire.ok("OBJECT", "ENCODING", "k") == name, value
    wire.ok("SET", "k", "1")
    wire.ok("APPEND", "k", "2")
    assert wire.ok("OBJECT", "ENCODING", "k") == b"raw"
    wire.ok("EXPIRE", "k", "100")
    assert wire.ok("OBJECT", "ENCODING", "k") == b"raw"
    wire.ok("INCR", "k")
    assert wire.ok("OBJECT", "ENCODING", "k") == b"int"
    assert wire.ok("OBJECT", "REFCOUNT", "k") == 1
    assert wire.ok("OBJECT", "IDLETIME", "k") == 0
    assert wire.reply("OBJECT", "FREQ", "k").is_error


def test_watchers_see_what_generic_commands_do(connect: Connect, resp: int) -> None:
    mine, other = connect(resp), connect(resp)
    changes = (
        ("DEL", "k"),
        ("EXPIRE", "k", "100"),
        ("RENAME", "k", "l"),
        ("RENAME", "other", "k"),
        ("COPY", "other", "k", "REPLACE"),
        ("MOVE", "k", "5"),
        ("FLUSHDB",),
        ("FLUSHALL",),
        ("SWAPDB", "0", "6"),
        ("PEXPIREAT", "k", "1"),
    )
    for change in changes:
        mine.ok("FLUSHALL")
        mine.ok("MSET", "k", "1", "other", "2")
        mine.ok("WATCH", "k")
        other.ok(*change)
        mine.ok("MULTI")
        mine.ok("PING")
        assert mine.ok("EXEC") is None, change
    mine.ok("FLUSHALL")
    mine.ok("SET", "k", "1")
    mine.ok("WATCH", "k")
    for nothing in (("PERSIST", "k"), ("EXPIRE", "k", "1", "XX"), ("RENAMENX", "k", "k")):
        other.ok(*nothing)
    mine.ok("MULTI")
    mine.ok("PING")
    assert mine.ok("EXEC") is not None
