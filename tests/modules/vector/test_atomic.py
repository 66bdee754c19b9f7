"""Vector sets as keys among others: in transactions, watched, announced, undone."""

from __future__ import annotations

import struct
import time
from typing import Any

import numpy as np
import pytest

from tests.conftest import Connect
from tests.support.faulty_server import FaultyServer
from tests.support.resp import ErrorReply, Wire
from tests.support.server import ServerProcess

from .sets import nearest

pytestmark = pytest.mark.norikv


def fp32(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


def transaction(wire: Wire, *commands: tuple[Any, ...], end: str = "EXEC") -> Any:
    wire.ok("MULTI")
    for words in commands:
        wire.call(*words)
    return wire.call(end)


def store(name: str, *numbers: float, year: int) -> tuple[tuple[Any, ...], ...]:
    """A document, and its vector with the attributes by which it is found."""
    return (
        ("SET", f"doc:{name}", name),
        ("VADD", "k", "FP32", fp32(*numbers), name, "SETATTR", f'{{"year":{year}}}'),
    )


# ---- transactions


def test_a_document_its_attributes_and_its_vector_are_stored_together(connect: Connect) -> None:
    wire, other = connect(3), connect(3)
    recent = ("VSEARCH", "k", 5, "FP32", fp32(1, 0), "FILTER", ".year > 2000")
    replies = transaction(
        wire,
        *store("old", 1, 0, year=1990),
        *store("new", 0, 1, year=2010),
        recent,
        ("VSIM", "k", "ELE", "old", "WITHATTRIBS"),
        ("VLINKS", "k", "old"),
        ("VREM", "k", "new"),
        recent,
        *store("new", 1, 1, year=2011),
        recent,
    )
    assert replies[4] == [b"new", 1.0]
    assert replies[5] == {b"old": b'{"year":1990}', b"new": b'{"year":2010}'}
    assert replies[6] == [[b"new"]]
    assert replies[7:9] == [True, []]
    assert replies[11] == [b"new", pytest.approx(1 - 0.5**0.5)]
    assert other.ok(*recent) == replies[11]
    assert other.ok("VER", "k") == other.ok("VER", "doc:old") == other.ok("VER", "doc:new")


def test_what_is_discarded_or_aborted_leaves_nothing(connect: Connect) -> None:
    wire, other = connect(3), connect(3)
    new = store("new", 0, 1, year=2010)
    assert transaction(wire, *new, end="DISCARD") == b"OK"
    aborted = transaction(wire, *new, ("VADD", "k"))
    assert isinstance(aborted, ErrorReply) and aborted.code == "EXECABORT"
    wire.ok("WATCH", "k")
    other.ok("VADD", "k", "FP32", fp32(1, 0), "first")
    assert transaction(wire, *new) is None
    assert wire.ok("VRANGE", "k", "-", "+") == [b"first"]
    assert wire.ok("EXISTS", "doc:new") == 0
    # A command that fails leaves the others in force, as in Redis.
    replies = transaction(wire, new[0], ("VADD", "k", "FP32", fp32(1), "x"), new[1])
    assert isinstance(replies[1], ErrorReply) and "dimension mismatch" in replies[1].text
    assert wire.ok("VRANGE", "k", "-", "+") == [b"first", b"new"]


def test_transactions_that_check_a_sets_version(wire: Wire) -> None:
    add = ("VADD", "k", "FP32", fp32(1, 0), "a")
    assert transaction(wire, ("CHECK", "k", "0"), add) is not None
    assert transaction(wire, ("CHECK", "k", "0"), ("VREM", "k", "a")) is None
    version = wire.ok("VER", "k")
    assert wire.ok("CHECK", "k", version) == 1
    assert transaction(wire, ("CHECK", "k", version), ("VSETATTR", "k", "a", "{}")) is not None
    assert wire.ok("CHECK", "k", version) == 0
    assert transaction(wire, ("CHECK", "k", version), ("VREM", "k", "a")) is None
    assert wire.ok("VCARD", "k") == 1
    newest = wire.ok("VER", "k")
    wire.ok("VREM", "k", "a")
    assert wire.ok("VER", "k") is None
    wire.ok(*add)
    assert [int(part) for part in wire.ok("VER", "k").split(b"-")] > [
        int(part) for part in newest.split(b"-")
    ]


@pytest.mark.parametrize(
    "words",
    [
        ("VADD", "k", "FP32", fp32(2, 1), "a"),
        ("VMADD", "k", 1, "b", fp32(2, 1)),
        ("VSETATTR", "k", "a", "{}"),
        ("VREM", "k", "a"),
        ("VDROP", "k"),
        ("RENAME", "k", "elsewhere"),
        ("PEXPIRE", "k", 100_000),
    ],
    ids=lambda words: words[0],
)
def test_watchers_of_a_set_see_each_change(connect: Connect, words: tuple[Any, ...]) -> None:
    wire, other = connect(2), connect(2)
    other.ok("VADD", "k", "FP32", fp32(1, 2), "a")
    wire.ok("WATCH", "k")
    for idle in (("VREM", "k", "zz"), ("VSETATTR", "k", "zz", "{}"), ("VSIM", "k", "ELE", "a")):
        other.call(*idle)
    assert transaction(wire, ("PING",)) == [b"PONG"]
    wire.ok("WATCH", "k")
    other.ok(*words)
    assert transaction(wire, ("PING",)) is None


def test_an_idempotent_transaction_happens_once(wire: Wire) -> None:
    words = store("new", 0, 1, year=2010)
    first = transaction(wire, ("IDEM", "token"), *words)
    wire.ok("VREM", "k", "new")
    assert transaction(wire, ("IDEM", "token"), *words) == first
    assert wire.ok("EXISTS", "k") == 0


def test_a_stored_reply_is_in_the_language_of_who_asks(connect: Connect) -> None:
    old, new = connect(2), connect(3)
    words = ("VADD", "k", "FP32", fp32(1), "a", "IDEM", "token")
    assert old.reply(*words).raw == b":1\r\n"
    assert new.reply(*words).raw == b"#t\r\n"
    again = ("VADD", "k", "FP32", fp32(1), "a", "IDEM", "other")
    assert [new.reply(*again).raw, old.reply(*again).raw] == [b"#f\r\n", b":0\r\n"]


def test_what_searches_are_told_to_do_at_most_once_is_an_error(wire: Wire) -> None:
    wire.ok("VADD", "k", "FP32", fp32(1), "a")
    assert isinstance(wire.call("IDEM", "t", "VSIM", "k", "ELE", "a"), ErrorReply)
    assert isinstance(wire.call("IDEM", "t", "VSEARCH", "k", 1, "ELE", "a"), ErrorReply)


# ---- announced


def test_events_of_every_change_and_of_misses(connect: Connect) -> None:
    wire, listener = connect(2), connect(2)
    wire.ok("CONFIG", "SET", "notify-keyspace-events", "KAm")
    try:
        listener.ok("SUBSCRIBE", "__keyspace@0__:k")
        wire.ok("VCARD", "k")
        wire.ok("VCREATE", "k", "DIM", 1)
        wire.ok("VCREATE", "k", "DIM", 1)
        wire.ok("VMADD", "k", 2, "a", fp32(1), "b", fp32(2))
        wire.ok("VREM", "k", "zz")
        wire.ok("VREM", "k", "a")
        wire.ok("VDROP", "k")
        wire.ok("VDROP", "k")
        wire.ok("VSIM", "k", "ELE", "a")
        wire.ok("VADD", "k", "FP32", fp32(1), "a")
        wire.ok("RENAME", "k", "l")
        events = [listener.read()[2] for _ in range(8)]
    finally:
        wire.ok("CONFIG", "SET", "notify-keyspace-events", "")
    assert events == [
        b"keymiss",
        b"vcreate",
        b"vadd",
        b"vrem",
        b"del",
        b"keymiss",
        b"vadd",
        b"rename_from",
    ]


# ---- undone


def test_a_failed_commit_of_a_small_set_is_undone(started_servers: list[ServerProcess]) -> None:
    server = FaultyServer()
    started_servers.append(server)
    server.start()
    with server.wire() as wire, server.wire() as other:
        wire.ok("VADD", "k", "FP32", fp32(1, 0), "a", "SETATTR", '{"n":1}')
        wire.ok("VADD", "k", "FP32", fp32(0, 1), "b")
        asked = np.array([1, 0], "<f4")
        assert nearest(other, "k", asked, 5) == [b"a", b"b"]
        version = wire.ok("VER", "k")
        for change in (
            ("VADD", "k", "FP32", fp32(-1, 0), "a"),
            ("VADD", "k", "FP32", fp32(1, 0), "never"),
            ("VMADD", "k", 2, "never", fp32(1, 0), "a", fp32(-1, 0)),
            ("VREM", "k", "a"),
            ("VSETATTR", "k", "a", "{}"),
            ("VDROP", "k"),
            ("VCREATE", "never", "DIM", 3),
            ("RENAME", "k", "never"),
            ("FLUSHALL",),
        ):
            server.tell("fill", True)
            assert isinstance(wire.call(*change), ErrorReply), change
            assert nearest(other, "k", asked, 5) == [b"a", b"b"], change
            assert nearest(other, "k", asked, 5, "FILTER", ".n == 1") == [b"a"], change
            assert nearest(other, "k", -asked) == [b"b"], change
            assert other.ok("VER", "k") == version
            assert other.ok("VCARD", "k") == 2
            assert other.ok("EXISTS", "never") == 0
            server.tell("fill", False)
            while isinstance(wire.call("SET", "other", "x"), ErrorReply):
                time.sleep(0.01)  # the log recovers in a moment
        wire.ok("VADD", "k", "FP32", fp32(1, 0.1), "later")
        assert nearest(other, "k", asked, 5) == [b"a", b"later", b"b"]
