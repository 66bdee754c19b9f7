"""Frames that no client should send: Redis's own error and a close, and nobody else affected."""

from __future__ import annotations

import random
import socket
import time

import pytest

from tests.conftest import Connect, StartServer
from tests.support.pinger import Pinger
from tests.support.resp import Wire, encode
from tests.support.server import ServerProcess

MB = 1 << 20

#: Name → (bytes, the error after "-ERR Protocol error: "). The connection is closed after it.
REFUSED = {
    "integer for an argument": (b"*1\r\n:5\r\n", b"expected '$', got ':'"),
    "error for an argument": (b"*2\r\n-ERR x\r\n", b"expected '$', got '-'"),
    "array for an argument": (b"*1\r\n*1\r\n$4\r\nPING\r\n", b"expected '$', got '*'"),
    "null for an argument": (b"*1\r\n_\r\n", b"expected '$', got '_'"),
    "boolean for an argument": (b"*2\r\n$3\r\nGET\r\n#t\r\n", b"expected '$', got '#'"),
    "double for an argument": (b"*1\r\n,1.5\r\n", b"expected '$', got ','"),
    "map for an argument": (b"*1\r\n%1\r\n", b"expected '$', got '%'"),
    "null bulk for an argument": (b"*1\r\n$-1\r\n", b"invalid bulk length"),
    "negative bulk length": (b"*1\r\n$-5\r\n", b"invalid bulk length"),
    "bulk of more than 512 MB": (b"*1\r\n$536870913\r\n", b"invalid bulk length"),
    "bulk length of 20 digits": (b"*1\r\n$99999999999999999999\r\n", b"invalid bulk length"),
    "bulk length in words": (b"*1\r\n$five\r\n", b"invalid bulk length"),
    "bulk length missing": (b"*1\r\n$\r\n", b"invalid bulk length"),
    "bulk length with a sign": (b"*1\r\n$+4\r\nPING\r\n", b"invalid bulk length"),
    "bulk length with a blank": (b"*1\r\n$ 4\r\nPING\r\n", b"invalid bulk length"),
    "array length of 2^31": (b"*2147483648\r\n", b"invalid multibulk length"),
    "array length of 20 digits": (b"*99999999999999999999\r\n", b"invalid multibulk length"),
    "array length in words": (b"*one\r\n", b"invalid multibulk length"),
    "array length with a sign": (b"*+1\r\n$4\r\nPING\r\n", b"invalid multibulk length"),
    "streamed array": (b"*?\r\n", b"invalid multibulk length"),
    "inline of 64 KB without an end": (b"A" * (65 * 1024), b"too big inline request"),
    "array length of 64 KB": (b"*" + b"1" * (65 * 1024), b"too big mbulk count string"),
    "bulk length of 64 KB": (b"*1\r\n$" + b"1" * (65 * 1024), b"too big bulk count string"),
    "unbalanced quotes": (b'SET k "v\r\n', b"unbalanced quotes in request"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_redis_error_and_close(name: str, wire: Wire) -> None:
    data, error = REFUSED[name]
    wire.send(data)
    assert wire.drain_until_closed() == b"-ERR Protocol error: " + error + b"\r\n"


def test_commands_before_a_bad_frame_are_answered(wire: Wire) -> None:
    wire.send(encode("SET", "k", "v") + encode("GET", "k") + b"*1\r\n:1\r\n" + encode("DEL", "k"))
    expected = b"+OK\r\n$1\r\nv\r\n-ERR Protocol error: expected '$', got ':'\r\n"
    assert wire.drain_until_closed() == expected


@pytest.mark.parametrize(
    "data", [b"+OK\r\n", b"-ERR no\r\n", b":1\r\n", b"$5\r\nhello\r\n", b"_\r\n", b"%1\r\n"]
)
def test_replies_sent_as_requests_are_unknown_commands(data: bytes, wire: Wire) -> None:
    """A line that does not begin with * is an inline command, whatever it looks like."""
    wire.send(data)
    assert wire.read_reply().raw.startswith(b"-ERR unknown command")
    wire.pending(0.05)
    assert wire.ok("ECHO", "still here") == b"still here"


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_empty_lines_and_arrays_say_nothing(ending: bytes, wire: Wire) -> None:
    wire.send(ending * 100 + b"*0\r\n" * 100 + b"*-1\r\n" * 100 + b"   " + ending)
    assert wire.ok("PING") == b"PONG"


def test_frames_split_at_every_byte(wire: Wire) -> None:
    data = encode("SET", "split", "a\r\nb") + b"GET split\r\n" + encode("ECHO", "")
    for cut in range(1, len(data)):
        wire.send(data[:cut])
        time.sleep(0.0005)
        wire.send(data[cut:])
        replies = [wire.read_reply().raw for _ in range(3)]
        assert replies == [b"+OK\r\n", b"$4\r\na\r\nb\r\n", b"$0\r\n\r\n"], cut


def test_half_closed_socket_gets_its_replies(connect: Connect, server: ServerProcess) -> None:
    """What was sent before the half-close is answered, durable writes too; then it is closed."""
    wire = connect()
    wire.send(encode("SET", "half", "1") + encode("GET", "half") + encode("PING"))
    wire.sock.shutdown(socket.SHUT_WR)
    assert wire.drain_until_closed() == b"+OK\r\n$1\r\n1\r\n+PONG\r\n"
    assert server.ask("GET", "half") == b"1"


def test_half_a_command_is_dropped_with_its_connection(
    connect: Connect, server: ServerProcess
) -> None:
    wire = connect()
    wire.send(encode("SET", "whole", "1") + encode("SET", "part", "1")[:-3])
    wire.sock.shutdown(socket.SHUT_WR)
    assert wire.drain_until_closed() == b"+OK\r\n"
    assert server.ask("EXISTS", "part") == 0


# -- memory ----------------------------------------------------------------------


def grown(server: ServerProcess, before: int) -> float:
    return (server.anonymous_memory() - before) / MB


@pytest.mark.parametrize(
    "claim",
    [
        b"*2147483647\r\n",
        b"*1000000\r\n$1\r\na\r\n",
        b"*2\r\n$3\r\nGET\r\n$536870912\r\n",
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000000\r\nabc",
    ],
)
def test_memory_follows_what_was_sent_not_what_was_claimed(
    claim: bytes, connect: Connect, server: ServerProcess
) -> None:
    connect().ok("PING")
    before = server.anonymous_memory()
    wires = [connect() for _ in range(50)]
    with Pinger(server) as pinger:
        for wire in wires:
            wire.send(claim)
        time.sleep(0.3)
        assert grown(server, before) < 30
    assert pinger.longest < 1.0


def test_bulk_that_never_ends_is_bounded_by_the_query_limit(
    start_server: StartServer, connect: Connect
) -> None:
    server = start_server(client_query_buffer_limit=8 * MB)
    wire = connect(to=server)
    before = server.anonymous_memory()
    with Pinger(server) as pinger:
        try:
            wire.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$400000000\r\n")
            for _ in range(64):
                wire.send(b"x" * MB)
            closed = not wire.drain_until_closed(limit=1000)
        except (OSError, EOFError):
            closed = True
    assert closed
    assert grown(server, before) < 48
    assert pinger.longest < 1.0


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"*11\r\n", b"unauthenticated multibulk length"),
        (b"*2\r\n$4\r\nECHO\r\n$16385\r\n", b"unauthenticated bulk length"),
    ],
)
def test_limits_before_authentication(start_server: StartServer, data: bytes, error: bytes) -> None:
    server = start_server(requirepass="secret")
    with server.wire() as wire:
        wire.send(data)
        assert wire.drain_until_closed() == b"-ERR Protocol error: " + error + b"\r\n"
    with server.wire() as wire:
        assert wire.call("PING").code == "NOAUTH"
        assert wire.ok("AUTH", "secret") == b"OK"
        assert len(wire.ok("ECHO", "x" * 20_000)) == 20_000
        assert wire.ok("MGET", *map(str, range(50))) == [None] * 50


