"""The contract's sentences on versions, conditions and idempotency, one test each."""

from __future__ import annotations

import time

import pytest

from tests.conftest import Connect, StartServer
from tests.support.resp import Argument, ErrorReply, Wire
from tests.support.versions import Version

pytestmark = pytest.mark.norikv

SYNTAX = ErrorReply("ERR syntax error")
INVALID = ErrorReply("ERR invalid version")


def execute(
    wire: Wire, *commands: tuple[Argument, ...], end: tuple[str, ...] = ("EXEC",)
) -> object:
    """MULTI, the commands, EXEC: the last reply."""
    return wire.pipeline([("MULTI",), *commands, end])[-1]


# -- versions ------------------------------------------------------------------------


def test_versions_grow_over_keys_databases_and_deletes(wire: Wire) -> None:
    seen = [wire.ok("SETVER", "a", 1), wire.ok("SETVER", "b", 1)]
    wire.ok("SELECT", 3)
    seen.append(wire.ok("SETVER", "a", 1))
    wire.ok("DEL", "a")
    seen.append(wire.ok("SETVER", "a", 1))
    versions = [Version.parse(text) for text in seen]
    assert versions == sorted(set(versions))
    assert len({version.term for version in versions}) == 1


def test_version_has_no_leading_zeros(wire: Wire) -> None:
    text = wire.ok("SETVER", "a", 1)
    assert str(Version.parse(text)).encode() == text


def test_missing_and_expired_keys_have_no_version(wire: Wire) -> None:
    assert wire.ok("VER", "k") is None
    assert wire.ok("GETVER", "k") is None
    wire.ok("SET", "k", "v", "PX", 15)
    time.sleep(0.03)
    assert wire.ok("VER", "k") is None
    assert wire.ok("CHECK", "k", "0") == 1
    assert wire.ok("CHECK", "k", "0-0") == 1
    assert wire.ok("CAS", "k", "0", "new")[0] == 1


def test_one_command_and_one_transaction_have_one_version(wire: Wire) -> None:
    wire.ok("MSET", "a", 1, "b", 2)
    assert wire.ok("VER", "a") == wire.ok("VER", "b")
    execute(wire, ("SET", "c", 1), ("INCR", "d"), ("MSET", "e", 1, "f", 1))
    versions = {wire.ok("VER", key) for key in "cdef"}
    assert len(versions) == 1
    assert Version.parse(versions.pop()) > Version.parse(wire.ok("VER", "a"))


@pytest.mark.parametrize(
    "change",
    [
        ("SET", "k", "v"),
        ("APPEND", "k", "x"),
        ("SETRANGE", "k", 0, "x"),
        ("EXPIRE", "k", 1000),
        ("PERSIST", "k"),
        ("GETEX", "k", "EX", 1000),
        ("GETSET", "k", "v"),
        ("SETEX", "k", 100, "v"),
        ("RENAME", "other", "k"),
        ("COPY", "other", "k", "REPLACE"),
        ("MSETNX", "k", "v"),
    ],
)
def test_version_changes_when_the_value_or_expiry_does(
    change: tuple[Argument, ...], wire: Wire
) -> None:
    wire.ok("SET", "other", "o")
    if change[0] != "MSETNX":
        wire.ok("SET", "k", "v", "EX", 50)
    before = wire.ok("VER", "k")
    wire.ok(*change)
    assert wire.ok("VER", "k") not in (before, None)


@pytest.mark.parametrize(
    "change",
    [
        ("GET", "k"),
        ("SET", "k", "x", "NX"),
        ("SETNX", "k", "x"),
        ("SET", "k", "x", "VER", "1-1"),
        ("CAS", "k", "1-1", "x"),
        ("DELEX", "k", "VER", "1-1"),
        ("EXPIRE", "k", 10, "XX"),
        ("PERSIST", "k"),
        ("GETEX", "k"),
        ("GETEX", "k", "PERSIST"),
        ("SETRANGE", "k", 0, ""),
        ("RENAMENX", "other", "k"),
        ("COPY", "other", "k"),
        ("MSETNX", "k", "x", "fresh", "y"),
        ("TOUCH", "k"),
        ("DEL", "nothing"),
    ],
)
def test_version_stays_when_nothing_changes(change: tuple[Argument, ...], wire: Wire) -> None:
    wire.ok("SET", "other", "o")
    before = wire.ok("SETVER", "k", "v")
    wire.ok(*change)
    assert wire.ok("GETVER", "k") == [b"v", before]


