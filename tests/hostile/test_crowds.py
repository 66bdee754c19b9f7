"""Many clients, slow clients, large values: bounded memory, and nobody waits for the others."""

from __future__ import annotations

import os
import resource
import selectors
import socket
import threading
import time

import pytest

from tests.conftest import Connect, StartServer
from tests.support.pinger import Pinger
from tests.support.resp import Wire, encode
from tests.support.server import ServerProcess

MB = 1 << 20


@pytest.fixture
def many_files() -> None:
    """Room for two thousand sockets here and in servers that start from here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192
    if soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            pytest.skip(f"only {hard} open files are allowed here (ulimit -Hn)")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@pytest.mark.limit(60)
def test_a_thousand_connections(many_files: None, start_server: StartServer) -> None:
    server = start_server()
    wires = [server.wire(timeout=30.0) for _ in range(1000)]
    try:
        for turn in range(3):
            for number, wire in enumerate(wires):
                wire.send(encode("SET", f"c{number}", turn) + encode("GET", f"c{number}"))
            for wire in wires:
                assert wire.read() == b"OK"
                assert wire.read() == b"%d" % turn
        assert wires[0].ok("DBSIZE") == 1000
        info = wires[0].ok("INFO", "clients").decode()
        assert "connected_clients:1000" in info
    finally:
        for wire in wires:
            wire.close()
    with server.wire() as wire:
        deadline = time.monotonic() + 10.0
        while "connected_clients:1\r" not in wire.ok("INFO", "clients").decode():
            assert time.monotonic() < deadline, "closed connections are still counted"
            time.sleep(0.05)


def test_one_connection_too_many_is_told_so(start_server: StartServer, connect: Connect) -> None:
    server = start_server(maxclients=5)
    deadline = time.monotonic() + 5.0
    wires: list[Wire] = []
    while len(wires) < 5:  # the probe of the start may still be counted
        wire = connect(to=server)
        if wire.call("PING") == b"PONG":
            wires.append(wire)
        assert time.monotonic() < deadline
    with server.wire() as wire:
        answer = wire.drain_until_closed()
        assert answer == b"-ERR max number of clients reached\r\n"
    wires.pop().close()
    time.sleep(0.2)
    with server.wire() as wire:
        assert wire.call("PING") == b"PONG"


def test_idle_clients_are_closed_after_the_timeout(
    start_server: StartServer, connect: Connect
) -> None:
    server = start_server(timeout=1)
    idle, busy = connect(to=server), connect(to=server)
    begun = time.monotonic()
    while time.monotonic() - begun < 3.5:
        assert busy.call("PING") == b"PONG"
        time.sleep(0.25)
    idle.timeout = 2.0
    assert idle.closed_by_server()


# -- clients that do not read ---------------------------------------------------------


@pytest.mark.limit(60)
def test_slow_reader_does_not_fill_the_memory(server: ServerProcess, connect: Connect) -> None:
    """2 GB of replies asked for in one go: reading of requests pauses, others are served."""
    with server.wire() as wire:
        wire.ok("SET", "wide", b"x" * 100_000)
        wire.ok("GET", "wide")
    before = server.anonymous_memory()
    slow = connect(to=server, receive_buffer=65536)
    request = encode("GET", "wide") * 20_000
    slow.sock.setblocking(False)
    with Pinger(server, "wide") as pinger:
        sent, deadline = 0, time.monotonic() + 4.0
        while sent < len(request) and time.monotonic() < deadline:
            try:
                sent += slow.sock.send(request[sent : sent + 65536])
            except BlockingIOError:
                time.sleep(0.05)
        grown = (server.anonymous_memory() - before) / MB
    assert grown < 100, f"{grown:.0f} MB of replies wait for a client that does not read"
    assert pinger.longest < 1.0


@pytest.mark.limit(60)
def test_slow_reader_gets_everything_in_the_end(server: ServerProcess, connect: Connect) -> None:
    value = os.urandom(50_000)
    with server.wire() as wire:
        wire.ok("SET", "wide", value)
    slow = connect(to=server, receive_buffer=65536, timeout=30.0)
    count = 1000
    sender = threading.Thread(target=slow.send, args=(encode("GET", "wide") * count,), daemon=True)
    sender.start()
    time.sleep(1.0)
    for _ in range(count):
        assert slow.read_reply().data == value
    sender.join(10.0)
    assert slow.ok("PING") == b"PONG"


@pytest.mark.limit(60)
def test_output_limit_closes_a_client_that_does_not_read(
    start_server: StartServer, connect: Connect
) -> None:
    server = start_server(client_output_buffer_limit="normal 4mb 0 0")
    with server.wire() as wire:
        wire.ok("SET", "wide", b"x" * (2 * MB))
    before = server.anonymous_memory()
    slow = connect(to=server, receive_buffer=65536)
    slow.send(encode("GET", "wide") * 50)
    with Pinger(server, "wide") as pinger:
        assert wait_until_closed(server, 1, 10.0), "the client is still connected"
        assert (server.anonymous_memory() - before) / MB < 120
    assert pinger.longest < 1.0


@pytest.mark.limit(60)
def test_subscriber_that_does_not_read_is_closed(
    start_server: StartServer, connect: Connect
) -> None:
    server = start_server(client_output_buffer_limit="pubsub 8mb 2mb 10")
    deaf = connect(to=server, receive_buffer=65536)
    deaf.ok("SUBSCRIBE", "news")
    before = server.anonymous_memory()
    with server.wire() as publisher:
        for _ in range(300):
            if publisher.ok("PUBLISH", "news", b"x" * 100_000) == 0:
                break
        else:
            raise AssertionError("30 MB of messages wait for a subscriber that does not read")
    assert (server.anonymous_memory() - before) / MB < 60


def wait_until_closed(server: ServerProcess, others: int, seconds: float) -> bool:
    """Whether only the asking client and *others* are left within that time."""
    deadline = time.monotonic() + seconds
    with server.wire() as wire:
        while time.monotonic() < deadline:
            if len(wire.ok("CLIENT", "LIST").splitlines()) <= 1 + others:
                return True
            time.sleep(0.1)
    return False


# -- large values -------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.limit(120)
def test_hundred_megabytes_come_back(start_server: StartServer, connect: Connect) -> None:
    server = start_server()
    size = 100 * MB
    value = os.urandom(MB) * 100
    wire = connect(to=server, timeout=60.0)
    with server.wire() as other:
        other.ok("SET", "small", "1")
    with Pinger(server, "small") as pinger:
        begun = time.monotonic()
        assert wire.ok("SET", "huge", value) == b"OK"
        stored = time.monotonic() - begun
        assert wire.ok("STRLEN", "huge") == size
        assert wire.ok("GETRANGE", "huge", size - 5, -1) == value[-5:]
        begun = time.monotonic()
        assert wire.ok("GET", "huge") == value
        fetched = time.monotonic() - begun
        begun = time.monotonic()
        assert wire.ok("APPEND", "huge", "tail") == size + 4
        appended = time.monotonic() - begun
        assert wire.ok("SETRANGE", "huge", 10, "0123456789") == size + 4
        assert wire.ok("GETRANGE", "huge", 8, 21) == value[8:10] + b"0123456789" + value[20:22]
    print(f"SET {stored:.1f} s, GET {fetched:.1f} s, APPEND {appended:.2f} s")
    print(f"longest wait of a bystander: {pinger.longest:.2f} s")
    assert pinger.longest < 3.0
    assert appended < 5.0
    wire.close()
    server.restart(clean=False)
    with server.wire(timeout=60.0) as again:
        data = again.ok("GET", "huge")
        assert len(data) == size + 4
        assert data[20:size] == value[20:]
        assert data[size:] == b"tail"
        assert again.ok("DEL", "huge") == 1


@pytest.mark.limit(60)
def test_large_pipeline_is_answered_in_order(connect: Connect) -> None:
    """A hundred thousand commands in one go, replies read while they come."""
    wire = connect(timeout=50.0)
    count = 100_000
    data = b"".join(encode("INCR", "n") for _ in range(count))
    last = b":%d\r\n" % count
    received = bytearray()
    position = 0
    wire.sock.setblocking(False)
    with selectors.DefaultSelector() as selector:
        selector.register(wire.sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
        while not received.endswith(last):
            ready = selector.select(20.0)
            assert ready, f"nothing moves after {len(received)} bytes of replies"
            events = ready[0][1]
            if events & selectors.EVENT_READ:
                received += wire.sock.recv(1 << 18)
            if events & selectors.EVENT_WRITE:
                position += wire.sock.send(data[position : position + (1 << 16)])
                if position == len(data):
                    selector.modify(wire.sock, selectors.EVENT_READ)
    assert bytes(received) == b"".join(b":%d\r\n" % n for n in range(1, count + 1))


def test_one_greedy_pipeline_does_not_hold_up_others(
    server: ServerProcess, connect: Connect
) -> None:
    """Commands of one client per turn are bounded: a bystander gets its answers in between."""
    greedy = connect(to=server, timeout=30.0)
    with Pinger(server, "n", every=0.002) as pinger:
        sender = threading.Thread(
            target=_send_quietly, args=(greedy.sock, encode("INCR", "n") * 50_000), daemon=True
        )
        sender.start()
        for number in range(1, 50_001):
            assert greedy.read() == number
        sender.join(10.0)
    assert pinger.longest < 0.5


def _send_quietly(sock: socket.socket, data: bytes) -> None:
    try:
        sock.sendall(data)
    except OSError:
        pass
