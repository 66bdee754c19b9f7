"""The server while its disk, LevelDB and clock misbehave: replies, reads, and what comes back."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from norikv_resp import check
from norikv_resp.store import inspect_store
from tests.golden.replay import Replay, Verdict, load
from tests.support.faulty_server import HELD_LOG, PAGE, FaultyServer
from tests.support.pinger import Pinger
from tests.support.resp import ErrorReply, Wire, encode
from tests.support.server import LATE_LOG, SMALL_SIZES, ServerDiedError, ServerProcess

pytestmark = pytest.mark.norikv

StartFaulty = Callable[..., FaultyServer]


@pytest.fixture
def start_faulty() -> Iterator[StartFaulty]:
    servers: list[FaultyServer] = []

    def start(**options: Any) -> FaultyServer:
        options.setdefault("commit_log_segment_size", "1mb")
        servers.append(FaultyServer(**options))
        servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def eventually(attempt: Callable[[], Any], seconds: float = 10.0) -> Any:
    """The first reply that is no error."""
    deadline = time.monotonic() + seconds
    while isinstance(reply := attempt(), ErrorReply):
        assert time.monotonic() < deadline, reply
        time.sleep(0.05)
    return reply


def assert_whole(server: ServerProcess) -> None:
    assert check.main([str(server.data)]) == 0


# ---- a log that answers late


@pytest.fixture(scope="module")
def late_server() -> Iterator[ServerProcess]:
    with ServerProcess(commit_log=LATE_LOG) as process:
        yield process


LATE_SCENARIOS = [
    *load("transactions"),
    *[scenario for scenario in load("strings") if scenario.title.split()[0] in ("SET", "INCR")],
]


@pytest.mark.parametrize("scenario", LATE_SCENARIOS, ids=str)
def test_recorded_replies_on_a_log_that_answers_late(
    scenario: Any, late_server: ServerProcess
) -> None:
    outcomes = Replay(scenario, late_server.address, 2).run()
    failed = [outcome for outcome in outcomes if outcome.verdict is Verdict.FAILED]
    assert not failed, "\n".join(map(str, failed))


def test_a_reply_waits_for_the_commit_of_what_it_shows(start_faulty: StartFaulty) -> None:
    server = start_faulty(commit_log=HELD_LOG)
    with server.wire() as setup:
        setup.pipeline([("SET", "old", "1"), ("SET", "gone", "1"), ("SET", "n", "1")])
    names = ("writer", "reader", "absent", "count", "failed", "cas", "token", "watch", "bystander")
    wires = {name: server.wire() for name in names}
    wires["watch"].ok("WATCH", "n")
    server.tell("hold", True)
    began = time.monotonic()
    sends: list[tuple[str, list[tuple[str, ...]]]] = [
        ("writer", [("SET", "k", "new"), ("DEL", "gone"), ("IDEM", "t", "INCR", "n")]),
        ("reader", [("GET", "k")]),
        ("absent", [("EXISTS", "gone")]),
        ("count", [("DBSIZE",)]),
        ("failed", [("SET", "k", "x", "NX")]),
        ("cas", [("CAS", "k", "0", "x")]),
        ("token", [("IDEM", "t", "INCR", "n")]),
        ("watch", [("MULTI",), ("GET", "k"), ("EXEC",)]),
    ]
    for name, commands in sends:
        wires[name].send(b"".join(encode(*command) for command in commands))
        time.sleep(0.02)
    assert wires["bystander"].ok("GET", "old") == b"1"
    assert wires["bystander"].ok("PING") == b"PONG"
    held = {name: wires[name].pending(0.1) for name, _ in sends}
    assert not any(b"new" in data or data[:1] in (b":", b"$", b"*") for data in held.values()), held
    assert time.monotonic() - began < 5
    for name, _ in sends:
        wires[name].send(encode("PING"))
    server.tell("hold", False)
    replies = {
        name: [wires[name].read() for _ in range(len(commands) + 1)]
        for name, commands in sends
        if name != "watch"
    }
    assert replies["writer"] == [b"OK", 1, 2, b"PONG"]
    assert replies["reader"] == [b"new", b"PONG"]
    assert replies["absent"] == [0, b"PONG"]
    assert replies["count"] == [3, b"PONG"]
    assert replies["failed"] == [None, b"PONG"]
    assert replies["cas"][0][0] == 0
    assert replies["token"] == [2, b"PONG"]
    assert wires["bystander"].ok("GET", "n") == b"2"
    for wire in wires.values():
        wire.close()


# ---- a LevelDB that stalls or fails


def test_a_leveldb_that_stalls_delays_nobody(start_faulty: StartFaulty) -> None:
    server = start_faulty(overlay_size="64mb", commit_log_budget="4mb", appendfsync="always")
    with server.wire(timeout=30.0) as wire:
        wire.pipeline([("SET", f"k{n}", "v" * 100) for n in range(500)])
        server.wait(lambda stats: stats["unsettled_records"] == 0)
        server.tell("stall", True)
        for _ in range(10):  # Over the log's budget, so that records settle.
            wire.pipeline([("SET", f"k{n}", "v" * 10_000) for n in range(60)])
        longest = 0.0
        until = time.monotonic() + 2.0
        number = 0
        while time.monotonic() < until:
            number += 1
            began = time.monotonic()
            assert wire.ok("SET", f"k{number % 700}", f"{number}") == b"OK"
            assert wire.ok("GET", f"k{number % 700}") == b"%d" % number
            longest = max(longest, time.monotonic() - began)
            time.sleep(0.002)
        stats = server.tell("stats")
        assert stats["slowdown"] == 0.0
        assert longest < 0.5
        server.tell("stall", False)
        server.wait(lambda stats: stats["unsettled_records"] == 0)
        assert server.tell("stats")["stalls"] >= 1
    assert server.terminate() == 0
    assert_whole(server)


def test_a_second_signal_does_not_wait_for_leveldb(start_faulty: StartFaulty) -> None:
    server = start_faulty(appendfsync="no")
    with server.wire() as wire:
        server.tell("stall", True)
        assert wire.pipeline([("SET", f"k{n}", f"{n}") for n in range(500)]) == [b"OK"] * 500
    server.process.send_signal(signal.SIGTERM)
    time.sleep(1.0)
    assert server.process.poll() is None  # It settles what LevelDB does not take.
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(10.0) == 0
    server.start()
    with server.wire() as wire:
        assert wire.ok("MGET", *(f"k{n}" for n in range(500))) == [b"%d" % n for n in range(500)]


def test_writers_are_slowed_before_the_overlay_is_full(start_faulty: StartFaulty) -> None:
    server = start_faulty(overlay_size="4mb", appendfsync="no")
    server.tell("stall", True)
    with server.wire(timeout=30.0) as wire:
        waits: list[tuple[float, float]] = []
        for number in range(400):
            began = time.monotonic()
            assert wire.ok("SET", f"k{number}", "v" * 8192) == b"OK"
            stats = server.tell("stats")
            waits.append((stats["overlay_bytes"] / stats["overlay_limit"], stats["slowdown"]))
            if waits[-1][0] > 0.8:
                break
            assert time.monotonic() - began < 1.0
        assert all(slowdown == 0.0 for full, slowdown in waits if full < 0.5)
        assert waits[-1][1] > 0.0
        with Pinger(server, "k0") as pinger:
            wire.pipeline([("SET", f"late{n}", "v") for n in range(20)])
            time.sleep(0.2)
        assert pinger.longest < 0.5
        server.tell("stall", False)
        server.wait(lambda stats: stats["slowdown"] == 0.0)


# ---- failing writes and syncs


class Model:
    """What the server must hold: only what it has acknowledged."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.failures = 0

    def run(self, wire: Wire, rng: random.Random, name: str) -> None:
        """A pipeline of one client on keys of its own."""
        commands: list[tuple[str, ...]] = []
        for _ in range(rng.choice((1, 3, 10))):
            key = f"{name}:{rng.randrange(5)}"
            commands.append(("SET", key, str(rng.random())))
        for command, reply in zip(commands, wire.pipeline(commands), strict=True):
            if reply == b"OK":
                self.values[command[1]] = command[2].encode()
            else:
                assert isinstance(reply, ErrorReply), reply
                assert reply.code == "MISCONF", reply
                self.failures += 1