def test_swapdb_lifts_the_versions_of_both_databases(wire: Wire) -> None:
    first = Version.parse(wire.ok("SETVER", "k", 0))
    wire.ok("SELECT", 1)
    second = Version.parse(wire.ok("SETVER", "k", 1))
    wire.ok("SWAPDB", 0, 1)
    here = Version.parse(wire.ok("VER", "k"))
    wire.ok("SELECT", 0)
    assert Version.parse(wire.ok("VER", "k")) == here > second > first


@pytest.mark.parametrize("text", ["", "x", "1", "1-", "-1", "1-2-3", "1.2", "-1-1", "1- 2", "1-x"])
def test_malformed_versions_are_refused(text: str, wire: Wire) -> None:
    wire.ok("SET", "k", "v")
    for command in (
        ("CAS", "k", text, "x"),
        ("CHECK", "k", text),
        ("SET", "k", "x", "VER", text),
        ("SETVER", "k", "x", "VER", text),
        ("DELEX", "k", "VER", text),
    ):
        assert wire.call(*command) == INVALID, command
    assert wire.ok("GET", "k") == b"v"


# -- commands -------------------------------------------------------------------------


def test_set_replies(wire: Wire) -> None:
    assert wire.reply("SET", "k", "v").raw == b"+OK\r\n"
    reply = wire.reply("SET", "k", "v", "WITHVER")
    assert reply.kind == "$"
    version = reply.data
    assert wire.ok("SET", "k", "w", "VER", "9-9") is None
    assert wire.ok("SET", "k", "w", "VER", version) == b"OK"
    assert wire.ok("SETVER", "k", "x", "VER", version) is None
    assert wire.ok("SET", "k", "x", "VER", 0) is None
    assert wire.ok("SET", "new", "x", "VER", 0) == b"OK"
    assert wire.ok("SET", "k", "y", "VER", wire.ok("VER", "k"), "GET") == b"w"


@pytest.mark.parametrize(
    "options",
    [
        ("VER", "0", "NX"),
        ("XX", "VER", "0"),
        ("VER", "0", "IFEQ", "x"),
        ("IFNE", "x", "VER", "0"),
        ("VER", "0", "IFDEQ", "0" * 16),
        ("WITHVER", "GET"),
        ("GET", "WITHVER"),
        ("TTL", "100", "EX", "1"),
        ("PX", "100", "TTL", "1"),
        ("TTL", "100", "KEEPTTL"),
        ("EXAT", "9999999999", "TTL", "1"),
        ("TTL", "1", "PXAT", "9999999999999"),
        ("TTL",),
        ("VER",),
        ("IDEM",),
    ],
)
def test_set_options_that_exclude_each_other(options: tuple[str, ...], wire: Wire) -> None:
    assert wire.call("SET", "k", "v", *options) == SYNTAX
    assert wire.ok("EXISTS", "k") == 0


def test_ttl_option(wire: Wire) -> None:
    wire.ok("SET", "k", "v", "TTL", 50_000)
    assert 40_000 < wire.ok("PTTL", "k") <= 50_000
    wire.ok("SET", "k", "v", "TTL", 0)
    assert wire.ok("PTTL", "k") == -1
    version = wire.ok("VER", "k")
    assert wire.ok("CAS", "k", version, "w", "TTL", 50_000)[0] == 1
    assert 40_000 < wire.ok("PTTL", "k") <= 50_000
    assert wire.ok("CAS", "k", wire.ok("VER", "k"), "w", "KEEPTTL")[0] == 1
    assert 40_000 < wire.ok("PTTL", "k") <= 50_000
    assert wire.ok("CAS", "k", wire.ok("VER", "k"), "w")[0] == 1
    assert wire.ok("PTTL", "k") == -1
    for bad in ("-1", "x", "9223372036854775807"):
        assert isinstance(wire.call("SET", "k", "v", "TTL", bad), ErrorReply), bad
        assert isinstance(wire.call("CAS", "k", "0", "v", "TTL", bad), ErrorReply), bad


