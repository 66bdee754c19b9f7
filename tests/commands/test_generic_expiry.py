"""Deadlines through a socket: exact to the millisecond, swept, and over a restart."""

from __future__ import annotations

import time

import pytest

from tests.conftest import StartServer
from tests.support.resp import Wire


@pytest.mark.norikv
def test_a_key_is_gone_at_its_millisecond_for_every_command(start_server: StartServer) -> None:
    with start_server(hz="1").wire() as wire:  # the sweeper comes long after
        for number in range(20):
            wire.ok("SET", f"k{number}", "v", "PX", "30")
        wire.ok("SET", "stays", "v")
        time.sleep(0.031)
        assert wire.pipeline(
            [("DBSIZE",), ("KEYS", "*"), ("SCAN", "0", "COUNT", "50"), ("RANDOMKEY",)]
        ) == [
            1,
            [b"stays"],
            [b"0", [b"stays"]],
            b"stays",
        ]
        assert wire.ok("EXISTS", *(f"k{number}" for number in range(20))) == 0
        assert wire.ok("TTL", "k1") == -2
        assert wire.ok("DEL", "k1") == 0
        assert wire.ok("RENAMENX", "stays", "k1") == 1
        assert wire.ok("SETNX", "k2", "new") == 1
        assert wire.ok("TTL", "k2") == -1
        assert wire.ok("DBSIZE") == 2


def test_expired_targets_are_no_obstacle(wire: Wire) -> None:
    wire.ok("SET", "a", "1")
    wire.ok("SELECT", "1")
    wire.ok("SET", "a", "old", "PX", "1")
    wire.ok("SET", "b", "old", "PX", "1")
    time.sleep(0.005)
    wire.ok("SELECT", "0")
    assert wire.ok("COPY", "a", "b", "DB", "1") == 1
    assert wire.ok("MOVE", "a", "1") == 1
    wire.ok("SELECT", "1")
    assert wire.ok("MGET", "a", "b") == [b"1", b"1"]
    assert wire.ok("TTL", "a") == -1
    assert wire.ok("DBSIZE") == 2


@pytest.mark.norikv
def test_extending_and_shortening_again_and_again(wire: Wire) -> None:
    wire.ok("SET", "k", "v", "PX", "500")
    for _ in range(30):
        wire.ok("PEXPIRE", "k", "1000")
        time.sleep(0.02)
    assert wire.ok("GET", "k") == b"v"
    wire.ok("PEXPIRE", "k", "20")
    time.sleep(0.15)
    assert wire.ok("GET", "k") is None
    assert wire.ok("DBSIZE") == 0


@pytest.mark.norikv
def test_dbsize_is_exact_while_thousands_expire_at_once(wire: Wire) -> None:
    wire.ok("SET", "stays", "v")
    at = int(time.time() * 1000) + 1500
    for start in range(0, 8000, 1000):
        wire.pipeline(
            [("SET", f"k{number}", "v", "PXAT", str(at)) for number in range(start, start + 1000)]
        )
    assert int(time.time() * 1000) < at, "too slow a machine for this test"
    assert wire.ok("DBSIZE") == 8001
    time.sleep(max(0.0, at / 1000 - time.time()) + 0.001)
    assert wire.ok("DBSIZE") == 1
    wire.ok("MULTI")
    wire.ok("DBSIZE")
    assert wire.ok("EXEC") == [1]


@pytest.mark.norikv
def test_deadlines_survive_a_restart(start_server: StartServer) -> None:
    server = start_server()
    with server.wire() as wire:
        wire.ok("SET", "soon", "v", "PX", "300")
        wire.ok("SET", "late", "v", "EX", "1000")
        wire.ok("SET", "moved", "v", "PX", "300")
        wire.ok("EXPIRE", "moved", "1000")
    server.kill9()
    time.sleep(0.35)
    server.start()
    with server.wire() as wire:
        assert wire.ok("MGET", "soon", "late", "moved") == [None, b"v", b"v"]
        assert wire.ok("DBSIZE") == 2
        assert 900 < wire.ok("TTL", "moved") <= 1000
