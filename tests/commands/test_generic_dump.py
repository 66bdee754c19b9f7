"""DUMP and RESTORE, also against a real Redis."""

from __future__ import annotations

import random
import struct

from norikv_resp.crc64 import crc64
from tests.conftest import Connect
from tests.support.resp import Wire
from tests.support.server import ServerProcess

VALUES = [
    b"",
    b"v",
    b"0",
    b"-12",
    b"127",
    b"-32768",
    b"2147483647",
    b"-2147483649",
    b"12345678901234567890",
    b"007",
    b"a" * 1000,
    b"abcabcabcabd" * 3000,
    b"the quick brown fox " * 10_000 + b"and its end",
    random.Random(1).randbytes(100_000),
    b"\0\xff\r\n" * 20_000,
]


def for_older(payload: bytes) -> bytes:
    """The same payload under a version that every peer reads."""
    body = payload[:-10] + struct.pack("<H", 6)
    return body + struct.pack("<Q", crc64(body))


def test_payloads_travel_both_ways(wire: Wire, peer: ServerProcess) -> None:
    with peer.wire() as other:
        for number, value in enumerate(VALUES):
            theirs, mine = f"theirs:{number}", f"mine:{number}"
            other.ok("SET", theirs, value)
            wire.ok("RESTORE", theirs, "0", other.ok("DUMP", theirs))
            assert wire.ok("GET", theirs) == value
            wire.ok("SET", mine, value)
            other.ok("RESTORE", mine, "0", for_older(wire.ok("DUMP", mine)))
            assert other.ok("GET", mine) == value


def test_options_of_restore(wire: Wire) -> None:
    wire.ok("SET", "a", "value")
    payload = wire.ok("DUMP", "a")
    assert wire.reply("RESTORE", "a", "0", payload).value.code == "BUSYKEY"
    wire.ok("RESTORE", "a", "100000", payload, "REPLACE", "IDLETIME", "5")
    assert 99 <= wire.ok("TTL", "a") <= 100
    wire.ok("RESTORE", "a", "4102444800123", payload, "ABSTTL", "REPLACE", "FREQ", "200")
    assert wire.ok("PEXPIRETIME", "a") == 4102444800123
    wire.ok("RESTORE", "a", "1", payload, "ABSTTL", "REPLACE")
    assert wire.ok("EXISTS", "a") == 0
    wire.ok("RESTORE", "b", "1", payload, "ABSTTL")
    assert wire.ok("DBSIZE") == 0
    errors = {
        ("c", "0", payload, "FREQ", "256"): "ERR Invalid FREQ value, must be >= 0 and <= 255",
        ("c", "0", payload, "IDLETIME", "-1"): "ERR Invalid IDLETIME value, must be >= 0",
        ("c", "0", payload, "IDLETIME", "1", "FREQ", "1"): "ERR syntax error",
        ("c", "0", payload[:-1] + b"x"): "ERR DUMP payload version or checksum are wrong",
        ("c", "0", b""): "ERR DUMP payload version or checksum are wrong",
    }
    for words, text in errors.items():
        assert wire.reply("RESTORE", *words).value.text == text
    body = b"\x01\x01v\x0e\x00"
    sealed = body + struct.pack("<Q", crc64(body))
    assert wire.reply("RESTORE", "c", "0", sealed).value.text == "ERR Bad data format"


def test_a_restored_key_fires_watchers(connect: Connect) -> None:
    mine, other = connect(), connect()
    mine.ok("SET", "a", "1")
    payload = mine.ok("DUMP", "a")
    mine.ok("WATCH", "a")
    other.ok("RESTORE", "a", "0", payload, "REPLACE")
    mine.ok("MULTI")
    mine.ok("PING")
    assert mine.ok("EXEC") is None