def test_cas_tells_the_loser_what_is_there(wire: Wire) -> None:
    assert wire.ok("CAS", "k", "1-1", "v") == [0, b"0-0", None]
    done, version, nothing = wire.ok("CAS", "k", "0", "v")
    assert (done, nothing) == (1, None)
    assert wire.ok("CAS", "k", "0", "w") == [0, version, b"v"]
    assert wire.ok("GETVER", "k") == [b"v", version]
    done, newer, nothing = wire.ok("CAS", "k", version, "w")
    assert Version.parse(newer) > Version.parse(version)
    assert wire.call("CAS", "k", version, "w", "NX") == SYNTAX
    assert wire.call("CAS", "k", version).code == "ERR"


def test_mgetver(wire: Wire) -> None:
    version = wire.ok("SETVER", "a", "1")
    assert wire.ok("MGETVER", "a", "nope", "a") == [[b"1", version], None, [b"1", version]]


def test_delex_with_a_version(wire: Wire) -> None:
    version = wire.ok("SETVER", "k", "v")
    assert wire.ok("DELEX", "k", "VER", "1-1") == 0
    assert wire.ok("DELEX", "nope", "VER", "0") == 0
    assert wire.ok("DELEX", "k", "VER", version) == 1
    assert wire.ok("DELEX", "k") == 0


# -- CHECK ------------------------------------------------------------------------------


def test_check_outside_a_transaction_answers(wire: Wire) -> None:
    version = wire.ok("SETVER", "k", "v")
    assert wire.ok("CHECK", "k", version) == 1
    assert wire.ok("CHECK", "k", "0") == 0
    assert wire.ok("CHECK", "nope", version) == 0


def test_check_guards_the_state_before_the_transaction(wire: Wire) -> None:
    """Also when it is queued last, after the writes that move the version on."""
    version = wire.ok("SETVER", "k", "v")
    assert execute(wire, ("SET", "k", "w"), ("CHECK", "k", version)) == [b"OK", 1]
    assert execute(wire, ("SET", "k", "x"), ("SET", "o", "x"), ("CHECK", "k", version)) is None
    assert wire.ok("MGET", "k", "o") == [b"w", None]
    assert execute(wire, ("CHECK", "o", "0"), ("CHECK", "k", "0"), ("INCR", "o")) is None
    assert wire.ok("EXISTS", "o") == 0


def test_malformed_check_aborts_the_transaction(wire: Wire) -> None:
    replies = wire.pipeline([("MULTI",), ("SET", "k", "v"), ("CHECK", "k", "bad"), ("EXEC",)])
    assert replies[2] == INVALID
    assert replies[3].code == "EXECABORT"
    assert wire.ok("EXISTS", "k") == 0


# -- IDEM --------------------------------------------------------------------------------


def test_repeat_returns_the_stored_reply_and_changes_nothing(wire: Wire) -> None:
    assert wire.ok("IDEM", "t", "INCR", "n") == 1
    version = wire.ok("VER", "n")
    assert wire.ok("IDEM", "t", "INCR", "n") == 1
    assert wire.ok("idem", "t", "incr", "n") == 1
    assert wire.ok("GETVER", "n") == [b"1", version]


def test_scope_is_database_key_and_token(wire: Wire) -> None:
    assert wire.ok("IDEM", "t", "INCR", "n") == 1
    assert wire.ok("IDEM", "t", "INCR", "m") == 1
    assert wire.ok("IDEM", "u", "INCR", "n") == 2
    wire.ok("SELECT", 1)
    assert wire.ok("IDEM", "t", "INCR", "n") == 1