@pytest.mark.parametrize("policy", ["always", "everysec"])
@pytest.mark.parametrize("operation", ["pwrite ENOSPC", "pwrite short", "fdatasync EIO"])
def test_a_failed_write_or_sync_undoes_what_it_concerns(
    start_faulty: StartFaulty, operation: str, policy: str
) -> None:
    server = start_faulty(appendfsync=policy)
    rng = random.Random(f"{operation} {policy}")
    call, what = operation.split()
    models = [Model() for _ in range(4)]
    with server.wire() as wire:
        wire.pipeline([("SET", "watched", "1"), ("SET", "n", "0"), ("SET", "cached", "old")])
    for turn in range(6):
        server.tell("arm", call, rng.randint(1, 12), what)

        def work(model: Model, name: str, seed: float) -> None:
            own = random.Random(seed)
            with server.wire() as wire:
                for _ in range(8):
                    model.run(wire, own, name)

        threads = [
            threading.Thread(target=work, args=(model, f"c{number}", rng.random()))
            for number, model in enumerate(models)
        ]
        for thread in threads:
            thread.start()
        with server.wire() as wire:
            for _ in range(10):
                assert wire.ok("GET", "cached") in (b"old", b"new%d" % (turn - 1))
        for thread in threads:
            thread.join()
        with server.wire() as wire:
            # Exactly once, however often the commit fails; the watch never misses a change.
            command = ("IDEM", f"t{turn}", "INCR", "n")
            assert eventually(lambda: wire.call(*command)) == turn + 1  # noqa: B023
            assert wire.ok(*command) == turn + 1
            wire.ok("WATCH", "watched")
            version = wire.ok("GETVER", "watched")
            with server.wire() as other:
                changed = other.call("SET", "watched", str(turn)) == b"OK"
            wire.pipeline([("MULTI",), ("GET", "watched")])
            outcome = wire.call("EXEC")
            assert outcome is None if changed else wire.ok("GETVER", "watched") == version
            eventually(lambda: wire.call("SET", "cached", f"new{turn}"))  # noqa: B023
            for model in models:
                for key, value in model.values.items():
                    assert wire.ok("GET", key) == value, key
    if what != "short" and policy == "always":
        assert sum(model.failures for model in models)
    with server.wire() as wire:
        before = {key: wire.ok("GETVER", key) for key in wire.ok("KEYS", "*")}
    server.restart(clean=False)
    with server.wire() as wire:
        assert {key: wire.ok("GETVER", key) for key in wire.ok("KEYS", "*")} == before
    assert server.terminate() == 0
    assert_whole(server)


