"""The index process as clients (do not) notice it: killed, stopped, restarted, behind, wrong."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.conftest import StartServer
from tests.support.effort import scaled, seeded
from tests.support.faulty_server import FaultyServer
from tests.support.resp import ErrorReply, Wire
from tests.support.server import ServerProcess

from .sets import (
    DIMENSIONS,
    LARGE,
    Model,
    children,
    figures,
    fill,
    graphed,
    hit_process,
    index_files,
    index_pid,
    nearest,
    noise,
    served,
    wait_for,
)

pytestmark = pytest.mark.norikv

COLOURS = ("red", "green", "blue")


def names(count: int) -> list[bytes]:
    return [b"e%d" % number for number in range(count)]


# ---- freshness


def _step(rng: random.Random, vectors: np.random.Generator, model: Model, wire: Wire) -> None:
    """One random change, acknowledged."""
    known = list(model.vectors)
    action = rng.random()
    if action < 0.4 or len(known) < 30:
        model.add(wire, "k", b"n%d" % rng.randrange(10_000), noise(vectors, 1)[0])
    elif action < 0.6:
        model.add(wire, "k", rng.choice(known), noise(vectors, 1)[0])
    elif action < 0.8:
        model.remove(wire, "k", rng.choice(known))
    else:
        model.set_colour(wire, "k", rng.choice(known), rng.choice(COLOURS))


@pytest.mark.limit(120)
def test_every_acknowledged_change_is_seen_by_others_whatever_becomes_of_the_process(
    start_server: StartServer,
) -> None:
    rng = seeded()
    vectors = np.random.default_rng(rng.randrange(1 << 32))
    server = start_server(**LARGE)
    model = Model()
    with server.wire(timeout=30.0) as writer, server.wire(timeout=30.0) as reader:
        start = noise(vectors, 150)
        fill(writer, "k", names(150), start)
        model.vectors = dict(zip(names(150), start, strict=True))
        for _ in range(scaled(250)):
            _step(rng, vectors, model, writer)
            about = rng.choice(list(model.vectors.values())) + 0.05 * noise(vectors, 1)[0]
            model.check(reader, "k", about, rng.choice((None, None, *COLOURS)))
            fate = rng.random()
            if fate < 0.01:
                hit_process(server)
            elif fate < 0.015:
                hit_process(server, signal.SIGSTOP)
    assert len(children(server)) <= 2


# ---- a process that ends or stands still


def _search_until(
    server: ServerProcess, stop: threading.Event, start: Any, found: list[str]
) -> None:
    with server.wire(timeout=30.0) as wire:
        number = 0
        while not stop.is_set():
            number = (number + 7) % len(start)
            reply = wire.call("VSEARCH", "k", 1, "FP32", start[number].tobytes())
            if isinstance(reply, ErrorReply) or reply[0] != b"e%d" % number:
                found.append(repr(reply))
                return


@pytest.mark.limit(120)
def test_no_search_fails_or_errs_while_the_process_is_killed_again_and_again(
    start_server: StartServer,
) -> None:
    rng = seeded()
    server = start_server(**LARGE)
    start = noise(np.random.default_rng(1), 400)
    with server.wire() as wire:
        fill(wire, "k", names(400), start)
    stop, wrong = threading.Event(), list[str]()
    searchers = [
        threading.Thread(target=_search_until, args=(server, stop, start, wrong)) for _ in range(6)
    ]
    for each in searchers:
        each.start()
    for kill in range(scaled(6)):
        if kill % 3 == 0:
            served(server)
        time.sleep(rng.random() * 0.6)
        hit_process(server, rng.choice((signal.SIGKILL, signal.SIGSEGV)))
    stop.set()
    for each in searchers:
        each.join()
    assert not wrong
    served(server)
    found = figures(server)
    assert found["index_process_restarts"] >= 3
    assert found["vector_searches_index"] and found["vector_searches_rows"]
    wait_for(server, lambda _: children(server) == [index_pid(server)])


def test_a_process_that_stands_still_is_replaced_and_searches_are_answered(
    start_server: StartServer,
) -> None:
    server = start_server(vector_small_set=20, vector_search_deadline=200)
    start = noise(np.random.default_rng(1), 300)
    with server.wire(timeout=30.0) as wire:
        fill(wire, "k", names(300), start)
        served(server)
        stopped = hit_process(server, signal.SIGSTOP)
        for number in range(20):
            assert nearest(wire, "k", start[number]) == [b"e%d" % number]
            wire.ok("VADD", "k", "FP32", start[number].tobytes(), b"again%d" % number)
        wait_for(server, lambda f: f["index_process_pid"] not in (stopped, 0))
        found = served(server)
        assert found["index_process_restarts"] == 1
        wait_for(server, lambda f: f["index_process_buffered"] == 0)
        assert nearest(wire, "k", start[3], 2) == [b"e3", b"again3"]
        assert figures(server)["vector_searches_index"]
    assert children(server) == [index_pid(server)]
    with pytest.raises(ProcessLookupError):
        os.kill(stopped, 0)


def test_a_process_that_was_only_slow_goes_on(start_server: StartServer) -> None:
    server = start_server(vector_small_set=20, vector_search_deadline=200)
    start = noise(np.random.default_rng(1), 300)
    with server.wire(timeout=30.0) as wire:
        fill(wire, "k", names(300), start)
        served(server)
        pid = hit_process(server, signal.SIGSTOP)
        assert nearest(wire, "k", start[5]) == [b"e5"]
        model = wire.ok("VREM", "k", "e5")
        assert model == 1
        os.kill(pid, signal.SIGCONT)
        served(server)
        by_rows = figures(server)["vector_searches_rows"]
        assert nearest(wire, "k", start[5], 300).count(b"e5") == 0
        found = figures(server)
        assert found["index_process_pid"] == pid
        assert found["vector_searches_rows"] == by_rows


def test_a_process_with_nothing_to_do_is_not_taken_for_a_silent_one(
    start_server: StartServer,
) -> None:
    server = start_server(vector_small_set=20, vector_search_deadline=100)
    start = noise(np.random.default_rng(1), 300)
    with server.wire(timeout=30.0) as wire:
        fill(wire, "k", names(300), start)
        served(server)
        pid = index_pid(server)
        time.sleep(3.0)  # pings, and more than all patience with a process that owes an answer
        assert nearest(wire, "k", start[5]) == [b"e5"]
    found = figures(server)
    assert (found["index_process_pid"], found["index_process_restarts"]) == (pid, 0)
    assert found["vector_searches_rows"] == 0


def test_without_a_process_searches_are_exact(start_server: StartServer) -> None:
    server = start_server(vector_small_set=20, vector_index_process="no")
    start = noise(np.random.default_rng(1), 300)
    with server.wire() as wire:
        fill(wire, "k", names(300), start)
        model = Model()
        model.vectors = dict(zip(names(300), start, strict=True))
        model.check(wire, "k", start[7] + 0.1)
    assert figures(server)["index_process"] == "stopped"
    assert not children(server)


# ---- transactions and failed commits


def test_a_search_in_a_transaction_sees_what_the_transaction_has_done(
    start_server: StartServer,
) -> None:
    server = start_server(**LARGE)
    start = noise(np.random.default_rng(1), 100)
    with server.wire() as wire:
        fill(wire, "k", names(100), start)
        served(server)
        near = start[1] + 0.001
        search = ("VSEARCH", "k", 1, "FP32", near.tobytes())
        replies = wire.pipeline(
            [
                ("MULTI",),
                search,
                ("VADD", "k", "FP32", near.tobytes(), "new"),
                search,
                ("VREM", "k", "new"),
                ("VREM", "k", "e1"),
                search,
                ("EXEC",),
            ]
        )[-1]
        assert [reply[0] for reply in (replies[0], replies[2])] == [b"e1", b"new"]
        assert replies[5][0] not in (b"e1", b"new")
        assert figures(server)["vector_searches_rows"] == 0
        hit_process(server, signal.SIGSTOP)
        replies = wire.pipeline([("MULTI",), search, ("VREM", "k", "e2"), search, ("EXEC",)])[-1]
        assert replies[0] and replies[0][0] not in (b"e1", b"new")
        assert figures(server)["vector_searches_rows"] == 2


def test_a_failed_commit_is_undone_in_the_index(
    started_servers: list[ServerProcess],
) -> None:
    server = FaultyServer(**LARGE)
    started_servers.append(server)
    server.start()
    start = noise(np.random.default_rng(1), 200)
    with server.wire() as wire, server.wire() as other:
        fill(wire, "k", names(200), start)
        wire.ok("VSETATTR", "k", "e9", '{"colour": "red"}')
        red = ("FILTER", '.colour == "red"')
        served(server)
        assert nearest(other, "k", start[9], 1, *red) == [b"e9"]
        for change in (
            ("VADD", "k", "FP32", (-start[9]).tobytes(), "e9"),
            ("VREM", "k", "e9"),
            ("VSETATTR", "k", "e9", '{"colour": "blue"}'),
            ("VADD", "k", "FP32", start[9].tobytes(), "never"),
        ):
            server.tell("arm", "fdatasync", 1, "EIO")
            assert isinstance(wire.call(*change), ErrorReply)
            for count in (1, 5):
                found = nearest(other, "k", start[9], count)
                assert found[0] == b"e9"
                assert b"never" not in found
            assert nearest(other, "k", start[9], 5, *red) == [b"e9"]
            assert b"e9" not in nearest(other, "k", -start[9], 5)
        deadline = time.monotonic() + 10.0
        while isinstance(
            wire.call("VADD", "k", "FP32", (2 * start[9]).tobytes(), "later"), ErrorReply
        ):
            assert time.monotonic() < deadline  # the log recovers in a moment
        assert set(nearest(other, "k", start[9], 2)) == {b"e9", b"later"}
        found = figures(server)
        assert found["index_process_restarts"] == 0
        assert found["vector_indexes_discarded"] == 0


# ---- keys


def test_a_set_keeps_its_index_under_another_name_and_its_copy_has_its_own(
    start_server: StartServer,
) -> None:
    server = start_server(**LARGE)
    start = noise(np.random.default_rng(1), 100)
    with server.wire() as wire:
        fill(wire, "k", names(100), start)
        served(server)
        wire.ok("RENAME", "k", "moved")
        assert nearest(wire, "moved", start[3]) == [b"e3"]
        wire.ok("SWAPDB", 0, 1)
        assert nearest(wire, "moved", start[3]) == []
        wire.ok("SELECT", 1)
        assert nearest(wire, "moved", start[3]) == [b"e3"]
        assert figures(server)["vector_sets"] == 1
        wire.ok("COPY", "moved", "copy")
        wire.ok("VREM", "moved", "e3")
        assert nearest(wire, "copy", start[3]) == [b"e3"]
        assert nearest(wire, "moved", start[3]) != [b"e3"]
        served(server, 2)
        assert nearest(wire, "copy", start[3]) == [b"e3"]
        assert nearest(wire, "moved", start[3]) != [b"e3"]


@pytest.mark.parametrize("end", ["DEL k", "VDROP k", "FLUSHALL", "PEXPIRE k 1"])
def test_nothing_of_a_deleted_set_stays(start_server: StartServer, end: str) -> None:
    server = start_server(**LARGE)
    start = noise(np.random.default_rng(1), 100)
    with server.wire() as wire:
        fill(wire, "k", names(100), start)
        served(server)
        assert index_files(server)
        wire.ok(*end.split())
        assert nearest(wire, "k", start[3]) == []
        wait_for(server, lambda f: f["vector_sets"] == 0)
        deadline = time.monotonic() + 10.0
        while index_files(server) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not index_files(server)


@pytest.mark.limit(120)
def test_searches_while_the_set_is_dropped_and_made_again(start_server: StartServer) -> None:
    server = start_server(**LARGE)
    rng = np.random.default_rng(1)
    stop, wrong = threading.Event(), list[str]()

    def search() -> None:
        with server.wire(timeout=30.0) as wire:
            while not stop.is_set():
                for size in (4, 16):
                    reply = wire.call("VSEARCH", "k", 5, "FP32", bytes(4 * size - 4) + b"\0\0\x80?")
                    if isinstance(reply, ErrorReply):
                        if "dimension" not in str(reply).lower():
                            wrong.append(str(reply))
                    elif any(not name.startswith(b"d%d-" % size) for name in reply[::2]):
                        wrong.append(f"{size}: {reply}")

    searchers = [threading.Thread(target=search) for _ in range(4)]
    for each in searchers:
        each.start()
    with server.wire(timeout=30.0) as wire:
        for round_ in range(scaled(12)):
            size = (4, 16)[round_ % 2]
            vectors = noise(rng, 120, size)
            fill(wire, "k", [b"d%d-%d" % (size, number) for number in range(120)], vectors)
            time.sleep(0.1 * (round_ % 3))
            wire.ok("DEL", "k")
    stop.set()
    for each in searchers:
        each.join()
    assert not wrong
    wait_for(server, lambda f: f["vector_sets"] == 0)


# ---- restart


@pytest.mark.parametrize("clean", [True, False], ids=["clean stop", "kill -9"])
def test_a_restart_goes_on_from_the_checkpoint_and_feeds_what_came_later(
    start_server: StartServer, clean: bool
) -> None:
    server = start_server(**LARGE)
    model = Model()
    start = noise(np.random.default_rng(1), 400)
    with server.wire() as wire:
        fill(wire, "k", names(300), start[:300])
        model.vectors = dict(zip(names(300), start[:300], strict=True))
    graphed(server)
    server.restart()  # leaves a checkpoint
    assert index_files(server, "checkpoint")
    with server.wire() as wire:
        for number in range(300, 400):
            model.add(wire, "k", b"e%d" % number, start[number])
        for number in range(0, 100, 3):
            model.remove(wire, "k", b"e%d" % number)
        for number in range(1, 100, 3):
            model.add(wire, "k", b"e%d" % number, -start[number])
        model.set_colour(wire, "k", b"e150", "red")
    server.restart(clean)
    with server.wire() as wire:
        model.check(wire, "k", start[150], "red")
        for number in range(0, 400, 13):
            model.check(wire, "k", start[number] + 0.01)
        found = served(server)
        for number in range(0, 400, 13):
            model.check(wire, "k", start[number] + 0.01)
        model.check(wire, "k", start[150], "red")
        assert wire.ok("VCARD", "k") == len(model.vectors)
    assert found["vector_indexes_discarded"] == 0
    assert "no checkpoint" not in server.log_text().rpartition("--- start")[2]


def _truncate(server: ServerProcess, suffix: str) -> None:
    for path in (server.data / "index").glob(f"*.{suffix}"):
        os.truncate(path, path.stat().st_size // 2)


def _flip(server: ServerProcess, suffix: str) -> None:
    for path in (server.data / "index").glob(f"*.{suffix}"):
        content = bytearray(path.read_bytes())
        content[len(content) * 2 // 3] ^= 0x40
        path.write_bytes(content)


def _swap(server: ServerProcess, suffix: str) -> None:
    first, second = sorted((server.data / "index").glob(f"*.{suffix}"))
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def _remove(server: ServerProcess, suffix: str) -> None:
    for path in (server.data / "index").glob(f"*.{suffix}"):
        path.unlink()


@pytest.mark.parametrize("suffix", ["checkpoint", "vectors"])
@pytest.mark.parametrize("damage", [_truncate, _flip, _swap, _remove])
def test_a_damaged_checkpoint_costs_time_and_nothing_else(
    start_server: StartServer, damage: Callable[[ServerProcess, str], None], suffix: str
) -> None:
    server = start_server(**LARGE)
    start = noise(np.random.default_rng(1), 200)
    with server.wire() as wire:
        fill(wire, "k", names(100), start[:100])
        fill(wire, "l", names(100), start[100:])
    graphed(server)
    assert server.terminate() == 0
    assert len(index_files(server, suffix)) == 2
    damage(server, suffix)
    server.start()
    with server.wire() as wire:
        for _ in range(2):
            for number in range(0, 100, 7):
                assert nearest(wire, "k", start[number]) == [b"e%d" % number]
                assert nearest(wire, "l", start[100 + number]) == [b"e%d" % number]
            served(server, 2)


def test_an_older_copy_of_a_checkpoint_is_brought_up_to_date(start_server: StartServer) -> None:
    server = start_server(**LARGE)
    start = noise(np.random.default_rng(1), 200)
    with server.wire() as wire:
        fill(wire, "k", names(100), start[:100])
    graphed(server)
    server.terminate()
    kept = {path: path.read_bytes() for path in (server.data / "index").iterdir()}
    server.start()
    with server.wire() as wire:
        fill(wire, "k", names(200)[50:], -start[50:])
        for number in range(50):
            wire.ok("VREM", "k", b"e%d" % number)
    graphed(server)
    server.terminate()
    for path in (server.data / "index").iterdir():
        path.unlink()
    for path, content in kept.items():
        path.write_bytes(content)
    server.start()
    with server.wire() as wire:
        for _ in range(2):
            for number in range(50, 200, 7):
                assert nearest(wire, "k", -start[number]) == [b"e%d" % number]
            assert not set(nearest(wire, "k", start[3], 150)) & set(names(50))
            served(server)


def test_a_checkpoint_of_other_data_is_not_used(start_server: StartServer) -> None:
    first, second = start_server(**LARGE), start_server(**LARGE)
    start = noise(np.random.default_rng(1), 200)
    for server, part in ((first, start[:100]), (second, start[100:])):
        with server.wire() as wire:
            fill(wire, "k", names(100), part)
        graphed(server)
        server.terminate()
    for path in (second.data / "index").iterdir():
        path.unlink()
    for path in (first.data / "index").iterdir():
        (second.data / "index" / path.name).write_bytes(path.read_bytes())
    second.start()
    with second.wire() as wire:
        for _ in range(2):
            for number in range(0, 100, 7):
                assert nearest(wire, "k", start[100 + number]) == [b"e%d" % number]
            served(second)
    assert figures(second)["vector_indexes_discarded"] == 1


# ---- load


@pytest.mark.limit(120)
def test_a_flood_of_adds_is_slowed_before_it_outruns_the_index(start_server: StartServer) -> None:
    soft, most, clients = 200, 600, 6
    server = start_server(vector_small_set=20, vector_fresh_soft=soft, vector_fresh_max=most)
    dimensions = 64
    vectors = noise(np.random.default_rng(1), 4000, dimensions)
    with server.wire() as wire:
        fill(wire, "k", [b"s%d" % number for number in range(50)], vectors[:50])
    graphed(server)
    stop = threading.Event()

    def flood(first: int) -> None:
        with server.wire(timeout=60.0) as wire:
            for start in range(first, len(vectors), 50 * clients):
                part = vectors[start : start + 50]
                wire.pipeline(
                    [
                        ("VADD", "k", "FP32", vector.tobytes(), b"f%d" % (start + at))
                        for at, vector in enumerate(part)
                    ]
                )

    writers = [threading.Thread(target=flood, args=(50 * at,)) for at in range(clients)]
    for each in writers:
        each.start()
    highest = 0.0
    while any(each.is_alive() for each in writers):
        highest = max(highest, figures(server)["vectors_fresh"])
        time.sleep(0.005)
    stop.set()
    for each in writers:
        each.join()
    found = graphed(server)
    assert found["vector_writers_braked"] > 0
    assert highest <= most + clients
    with server.wire() as wire:
        assert wire.ok("VCARD", "k") == 50 + len(vectors)
        assert nearest(wire, "k", vectors[1234]) == [b"f1234"]


@pytest.mark.slow
@pytest.mark.limit(300)
def test_many_vectors_under_adds_removals_and_searches_with_kills(
    start_server: StartServer,
) -> None:
    rng = seeded()
    count = min(scaled(20_000), 100_000)
    server = start_server(vector_small_set=1000)
    vectors = noise(np.random.default_rng(rng.randrange(1 << 32)), count, DIMENSIONS)
    sure: dict[bytes, int] = {}
    gone: set[bytes] = set()
    lock = threading.Lock()
    stop = threading.Event()
    wrong: list[str] = []

    def write(first: int, step: int) -> None:
        at = first
        own: list[int] = []
        while at < count and not stop.is_set():
            try:
                with server.wire(timeout=60.0) as wire:
                    while at < count and not stop.is_set():
                        fill(wire, "k", [b"e%d" % at], vectors[at : at + 1])
                        with lock:
                            sure[b"e%d" % at] = at
                        own.append(at)
                        if len(own) % 5 == 0:
                            name = b"e%d" % own.pop(rng.randrange(len(own)))
                            with lock:
                                sure.pop(name)
                            wire.ok("VREM", "k", name)
                            with lock:
                                gone.add(name)
                        at += step
            except (OSError, EOFError):
                at += step  # whether that one is there is not known
                server_up.wait(60.0)

    def search() -> None:
        while not stop.is_set():
            try:
                with server.wire(timeout=60.0) as wire:
                    while not stop.is_set():
                        with lock:
                            known = rng.choice(list(sure)) if sure else None
                            before = set(gone) if known and rng.random() < 0.01 else set()
                        if known is None:
                            time.sleep(0.01)
                            continue
                        at = int(known[1:])
                        found = nearest(wire, "k", vectors[at], 5)
                        with lock:
                            still = known in sure
                        if still and found[:1] != [known]:
                            wrong.append(f"{known!r} was not found: {found}")
                        if set(found) & before:
                            wrong.append(f"removed, but found: {set(found) & before}")
            except (OSError, EOFError):
                server_up.wait(60.0)

    server_up = threading.Event()
    server_up.set()
    with server.wire(timeout=60.0) as wire:
        ready = count // 2
        fill(wire, "k", names(ready), vectors[:ready], 2000)
    sure.update((b"e%d" % at, at) for at in range(ready))
    threads = [threading.Thread(target=write, args=(ready + at, 3)) for at in range(3)]
    threads += [threading.Thread(target=search) for _ in range(3)]
    for each in threads:
        each.start()
    for round_ in range(4):
        time.sleep(1.0 + 2.0 * rng.random())
        if round_ % 2:
            hit_process(server)
        else:
            server_up.clear()
            server.restart(clean=False)
            server_up.set()
    time.sleep(1.0)
    stop.set()
    for each in threads:
        each.join()
    assert not wrong, wrong[:5]
    with server.wire(timeout=60.0) as wire:
        for name in rng.sample(sorted(sure), 200):
            assert nearest(wire, "k", vectors[sure[name]]) == [name]