# -- random bytes -------------------------------------------------------------------

FRAGMENTS = (
    b"*", b"$", b"\r\n", b"\n", b"\r", b"*1\r\n", b"*2\r\n", b"*3\r\n", b"*0\r\n", b"*-1\r\n",
    b"$4\r\nPING\r\n", b"$3\r\nGET\r\n", b"$1\r\nk\r\n", b"$3\r\nSET\r\n", b"$-1\r\n", b"$0\r\n",
    b"PING\r\n", b"GET k\r\n", b"SET k v\r\n", b'"', b"'", b"\\x00", b" ", b"\x00", b"\xff\xfe",
    b"+OK\r\n", b":7\r\n", b"$7", b"99999", b"-", b"%2\r\n", b">1\r\n", b"~1\r\n", b"*9\r\n",
    encode("SET", "k", "v"), encode("GET", "k"), encode("MULTI"), encode("EXEC"), encode("PING"),
    encode("WATCH", "k"), encode("HELLO", "3"), encode("RESET"), encode("CLIENT", "REPLY", "SKIP"),
    encode("CLIENT", "LIST"), encode("COMMAND", "INFO", "get"), encode("CONFIG", "GET", "*"),
)  # fmt: skip


@pytest.mark.limit(90)
def test_random_fragments_harm_nobody(server: ServerProcess) -> None:
    """Any mixture of protocol pieces: answered or refused, the server lives and stays small."""
    rng = random.Random(0xF00D)
    with Pinger(server) as pinger:
        before = server.anonymous_memory()
        deadline = time.monotonic() + 8.0
        rounds = 0
        while time.monotonic() < deadline:
            rounds += 1
            with server.wire() as wire:
                data = bytearray(b"".join(rng.choices(FRAGMENTS, k=rng.randint(1, 40))))
                for _ in range(rng.choice((0, 0, 1, 5))):
                    data[rng.randrange(len(data))] = rng.randrange(256)
                try:
                    for _ in range(rng.randint(1, 3)):
                        cut = rng.randint(0, len(data))
                        wire.send(bytes(data[:cut]))
                        del data[:cut]
                    wire.pending(0.001)
                except OSError:
                    pass  # refused and closed while more was on its way
        assert grown(server, before) < 40
    assert rounds > 100
    assert pinger.longest < 2.0
    assert "Traceback" not in server.log_text(), "the log shows an unexpected exception"