def test_a_full_disk_and_back(start_faulty: StartFaulty) -> None:
    server = start_faulty(overlay_size="4mb", appendfsync="always")
    with server.wire(timeout=30.0) as wire:
        wire.pipeline([("SET", f"k{n}", "v" * 1000) for n in range(500)])
        with Pinger(server, "k1") as pinger:
            server.tell("fill", True)
            reply = wire.call("SET", "k1", "lost")
            assert isinstance(reply, ErrorReply)
            assert reply.code == "MISCONF"
            assert "No space left" in reply.text
            for n in range(0, 500, 50):
                assert wire.ok("GET", f"k{n}") == b"v" * 1000
            time.sleep(1.2)
            assert isinstance(wire.call("IDEM", "t", "INCR", "n"), ErrorReply)
            server.tell("fill", False)
            eventually(lambda: wire.call("SET", "k2", "resumed"))
            assert eventually(lambda: wire.call("IDEM", "t", "INCR", "n")) == 1
        assert pinger.longest < 1.0
        assert wire.ok("GET", "k1") == b"v" * 1000
        server.wait(lambda stats: not stats["leveldb_failure"] and not stats["unsettled_records"])
    assert server.terminate() == 0
    assert_whole(server)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m,mode=700", "tmpfs", str(place)]
    done = subprocess.run(mount, capture_output=True, text=True, timeout=10, check=False)
    if done.returncode:
        pytest.skip("mounting a small tmpfs needs root: run the tests as root to include this")
    yield place
    subprocess.run(["umount", "-l", str(place)], timeout=10, check=False)


