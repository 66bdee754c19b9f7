"""The store on the real commit log and LevelDB: full disks, stalls, checkpoints, kills."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from norikv_resp.commitlog import SegmentLog
from norikv_resp.store import (
    LevelDBOptions,
    Store,
    StoreDamage,
    StoreOptions,
    inspect_store,
    open_store,
    repair_store,
)
from norikv_resp.store.leveldb import open_leveldb
from norikv_resp.store.opening import Workers
from norikv_resp.worker import ThreadWorker
from tests.unit.store_fakes import Heard, Trouble, TroubledDB

TINY = StoreOptions(
    settle_from=0,
    batch_records=50,
    log_budget=200 << 10,
    min_free_disk=0,
    leveldb=LevelDBOptions(write_buffer=64 << 10, block_cache=1 << 16, max_open_files=200),
)


def small_log(path: Path) -> SegmentLog:
    return SegmentLog(path, segment_size=128 << 10)


class Run:
    """A store driven without a loop: completions are delivered at `breathe`."""

    def __init__(self, path: Path, **arguments: Any) -> None:
        arguments.setdefault("options", TINY)
        self.writer, self.flusher = ThreadWorker("writer", None), ThreadWorker("flusher", None)
        self.store: Store = open_store(
            path, log=small_log, workers=Workers(self.writer, self.flusher), **arguments
        )
        self.store.listener = self.heard = Heard()
        self.now = 0.0

    def put(self, rows: dict[bytes, bytes]) -> None:
        self.store.open.update(rows)
        self.store.staged += 1
        self.store.seal(self.store.staged, self.store.staged)

    def tick(self, seconds: float = 0.1) -> None:
        self.now += seconds
        self.store.tick(self.now)

    def breathe(self) -> None:
        """Deliver what the threads have done so far, and let time pass."""
        self.writer.deliver()
        self.flusher.deliver()
        self.tick()

    def wait(self, condition: Any, seconds: float = 10.0) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, self.store.stats()
            self.breathe()
            time.sleep(0.001)

    def kill(self) -> None:
        self.store._settler.close()
        self.store._log.close()
        self.store._directory.release()


def rows_of(path: Path) -> dict[bytes, bytes]:
    with inspect_store(path, options=TINY) as offline:
        assert not [finding for finding in offline.log.findings if finding.damage]
        return {row: value for row, value in offline.rows() if row[:1] == b"m"}


def test_memtables_switch_and_free_segments_and_everything_is_there(tmp_path: Path) -> None:
    run = Run(tmp_path)
    model = {}
    for i in range(400):
        rows = {b"m%05d" % ((i * 37 + j) % 900): os.urandom(150) for j in range(10)}
        model.update(rows)
        run.put(rows)
        if i % 5 == 0:
            run.breathe()
            time.sleep(0.001)
    run.wait(lambda: int(run.store.stats()["checkpoints"]) >= 2)
    freed = run.store.stats()["checkpoint_index"]
    assert isinstance(freed, int)
    assert freed > 0
    run.kill()
    assert rows_of(tmp_path) == model
    run = Run(tmp_path)
    assert dict(run.store.range(b"m", b"n")) == model
    run.store.close()
    assert rows_of(tmp_path) == model


def sizes(folder: Path) -> list[tuple[str, int]]:
    return sorted((entry.name, entry.stat().st_size) for entry in os.scandir(folder))


def cut_power(live: Path, copy: Path) -> None:
    """Copy what a power cut now would leave, LevelDB's own logs excepted."""
    while True:
        try:
            before = sizes(live / "db")
            shutil.copytree(live, copy)
            if before == sizes(live / "db"):  # LevelDB's compaction stood still meanwhile.
                break
        except (shutil.Error, FileNotFoundError):
            pass  # A file has gone while it was looked at.
        shutil.rmtree(copy, ignore_errors=True)
        time.sleep(0.01)
    for name in (copy / "db").glob("*.log"):
        name.unlink()


def test_a_power_cut_at_any_moment_loses_nothing(tmp_path: Path) -> None:
    run = Run(tmp_path / "live")
    model: dict[bytes, bytes] = {}
    for i in range(60):
        rows = {b"m%03d" % ((i * 7 + j) % 50): os.urandom(300) for j in range(20)}
        model.update(rows)
        run.put(rows)
        run.breathe()
        if i % 10 == 9:
            run.store._settler._drain()
            copy = tmp_path / f"copy{i}"
            cut_power(tmp_path / "live", copy)
            found = Run(copy)
            assert dict(found.store.range(b"m", b"n")) == model
            found.kill()
    run.store.close()


class SilentlyFull(TroubledDB):
    """A LevelDB whose compact_range does nothing and says nothing, as under ENOSPC."""

    def compact_range(self, *, start: bytes, stop: bytes) -> None:
        return None


def test_no_segment_is_freed_while_the_old_log_file_exists(tmp_path: Path) -> None:
    options = StoreOptions(settle_from=0, log_budget=1000, min_free_disk=0, idle_after=0.0)
    Run(tmp_path).store.close()
    trouble = Trouble()
    run = Run(
        tmp_path,
        options=options,
        opener=lambda path, how: SilentlyFull(open_leveldb(path, how), trouble),
    )
    for i in range(50):
        run.put({b"m%03d" % i: os.urandom(1000)})
        run.breathe()
    run.wait(lambda: not run.store.stats()["unsettled_records"])
    for _ in range(50):
        run.breathe()
    assert run.store.stats()["settled_index"] == 50
    assert run.store.stats()["checkpoint_index"] == 0
    run.kill()
    assert len(rows_of(tmp_path)) == 50


