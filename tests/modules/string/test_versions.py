"""The versioned family: SET VER, SETVER, GETVER, MGETVER, CAS, DELEX VER."""

from __future__ import annotations

import time

import pytest

from tests.support.resp import ErrorReply, Wire
from tests.support.versions import Version

pytestmark = pytest.mark.norikv

WRONG_TYPE = ErrorReply("WRONGTYPE Operation against a key holding the wrong kind of value")
INVALID = ErrorReply("ERR invalid version")
SYNTAX = ErrorReply("ERR syntax error")


def version(wire: Wire, key: str) -> bytes:
    found: bytes = wire.ok("GETVER", key)[1]
    return found


def test_set_replies_ok_unless_asked(wire: Wire) -> None:
    assert wire.call("SET", "k", "v") == b"OK"
    first = wire.call("SET", "k", "v", "WITHVER")
    second = wire.call("SETVER", "k", "v")
    assert Version.parse(first) < Version.parse(second)
    assert wire.call("GETVER", "k") == [b"v", second]


def test_set_over_a_version(wire: Wire) -> None:
    first = wire.ok("SETVER", "k", "one", "VER", "0")
    assert wire.call("SETVER", "k", "two", "VER", "0-0") is None
    assert wire.call("SET", "k", "two", "VER", "1-1") is None
    assert wire.call("GETVER", "k") == [b"one", first]
    second = wire.ok("SETVER", "k", "two", "VER", first)
    assert wire.call("SET", "k", "three", "VER", first) is None
    assert wire.call("GETVER", "k") == [b"two", second]
    assert wire.call("SET", "gone", "v", "VER", second) is None
    assert wire.call("EXISTS", "gone") == 0


@pytest.mark.parametrize(
    "word",
    ["", "x", "1", "1-", "-1", "1-2-3", "01-2", "1-02", " 1-2", "+1-2", "1-18446744073709551616"],
)
def test_malformed_versions(wire: Wire, word: str) -> None:
    for request in (
        ("SET", "k", "v", "VER", word),
        ("SETVER", "k", "v", "VER", word),
        ("CAS", "k", word, "v"),
        ("DELEX", "k", "VER", word),
    ):
        assert wire.call(*request) == INVALID
    assert wire.call("EXISTS", "k") == 0


@pytest.mark.parametrize("other", ["NX", "XX", "IFEQ a", "IFNE a", f"IFDEQ {'0' * 16}"])
def test_ver_stands_alone(wire: Wire, other: str) -> None:
    words = other.split()
    assert wire.call("SET", "k", "v", "VER", "0", *words) == SYNTAX
    assert wire.call("SET", "k", "v", *words, "VER", "0") == SYNTAX


def test_withver_and_get_exclude_each_other(wire: Wire) -> None:
    assert wire.call("SET", "k", "v", "WITHVER", "GET") == SYNTAX
    assert wire.call("SET", "k", "v", "GET", "WITHVER") == SYNTAX
    assert wire.call("SETVER", "k", "v", "GET") == SYNTAX
    assert wire.call("SET", "k", "v", "GET", "VER", "0") is None
    assert wire.call("GET", "k") == b"v"


def test_ttl_in_milliseconds(wire: Wire) -> None:
    wire.ok("SET", "k", "v", "TTL", "60000")
    assert 59_000 < wire.call("PTTL", "k") <= 60_000
    wire.ok("SET", "k", "v", "TTL", "0")
    assert wire.call("PTTL", "k") == -1
    wire.ok("SET", "k", "v", "TTL", "30")
    time.sleep(0.05)
    assert wire.call("GETVER", "k") is None
    for expiry in ("EX 1", "PX 1", "EXAT 9999999999", "PXAT 9999999999999", "KEEPTTL"):
        assert wire.call("SET", "k", "v", "TTL", "5", *expiry.split()) == SYNTAX
    invalid = ErrorReply("ERR invalid expire time in 'set' command")
    assert wire.call("SET", "k", "v", "TTL", "-1") == invalid


