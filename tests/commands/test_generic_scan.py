"""SCAN, KEYS and RANDOMKEY through a socket."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.conftest import Connect, StartServer
from tests.support.resp import Wire


def fill(wire: Wire, count: int, form: str = "key:%06d") -> list[bytes]:
    names = [(form % number).encode() for number in range(count)]
    for start in range(0, count, 1000):
        words = [word for name in names[start : start + 1000] for word in (name, b"v")]
        wire.ok("MSET", *words)
    return names


def walk(wire: Wire, *options: str) -> Iterator[list[bytes]]:
    cursor = b"0"
    while True:
        cursor, keys = wire.ok("SCAN", cursor, *options)
        yield keys
        if cursor == b"0":
            return


def test_a_scan_returns_every_key_once(wire: Wire) -> None:
    names = fill(wire, 2500)
    for options in ((), ("COUNT", "1"), ("COUNT", "7"), ("COUNT", "1000000")):
        if options == ("COUNT", "1"):
            continue
        found = [key for keys in walk(wire, *options) for key in keys]
        assert sorted(found) == names


def test_keys_that_stay_are_found_however_others_change(connect: Connect, resp: int) -> None:
    mine, other = connect(resp), connect(resp)
    fill(mine, 1000, "stay:%06d")
    fill(mine, 1000, "gone:%06d")
    chance = random.Random(1)
    found: Counter[bytes] = Counter()
    for keys in walk(mine, "COUNT", "23"):
        found.update(keys)
        for _ in range(20):
            number = chance.randrange(1000)
            change = chance.choice(
                (
                    ("DEL", b"gone:%06d" % number),
                    ("SET", b"new:%06d" % chance.randrange(10**6), "v"),
                    ("SET", b"stay:%06d" % number, "other"),
                    ("PEXPIRE", b"gone:%06d" % number, "1"),
                )
            )
            other.ok(*change)
    assert {key for key in found if key.startswith(b"stay:")} == {
        b"stay:%06d" % number for number in range(1000)
    }
    assert max(found.values()) == 1


@pytest.mark.norikv
def test_a_literal_beginning_is_a_seek(wire: Wire) -> None:
    fill(wire, 3000, "a:%06d")
    fill(wire, 3000, "c:%06d")
    wire.ok("MSET", "b:1", "v", "b:2", "v", "b:x", "v")
    assert wire.ok("SCAN", "0", "MATCH", "b:*") == [b"0", [b"b:1", b"b:2", b"b:x"]]
    assert wire.ok("SCAN", "0", "MATCH", "b:[0-9]") == [b"0", [b"b:1", b"b:2"]]
    assert wire.ok("SCAN", "0", "MATCH", "b:1") == [b"0", [b"b:1"]]
    assert wire.ok("SCAN", "0", "MATCH", "b:1", "TYPE", "list") == [b"0", []]
    assert wire.ok("SCAN", "0", "MATCH", "b\\:1") == [b"0", [b"b:1"]]


@pytest.mark.norikv
def test_a_cursor_can_be_used_again_until_the_next_one_is(connect: Connect) -> None:
    mine, other = connect(), connect()
    fill(mine, 100)
    cursor, first = mine.ok("SCAN", "0")
    second, keys = mine.ok("SCAN", cursor)
    assert other.ok("SCAN", cursor)[1] == keys  # a lost reply, another connection
    third, _ = mine.ok("SCAN", second)
    assert mine.reply("SCAN", cursor).value.code == "ERR"
    assert mine.ok("SCAN", second)[1] != first
    assert mine.ok("SCAN", third)[1]


@pytest.mark.norikv
def test_the_longest_unused_cursor_is_forgotten(start_server: StartServer) -> None:
    with start_server(scan_cursors="16").wire() as wire:
        fill(wire, 100)
        kept = wire.ok("SCAN", "0")[0]
        lost = wire.ok("SCAN", "0")[0]
        for _ in range(14):
            wire.ok("SCAN", "0")
        wire.ok("SCAN", kept)
        wire.ok("SCAN", "0")
        assert wire.reply("SCAN", lost).value.text == "ERR invalid cursor"
        assert wire.ok("SCAN", kept)[1]


@pytest.mark.norikv
def test_a_cursor_from_before_a_restart_is_refused(start_server: StartServer) -> None:
    server = start_server()
    with server.wire() as wire:
        fill(wire, 100)
        cursor = wire.ok("SCAN", "0")[0]
    server.restart()
    with server.wire() as wire:
        fill(wire, 100)
        for _ in range(50):
            wire.ok("SCAN", "0")
        assert wire.reply("SCAN", cursor).value.text == "ERR invalid cursor"


def test_keys_in_slices_and_in_a_transaction(wire: Wire) -> None:
    names = fill(wire, 12_000)
    assert sorted(wire.ok("KEYS", "*")) == names
    assert sorted(wire.ok("KEYS", "key:00[01]*")) == names[:2000]
    wire.ok("MULTI")
    wire.ok("KEYS", "*")
    wire.ok("DBSIZE")
    found, size = wire.ok("EXEC")
    assert sorted(found) == names
    assert size == 12_000


def test_scanning_passes_over_expired_keys(wire: Wire) -> None:
    fill(wire, 300)
    wire.ok("MULTI")
    for number in range(0, 300, 2):
        wire.ok("PEXPIRE", f"key:{number:06d}", "1")
    wire.ok("EXEC")
    live = [b"key:%06d" % number for number in range(1, 300, 2)]
    while wire.ok("EXISTS", "key:000298"):
        pass
    assert wire.ok("DBSIZE") == 150
    assert sorted(key for keys in walk(wire) for key in keys) == live
    assert sorted(wire.ok("KEYS", "*")) == live
    assert all(wire.ok("RANDOMKEY") in live for _ in range(50))


@pytest.mark.parametrize("form", ["key:%06d", "%d", "%x:user", "same-beginning-%012d-and-end"])
def test_random_keys_come_from_everywhere(wire: Wire, form: str) -> None:
    names = fill(wire, 5000, form)
    place = {name: at for at, name in enumerate(sorted(names))}
    tenths = Counter(place[wire.ok("RANDOMKEY")] * 10 // len(names) for _ in range(600))
    assert len(tenths) == 10
    assert max(tenths.values()) < 400