def test_option_and_prefix_are_the_same_request(wire: Wire) -> None:
    assert wire.ok("SET", "k", "v", "IDEM", "t", "EX", 100) == b"OK"
    before = wire.ok("VER", "k")
    assert wire.ok("IDEM", "t", "SET", "k", "v", "EX", 100) == b"OK"
    assert wire.ok("IDEM", "t", "TTL", 9000, "set", "k", "v", "EX", 100) == b"OK"
    assert wire.ok("VER", "k") == before


@pytest.mark.parametrize(
    "other",
    [
        ("INCRBY", "n", "1"),
        ("DEL", "n"),
        ("SET", "n", "1"),
    ],
)
def test_other_command_under_a_used_token(other: tuple[str, ...], wire: Wire) -> None:
    wire.ok("IDEM", "t", "INCR", "n")
    assert wire.call("IDEM", "t", *other).code == "IDEMMISMATCH"
    assert wire.ok("GET", "n") == b"1"


def test_other_arguments_under_a_used_token(wire: Wire) -> None:
    wire.ok("SET", "k", "v", "IDEM", "t")
    assert wire.call("SET", "k", "V", "IDEM", "t").code == "IDEMMISMATCH"
    assert wire.call("SETVER", "k", "v", "IDEM", "t").code == "IDEMMISMATCH"


def test_what_changed_nothing_is_not_stored(wire: Wire) -> None:
    assert wire.ok("IDEM", "t", "DEL", "k") == 0
    assert wire.ok("CAS", "k", "1-1", "v", "IDEM", "u") == [0, b"0-0", None]
    assert wire.call("IDEM", "w", "INCRBY", "k", "x").code == "ERR"
    wire.ok("SET", "k", "5")
    assert wire.ok("IDEM", "t", "DEL", "k") == 1
    assert wire.ok("IDEM", "w", "INCRBY", "k", "3") == 3
    version = wire.ok("VER", "k")
    assert wire.ok("CAS", "k", version, "v", "IDEM", "u")[0] == 1


def test_stored_reply_comes_before_versions_and_watch(wire: Wire) -> None:
    version = wire.ok("SETVER", "k", "v")
    won = wire.ok("CAS", "k", version, "w", "IDEM", "t")
    wire.ok("SET", "k", "elsewhere")
    assert wire.ok("CAS", "k", version, "w", "IDEM", "t") == won
    assert wire.ok("GET", "k") == b"elsewhere"
    wire.ok("WATCH", "k")
    first = execute(wire, ("INCR", "n"), end=("IDEM", "x", "EXEC"))
    assert first == [1]
    wire.ok("WATCH", "k")
    wire.ok("SET", "k", "again")
    assert execute(wire, ("INCR", "n"), end=("IDEM", "x", "EXEC")) == [1]
    assert wire.ok("GET", "n") == b"1"


def test_reply_is_encoded_for_the_asking_connection(connect: Connect) -> None:
    two, three = connect(2), connect(3)
    assert two.reply("SET", "k", "v", "GET", "IDEM", "t").raw == b"$-1\r\n"
    assert three.reply("SET", "k", "v", "GET", "IDEM", "t").raw == b"_\r\n"
    assert two.reply("SET", "k", "v", "GET", "IDEM", "t").raw == b"$-1\r\n"
    won = three.reply("CAS", "c", "0", "v", "IDEM", "t")
    assert won.items[2].raw == b"_\r\n"
    again = two.reply("CAS", "c", "0", "v", "IDEM", "t")
    assert again.items[2].raw == b"$-1\r\n"
    assert again.items[1].raw == won.items[1].raw


def test_transaction_under_a_token_runs_once(wire: Wire) -> None:
    for end, queue in (
        (("IDEM", "x", "EXEC"), [("INCR", "a"), ("SETVER", "b", "1")]),
        (("EXEC",), [("IDEM", "y"), ("INCR", "c"), ("SETVER", "d", "1")]),
    ):
        first = execute(wire, *queue, end=end)
        assert execute(wire, *queue, end=end) == first
        other = execute(wire, *queue, ("INCR", "z"), end=end)
        assert isinstance(other, ErrorReply)
        assert other.code == "IDEMMISMATCH"
    assert wire.ok("MGET", "a", "c", "z") == [b"1", b"1", None]