def test_a_change_of_the_expiry_is_a_change(wire: Wire) -> None:
    before = wire.ok("SETVER", "k", "v")
    wire.ok("GET", "k")
    wire.ok("GETEX", "k")
    assert version(wire, "k") == before
    wire.ok("GETEX", "k", "EX", "100")
    after = version(wire, "k")
    assert Version.parse(after) > Version.parse(before)
    wire.ok("GETEX", "k", "PERSIST")
    persisted = version(wire, "k")
    assert Version.parse(persisted) > Version.parse(after)
    wire.ok("GETEX", "k", "PERSIST")
    assert version(wire, "k") == persisted


def test_versions_grow_over_delete_and_create(wire: Wire) -> None:
    seen = [Version.parse(wire.ok("SETVER", "k", "v"))]
    for _ in range(3):
        wire.ok("DEL", "k")
        seen.append(Version.parse(wire.ok("SETVER", "k", "v")))
    assert seen == sorted(set(seen))


def test_what_changes_nothing_keeps_the_version(wire: Wire) -> None:
    before = wire.ok("SETVER", "k", "5")
    wire.ok("SET", "k", "6", "NX")
    wire.ok("SETNX", "k", "6")
    wire.ok("MSETNX", "new", "1", "k", "6")
    wire.ok("SET", "k", "6", "IFEQ", "7")
    wire.ok("INCREX", "k", "UBOUND", "5")
    wire.ok("SETRANGE", "k", "3", "")
    assert wire.call("INCRBY", "k", "x") == ErrorReply(
        "ERR value is not an integer or out of range"
    )
    assert wire.call("GETVER", "k") == [b"5", before]


def test_commands_that_write_the_same_still_change_the_version(wire: Wire) -> None:
    seen = [wire.ok("SETVER", "k", "5")]
    for request in (
        ("SET", "k", "5"),
        ("APPEND", "k", ""),
        ("INCRBY", "k", "0"),
        ("GETSET", "k", "5"),
    ):
        wire.ok(*request)
        seen.append(version(wire, "k"))
    assert len(set(seen)) == len(seen)


def test_cas(wire: Wire) -> None:
    assert wire.call("CAS", "k", "1-1", "v") == [0, b"0-0", None]
    done, first, nothing = wire.ok("CAS", "k", "0", "one")
    assert (done, nothing) == (1, None)
    assert wire.call("CAS", "k", "0", "two") == [0, first, b"one"]
    done, second, nothing = wire.ok("CAS", "k", first, "two")
    assert (done, nothing) == (1, None)
    assert Version.parse(second) > Version.parse(first)
    assert wire.call("GETVER", "k") == [b"two", second]
    wire.ok("DEL", "k")
    assert wire.call("CAS", "k", second, "three") == [0, b"0-0", None]


def test_cas_and_expiry(wire: Wire) -> None:
    _, current, _ = wire.ok("CAS", "k", "0", "v", "EX", "100")
    assert wire.call("TTL", "k") == 100
    _, current, _ = wire.ok("CAS", "k", current, "v", "KEEPTTL")
    assert wire.call("TTL", "k") == 100
    _, current, _ = wire.ok("CAS", "k", current, "v")
    assert wire.call("TTL", "k") == -1
    _, current, _ = wire.ok("CAS", "k", current, "v", "TTL", "20")
    time.sleep(0.04)
    assert wire.call("CAS", "k", current, "w") == [0, b"0-0", None]
    done, current, _ = wire.ok("CAS", "k", "0", "w", "PXAT", "4102444800123")
    assert (done, wire.call("PEXPIRETIME", "k")) == (1, 4102444800123)
    done, _, _ = wire.ok("CAS", "k", current, "w", "PXAT", "1")
    assert (done, wire.call("EXISTS", "k")) == (1, 0)
    assert wire.call("CAS", "k", "0", "v", "EX", "1", "PX", "1") == SYNTAX
    assert wire.call("CAS", "k", "0", "v", "PERSIST") == SYNTAX
    assert wire.call("CAS", "k", "0", "v", "EX", "0") == ErrorReply(
        "ERR invalid expire time in 'cas' command"
    )