def test_a_small_file_system_filled_and_freed(tiny_disk: Path) -> None:
    server = ServerProcess(
        directory=tiny_disk / "data",
        commit_log_segment_size="1mb",
        commit_log_budget="4mb",
        overlay_size="4mb",
        leveldb_write_buffer="1mb",
        min_free_disk="0",
    )
    try:
        with server.wire(timeout=30.0) as wire:
            wire.ok("SET", "kept", "1")
            filler = tiny_disk / "filler"
            with filler.open("wb") as file:
                try:
                    while True:
                        file.write(b"x" * 65536)
                        file.flush()
                except OSError:
                    pass
            acknowledged = {}
            refused = 0
            for number in range(600):
                value = f"{number:05}" * 5000
                if wire.call("SET", f"k{number % 100}", value) == b"OK":
                    acknowledged[f"k{number % 100}"] = value.encode()
                else:
                    refused += 1
                assert wire.ok("GET", "kept") == b"1"
                if refused > 20:
                    break
            assert refused
            filler.unlink()
            eventually(lambda: wire.call("SET", "resumed", "1"), 20.0)
            for key, value_ in acknowledged.items():
                assert wire.ok("GET", key) == value_
        assert server.terminate() == 0
        assert_whole(server)
    finally:
        server.close()


def test_writes_stop_before_the_disk_is_full(start_faulty: StartFaulty) -> None:
    server = start_faulty(min_free_disk="100mb")
    with server.wire() as wire:
        wire.ok("SET", "k", "1")
        wire.ok("SET", "short", "1", "PX", "60000")
        server.tell("set_free", 99 << 20)
        server.wait(lambda stats: stats["refusal"])
        for command in (("SET", "k", "2"), ("DEL", "k"), ("INCR", "k"), ("FLUSHALL",)):
            reply = wire.call(*command)
            assert isinstance(reply, ErrorReply), command
            assert reply.code == "MISCONF"
            assert "min-free-disk" in reply.text
        wire.ok("MULTI")
        assert isinstance(wire.call("SET", "k", "3"), ErrorReply)
        assert isinstance(wire.call("EXEC"), ErrorReply)
        assert wire.ok("GET", "k") == b"1"
        server.tell("set_free", None)
        eventually(lambda: wire.call("SET", "k", "2"))


# ---- clocks


def test_a_clock_set_back_brings_nothing_back(start_faulty: StartFaulty) -> None:
    server = start_faulty()
    with server.wire() as wire:
        wire.ok("SET", "gone", "1", "PX", "50")
        wire.ok("SET", "stays", "1", "PX", "60000")
        wire.ok("IDEM", "t", "TTL", "50", "INCR", "n")
        time.sleep(0.1)
        server.tell("set_clock", -3600)
        time.sleep(0.3)
        assert wire.ok("GET", "gone") is None
        assert 55_000 < wire.ok("PTTL", "stays") < 60_000
        wire.ok("SET", "again", "1", "PX", "100")
        time.sleep(0.2)
        assert wire.ok("EXISTS", "again", "gone") == 0
        assert wire.ok("IDEM", "t", "INCR", "n") == 2
        # TIME is the clock that keys expire by.
        left = wire.ok("PEXPIRETIME", "stays") - int(wire.ok("TIME")[0]) * 1000
        assert 55_000 < left < 61_000
        before = wire.ok("PEXPIRETIME", "stays")
    for clean in (True, False):
        server.set_clock(-3600)
        server.restart(clean=clean)
        with server.wire() as wire:
            assert wire.ok("EXISTS", "again", "gone") == 0
            assert wire.ok("PEXPIRETIME", "stays") == before
            assert wire.ok("PTTL", "stays") < 60_000
            wire.ok("SET", "again", "1", "PX", "100")
            time.sleep(0.2)
            assert wire.ok("GET", "again") is None


# ---- copies and power cuts