def test_transaction_with_failures_is_stored_if_anything_changed(wire: Wire) -> None:
    wire.ok("SET", "word", "x")
    queue = [("INCR", "word"), ("INCR", "n")]
    first = execute(wire, *queue, end=("IDEM", "x", "EXEC"))
    assert first[1] == 1  # type: ignore[index]
    wire.ok("SET", "word", "1")
    assert execute(wire, *queue, end=("IDEM", "x", "EXEC")) == first
    assert wire.ok("MGET", "word", "n") == [b"1", b"1"]


def test_refused_transaction_is_not_stored(wire: Wire) -> None:
    queue: list[tuple[Argument, ...]] = [("CHECK", "k", "0"), ("INCR", "n")]
    wire.ok("SET", "k", "v")
    assert execute(wire, *queue, end=("IDEM", "x", "EXEC")) is None
    wire.ok("DEL", "k")
    assert execute(wire, *queue, end=("IDEM", "x", "EXEC")) == [1, 1]


def test_each_idem_inside_a_transaction_is_judged_on_its_own(wire: Wire) -> None:
    wire.ok("IDEM", "t", "INCR", "n")
    reply = execute(wire, ("IDEM", "t", "INCR", "n"), ("IDEM", "u", "INCR", "n"), ("INCR", "n"))
    assert reply == [1, 2, 3]
    assert wire.ok("IDEM", "u", "INCR", "n") == 2


def test_flush_drops_stored_replies_but_its_own(wire: Wire) -> None:
    wire.ok("IDEM", "t", "INCR", "n")
    wire.ok("IDEM", "f", "FLUSHDB")
    assert wire.ok("IDEM", "t", "INCR", "n") == 1
    assert wire.ok("IDEM", "f", "FLUSHDB") == b"OK"
    assert wire.ok("GET", "n") == b"1"
    assert wire.call("IDEM", "f", "FLUSHALL").code == "IDEMMISMATCH"


def test_del_and_rename_keep_stored_replies(wire: Wire) -> None:
    wire.ok("IDEM", "t", "INCR", "n")
    wire.ok("RENAME", "n", "m")
    wire.ok("DEL", "m")
    assert wire.ok("IDEM", "t", "INCR", "n") == 1
    assert wire.ok("EXISTS", "n") == 0


def test_stored_reply_ends_with_its_ttl(wire: Wire) -> None:
    assert wire.ok("IDEM", "t", "TTL", 30, "INCR", "n") == 1
    time.sleep(0.05)
    assert wire.ok("IDEM", "t", "TTL", 30_000, "INCR", "n") == 2
    assert wire.ok("IDEM", "t", "INCR", "n") == 2


def test_window_option_ends_stored_replies(start_server: StartServer, connect: Connect) -> None:
    wire = connect(to=start_server(idempotency_window=1))
    assert wire.ok("IDEM", "t", "INCR", "n") == 1
    assert wire.ok("IDEM", "t", "INCR", "n") == 1
    time.sleep(1.1)
    assert wire.ok("IDEM", "t", "INCR", "n") == 2


@pytest.mark.parametrize(
    "command",
    [
        ("IDEM", "t", "GET", "k"),
        ("IDEM", "t", "IDEM", "u", "INCR", "k"),
        ("IDEM", "t", "SET", "k", "v", "IDEM", "u"),
        ("IDEM", "t", "NOSUCH", "k"),
        ("IDEM", "t", "INCR"),
        ("IDEM", "t", "TTL", "k"),
        ("IDEM", "t", "TTL", "-5", "INCR", "k"),
        ("IDEM", "t"),
        ("IDEM",),
    ],
)
def test_what_idem_refuses(command: tuple[str, ...], wire: Wire) -> None:
    assert isinstance(wire.call(*command), ErrorReply)
    assert wire.ok("DBSIZE") == 0


def test_stored_replies_are_counted_in_info(start_server: StartServer) -> None:
    server = start_server()
    for number in range(5):
        server.ask("IDEM", f"t{number}", "INCR", "n")
    server.ask("IDEM", "t0", "INCR", "n")
    assert b"idempotency_records:5\r\n" in server.ask("INFO", "everything")
