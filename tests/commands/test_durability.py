"""SAVE, BGSAVE, WAITAOF and SHUTDOWN."""

from __future__ import annotations

import time

import pytest

from tests.conftest import Connect, StartServer
from tests.support.resp import ErrorReply


@pytest.mark.parametrize("policy", ["always", "everysec", "no"])
def test_points_after_which_all_is_on_disk(
    policy: str, start_server: StartServer, connect: Connect
) -> None:
    wire = connect(2, to=start_server(appendfsync=policy))
    # At once, with nothing to wait for.
    assert wire.ok("WAITAOF", "1", "0", "0") == [1, 0]
    assert wire.ok("SAVE") == b"OK"
    for number in range(20):
        wire.send(b"SET k%d v\r\nWAITAOF 1 0 0\r\n" % number)
        assert [wire.read(), wire.read()] == [b"OK", [1, 0]]
    assert b"unsynced_records:0" in wire.ok("INFO", "norikv")
    wire.send(b"SET k v\r\nSAVE\r\n")
    assert [wire.read(), wire.read()] == [b"OK", b"OK"]
    assert b"unsynced_records:0" in wire.ok("INFO", "norikv")
    wire.ok("SET", "k", "w")
    assert wire.ok("BGSAVE") == b"Background saving started"
    assert wire.ok("BGREWRITEAOF") == b"Background append only file rewriting started"
    assert abs(wire.ok("LASTSAVE") - time.time()) < 5


def test_in_a_transaction_nothing_waits(start_server: StartServer, connect: Connect) -> None:
    wire = connect(2, to=start_server(appendfsync="everysec"))
    wire.ok("MULTI")
    wire.ok("SET", "k", "v")
    wire.ok("WAITAOF", "1", "0", "0")
    wire.ok("BGSAVE")
    assert wire.ok("EXEC") == [b"OK", [0, 0], b"Background saving started"]
    wire.ok("MULTI")
    assert wire.call("SAVE") == ErrorReply("ERR Command not allowed inside a transaction")


def test_bad_arguments_of_waitaof(start_server: StartServer, connect: Connect) -> None:
    wire = connect(2, to=start_server())
    assert wire.call("WAITAOF", "2", "0", "0").text == (
        "ERR value is out of range, value must between 0 and 1"
    )
    assert wire.call("WAITAOF", "1", "-1", "0").text == (
        "ERR value is out of range, must be positive"
    )
    assert wire.call("WAITAOF", "1", "0", "-1").text == "ERR timeout is negative"
    assert wire.call("WAITAOF", "1", "0", "x").text == (
        "ERR timeout is not an integer or out of range"
    )


@pytest.mark.parametrize("words", [(), ("NOSAVE",), ("SAVE", "NOW", "FORCE")])
def test_shutdown_keeps_what_was_acknowledged(
    words: tuple[str, ...], start_server: StartServer, connect: Connect
) -> None:
    server = start_server(appendfsync="no")
    wire = connect(2, to=server)
    assert wire.call("SHUTDOWN", "ABORT") == ErrorReply("ERR No shutdown in progress.")
    assert wire.call("SHUTDOWN", "SAVE", "NOSAVE") == ErrorReply("ERR syntax error")
    wire.ok("SET", "k", "v")
    wire.send(b"SHUTDOWN " + " ".join(words).encode() + b"\r\n")
    assert wire.closed_by_server()
    assert server.process is not None
    assert server.process.wait(20) == 0
    server.start()
    assert connect(2, to=server).ok("GET", "k") == b"v"