def test_a_copy_of_a_running_server_is_reported(start_faulty: StartFaulty, tmp_path: Path) -> None:
    server = start_faulty(**SMALL_SIZES)
    copy = tmp_path / "copy"
    with server.wire() as wire:
        wire.pipeline([("SET", f"k{n}", "v" * 100) for n in range(200)])
        shutil.copytree(server.data / "log", copy / "log")
        for start in range(200, 4200, 500):
            wire.pipeline([("SET", f"k{n}", "v" * 500) for n in range(start, start + 500)])
        server.wait(lambda stats: stats["unsettled_records"] == 0)
    assert server.terminate() == 0
    shutil.copytree(server.data / "db", copy / "db")
    with pytest.raises(ServerDiedError, match="copy that was taken from a running server"):
        ServerProcess(directory=copy)
    assert check.main([str(copy)]) == 1


@pytest.mark.parametrize("policy", ["no", "everysec"])
def test_no_transaction_is_torn_by_kills_and_a_power_cut(
    start_faulty: StartFaulty, policy: str
) -> None:
    server = start_faulty(appendfsync=policy, **SMALL_SIZES)
    rng = random.Random(policy)
    number = 0

    def transactions(count: int) -> None:
        nonlocal number
        with server.wire(timeout=30.0) as wire:
            for _ in range(count):
                number += 1
                pair = [("SET", f"{side}{number % 50}", f"{number} {'x' * 300}") for side in "ab"]
                wire.pipeline([("MULTI",), *pair, ("SET", "last", str(number)), ("EXEC",)])

    transactions(300)
    server.kill9()
    server.start()
    server.wait(lambda stats: stats["unsettled_records"] == 0)
    safe = number
    transactions(400)
    unsynced = server.tell("unsynced")
    server.kill9()
    cut = server.home / "cut"
    for _ in range(4):
        shutil.rmtree(cut, ignore_errors=True)
        shutil.copytree(server.data, cut)
        for log in (cut / "db").glob("*.log"):
            log.unlink()
        odds = rng.random()
        for name, pages in unsynced.items():
            if (cut / "log" / name).exists():
                with (cut / "log" / name).open("r+b") as file:
                    for page, old in pages:
                        if rng.random() < odds:
                            file.seek(page * PAGE)
                            file.write(bytes.fromhex(old))
        with ServerProcess(directory=cut, **SMALL_SIZES) as again:
            with again.wire() as wire:
                last = int(wire.ok("GET", "last"))
                assert safe <= last <= number
                for slot in range(50):
                    values = wire.ok("MGET", f"a{slot}", f"b{slot}")
                    assert values[0] == values[1], slot
                    expected = max(n for n in range(1, last + 1) if n % 50 == slot)
                    assert values[0].split()[0] == b"%d" % expected
            assert again.terminate() == 0
        assert check.main([str(cut)]) == 0


# ---- sweeping


@pytest.mark.limit(60)
def test_many_expiries_stall_nobody_and_leave_nothing(start_faulty: StartFaulty) -> None:
    server = start_faulty(appendfsync="no")
    count = 20_000
    with server.wire(timeout=30.0) as wire:
        deadline = wire.ok("TIME")
        at = int(deadline[0]) * 1000 + 4000
        for start in range(0, count, 1000):
            keys = [f"k{n}" for n in range(start, start + 1000)]
            wire.pipeline([("SET", key, "v", "PXAT", str(at + 2000)) for key in keys])
            wire.pipeline([("PEXPIREAT", key, str(at)) for key in keys])
            wire.pipeline([("PEXPIRE", f"long{n}", "900000") for n in range(5)])
        for turn in range(5):  # Refreshing a deadline adds no row.
            wire.pipeline([("SET", f"long{n}", "v", "EX", str(900 + turn)) for n in range(500)])
        time.sleep(max(0.0, at / 1000 - time.time()))
        assert wire.ok("GET", "k7") is None
        with Pinger(server, "long1") as pinger:
            until = time.monotonic() + 15
            while wire.ok("INFO", "stats") and _expired(wire) < count:
                assert time.monotonic() < until, _expired(wire)
                time.sleep(0.05)
        assert pinger.longest < 0.5
        assert wire.ok("DBSIZE") == 500
    assert server.terminate() == 0
    with inspect_store(server.data) as offline:
        rows = [row for row, _ in offline.rows(b"x", b"y")]
    assert len(rows) == 500
    assert_whole(server)


def _expired(wire: Wire) -> int:
    lines = wire.ok("INFO", "stats").decode().splitlines()
    return int(next(line for line in lines if line.startswith("expired_keys:"))[13:])