def test_other_types(typed: Wire) -> None:
    typed.ok("LPUSH", "l", "a")
    typed.ok("SET", "s", "v")
    current = typed.ok("MGETVER", "l")[0][1]
    assert typed.call("GETVER", "l") == WRONG_TYPE
    assert typed.call("CAS", "l", current, "v") == WRONG_TYPE
    assert typed.call("CAS", "l", "0", "v") == WRONG_TYPE
    assert typed.call("MGETVER", "l", "none", "s") == [
        [None, current],
        None,
        [b"v", typed.ok("GETVER", "s")[1]],
    ]
    assert typed.call("DELEX", "l", "VER", "1-1") == 0
    assert typed.call("SET", "l", "v", "VER", "0") is None
    assert typed.call("SET", "l", "v", "VER", current) == b"OK"
    typed.ok("LPUSH", "m", "a")
    assert typed.call("DELEX", "m", "VER", typed.ok("MGETVER", "m")[0][1]) == 1


def test_delex_over_a_version(wire: Wire) -> None:
    current = wire.ok("SETVER", "k", "v")
    assert wire.call("DELEX", "k", "VER", "0") == 0
    assert wire.call("DELEX", "k", "VER", "7-7") == 0
    assert wire.call("delex", "k", "ver", current) == 1
    assert wire.call("DELEX", "k", "VER", current) == 0


def test_tokens(wire: Wire) -> None:
    """The IDEM option stands anywhere among the options."""
    first = wire.ok("SET", "k", "v", "IDEM", "t", "WITHVER")
    assert wire.call("SET", "k", "v", "IDEM", "t", "WITHVER") == first
    assert wire.call("SET", "k", "v", "WITHVER", "IDEM", "t") == first
    mismatch = wire.call("SET", "k", "w", "WITHVER", "IDEM", "t")
    assert isinstance(mismatch, ErrorReply)
    assert mismatch.code == "IDEMMISMATCH"
    done = wire.ok("CAS", "k", first, "w", "KEEPTTL", "IDEM", "u")
    assert wire.call("CAS", "k", first, "w", "IDEM", "u", "KEEPTTL") == done
    assert wire.call("DELEX", "k", "IDEM", "d", "IFEQ", "w") == 1
    assert wire.call("DELEX", "k", "IFEQ", "w", "IDEM", "d") == 1
    assert wire.call("DELEX", "k", "IFEQ", "w") == 0
    wire.ok("SET", "k", "v")
    assert wire.call("DELEX", "k", "IDEM", "e") == 1
    assert wire.call("DELEX", "k", "IDEM", "e") == 1
    assert wire.call("DELEX", "k", "IDEM") == ErrorReply(
        "ERR wrong number of arguments for 'delex' command"
    )


def test_a_counter_keeps_its_digits_in_a_stored_reply(wire: Wire) -> None:
    wire.ok("SET", "f", "3.1")
    once = wire.reply("IDEM", "t", "INCREX", "f", "BYFLOAT", "1e5")
    assert wire.reply("IDEM", "t", "INCREX", "f", "BYFLOAT", "1e5") == once
    assert once.items[0].data == b"100003.10000000000000142"


def test_one_version_for_a_command_and_a_transaction(wire: Wire) -> None:
    wire.ok("MSET", "a", "1", "b", "2")
    assert version(wire, "a") == version(wire, "b")
    wire.ok("MULTI")
    wire.ok("SETVER", "a", "1")
    wire.ok("CAS", "c", "0", "1")
    wire.ok("SETVER", "b", "2")
    first, (_, second, _), third = wire.ok("EXEC")
    assert first == second == third == version(wire, "c")