def test_a_stalled_leveldb_delays_neither_reads_from_memory_nor_writes(tmp_path: Path) -> None:
    trouble = Trouble()
    run = Run(tmp_path, opener=trouble.open)
    run.put({b"m1": b"1"})
    run.wait(lambda: not run.store.stats()["unsettled_records"])
    trouble.gate.clear()
    began = time.monotonic()
    batches = run.store.stats()["settle_batches"]
    for i in range(200):
        run.put({b"m%d" % i: b"x" * 100})
        run.breathe()
        assert run.store.get(b"m%d" % i) == b"x" * 100
        assert run.store.slowdown == 0.0
        assert run.store.durable == i + 2
    assert run.store.stats()["settle_batches"] == batches
    time.sleep(max(0.0, began + 0.5 - time.monotonic()))
    trouble.gate.set()
    run.wait(lambda: run.store.stats()["stalls"])
    run.store.close()
    assert len(rows_of(tmp_path)) == 200


def test_writers_are_slowed_then_refused_while_leveldb_fails_and_it_comes_back(
    tmp_path: Path,
) -> None:
    trouble = Trouble()
    options = StoreOptions(
        settle_from=0, overlay_limit=100_000, min_free_disk=0, leveldb=TINY.leveldb
    )
    run = Run(tmp_path, opener=trouble.open, options=options)
    store = run.store
    for i in range(50):
        run.put({b"m%05d" % i: b"v%d" % i})
    run.wait(lambda: not store.stats()["unsettled_records"])
    trouble.fail_writes = OSError(28, "No space left on device")
    i = 50
    seen = []
    while store.refusal is None:
        run.put({b"m%05d" % i: b"v%d" % i})
        seen.append(store.slowdown)
        run.breathe()
        i += 1
        assert i < 1000
    assert seen[0] == 0.0
    assert sorted(seen) == seen
    assert any(0.0 < pace < 0.2 for pace in seen)
    assert "No space left" in store.refusal
    assert store.get(b"m00000") == b"v0"  # Settled, in the failed handle's memtable only.
    trouble.fail_writes = None
    run.wait(lambda: store.refusal is None and not store.stats()["unsettled_records"])
    assert store.stats()["leveldb_reopened"]
    assert dict(store.range(b"m", b"n")) == {b"m%05d" % j: b"v%d" % j for j in range(i)}
    run.store.close()
    assert len(rows_of(tmp_path)) == i


def test_the_disk_floor_refuses_writes_and_lets_them_go_on_again(tmp_path: Path) -> None:
    options = StoreOptions(min_free_disk=1000, leveldb=TINY.leveldb)
    run = Run(tmp_path, options=options)
    free = [500]
    run.store._directory.free_bytes = lambda: free[0]  # type: ignore[method-assign]
    run.tick()
    assert run.store.refusal is not None
    assert "min-free-disk" in run.store.refusal
    free[0] = 1100
    run.tick()
    assert run.store.refusal is not None
    free[0] = 1300
    run.tick()
    assert run.store.refusal is None
    run.store.close()


def test_a_copy_of_a_live_directory_is_damage_and_a_repair_opens_it(tmp_path: Path) -> None:
    run = Run(tmp_path / "live")
    for i in range(20):
        run.put({b"m%03d" % i: os.urandom(100)})
    shutil.copytree(tmp_path / "live" / "log", tmp_path / "copy" / "log")
    for i in range(20, 400):
        run.put({b"m%03d" % i: os.urandom(500)})
        run.breathe()
    run.store.close()
    shutil.copytree(tmp_path / "live" / "db", tmp_path / "copy" / "db")
    with pytest.raises(StoreDamage, match="--repair"):
        Run(tmp_path / "copy")
    assert repair_store(tmp_path / "copy", options=TINY)
    assert repair_store(tmp_path / "copy", options=TINY) == []
    run = Run(tmp_path / "copy")
    assert len(run.store.range(b"m", b"n")) == 400
    assert run.store.staged >= 400
    run.store.close()


def test_missing_tables_are_damage_and_a_repair_keeps_the_rest(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for i in range(300):
        run.put({b"m%03d" % i: os.urandom(500)})
        run.breathe()
    run.store.close()
    tables = sorted((tmp_path / "db").glob("*.ldb"))
    tables[0].unlink()
    with pytest.raises(StoreDamage, match="LevelDB"):
        Run(tmp_path)
    done = repair_store(tmp_path, options=TINY)
    assert done
    run = Run(tmp_path)
    kept = run.store.range(b"m", b"n")
    assert all(len(value) == 500 for _, value in kept)
    run.put({b"m999": b"1"})
    run.store.close()
    assert rows_of(tmp_path)[b"m999"] == b"1"


def test_three_frames_in_flight_fail_and_the_store_goes_on(tmp_path: Path) -> None:
    run = Run(tmp_path)
    store = run.store
    run.put({b"ma": b"0"})
    log: Any = store._log
    held: list[Any] = []
    append = log.append
    log.append = lambda frame, sync: held.append((frame, sync))
    for i in range(3):
        run.put({b"ma": b"%d" % (i + 1), b"mb": b"%d" % i})
    store.open[b"mc"] = b"staged"
    log.append = append
    real = log._fdatasync

    def broken(_: int) -> None:
        raise OSError(28, "No space left on device")

    log._fdatasync = broken
    append(*held[0])
    log._fdatasync = real
    assert run.heard.rollbacks
    assert run.heard.rollbacks[0][0] == {b"ma", b"mb", b"mc"}
    assert run.heard.rollbacks[0][1].outcome == "unknown"
    assert store.get(b"ma") == b"0"
    assert store.get(b"mb") is None
    run.put({b"md": b"1"})
    run.wait(lambda: store.durable == store.staged)
    run.kill()
    assert rows_of(tmp_path) == {b"ma": b"0", b"md": b"1"}
