"""The store's layers, settling, checkpoints and starts, step by step."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from norikv_resp.store import DirectoryInUse, NewerFormat, StoreDamage, open_store
from norikv_resp.store.leveldb import LevelDBOptions, open_leveldb
from norikv_resp.store.mark import (
    FORMAT_ROW,
    MARK_ROW,
    Mark,
    decode_mark,
    encode_format,
    encode_mark,
)
from tests.unit.store_fakes import SMALL, Bench, Disk


def rows_of(bench: Bench) -> dict[bytes, bytes]:
    """Everything but the store's own rows."""
    found = bench.store.range(b"", b"\xff" * 9)
    return {row: value for row, value in found if not row.startswith(b"!")}


def test_get_sees_staged_committed_and_settled_rows(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "data", Disk())
    store = bench.store
    assert store.get(b"mk") is None
    store.open[b"mk"] = b"1"
    assert store.get(b"mk") == b"1"
    bench.put({})
    assert store.get(b"mk") == b"1"
    assert store.durable == 1
    bench.settle()
    assert store.stats()["unsettled_records"] == 0
    assert store.get(b"mk") == b"1"
    bench.put({b"mk": b""})
    assert store.get(b"mk") is None
    bench.settle()
    assert store.get(b"mk") is None
    store.close()


def test_an_empty_turn_makes_no_frame(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "data", Disk())
    bench.store.seal(5, 5)
    assert bench.disk.frames == []
    bench.store.close()


def test_a_directory_is_private_and_has_one_server(tmp_path: Path) -> None:
    path = tmp_path / "a" / "data"
    bench = Bench(path, Disk())
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
    assert {"lock", "log", "db"} <= set(os.listdir(path))
    with pytest.raises(DirectoryInUse, match="another server is using this directory"):
        Bench(path, Disk())
    bench.store.close()
    Bench(path, bench.disk).store.close()


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Disk())
    bench.store.close()
    db = open_leveldb(tmp_path / "db", LevelDBOptions())
    batch = db.write_batch()
    batch.put(FORMAT_ROW, encode_format(99))
    batch.write()
    db.compact_range(start=b"\0", stop=b"\0")
    db.close()
    with pytest.raises(NewerFormat, match="version 99"):
        Bench(tmp_path, bench.disk)


def test_the_mark_has_its_golden_bytes() -> None:
    mark = Mark(settled=1, contained=2, clock=3, term=258)
    raw = bytes.fromhex("0100000000000000 0200000000000000 0300000000000000 0201000000000000")
    assert encode_mark(mark) == raw
    assert decode_mark(raw) == mark
    assert encode_format(1) == b"\1\0\0\0"
    assert (MARK_ROW, FORMAT_ROW) == (b"!mark", b"!format")


def test_replay_after_a_kill_and_nothing_after_a_clean_stop(tmp_path: Path) -> None:
    disk = Disk()
    bench = Bench(tmp_path, disk)
    for i in range(50):
        bench.put({b"m%03d" % i: b"v%d" % i})
    bench.settle()
    for i in range(25):
        bench.put({b"m%03d" % i: b"w%d" % i if i % 2 else b""})
    expected = rows_of(bench)
    term = bench.store.term
    bench.kill()

    bench = Bench(tmp_path, disk)
    assert bench.store.term == term + 1
    assert bench.store.durable == 75
    # LevelDB's log was not trusted: everything came from the commit log.
    assert bench.store.stats()["unsettled_records"] == 50
    assert rows_of(bench) == expected
    bench.store.close()

    bench = Bench(tmp_path, disk)
    assert bench.store.stats()["unsettled_records"] == 0
    assert bench.store.stats()["checkpoint_index"] == 75
    assert rows_of(bench) == expected
    bench.store.close()


def test_hot_rows_coalesce(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Disk(), options=SMALL)
    for i in range(1000):
        bench.put({b"mhot": b"%d" % i})
    bench.settle()
    assert bench.store.get(b"mhot") == b"999"
    records = bench.store.stats()["settled_records"]
    assert isinstance(records, int)
    assert records <= 3
    bench.store.close()


def test_a_row_overwritten_while_its_batch_is_in_flight_stays(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Disk())
    bench.put({b"mx": b"1"})
    bench.tick()
    assert bench.writer.jobs
    bench.put({b"mx": b"2"})
    assert bench.store.get(b"mx") == b"2"
    assert bench.writer.step()
    assert bench.store.get(b"mx") == b"2"
    bench.settle()
    assert bench.store.get(b"mx") == b"2"
    bench.store.close()


def test_a_failed_commit_drops_three_frames_and_the_open_one(tmp_path: Path) -> None:
    disk = Disk()
    bench = Bench(tmp_path, disk, late=True)
    store = bench.store
    bench.put({b"ma": b"0", b"mb": b"0"})
    bench.log.deliver()
    bench.put({b"ma": b"1"})
    bench.put({b"mb": b"2"})
    bench.put({b"mc": b"3", b"mb": b""})
    store.open[b"md"] = b"4"
    store.staged += 1
    assert store.get(b"mb") is None
    assert [key for key, _ in store.range(b"m", b"n")] == [b"ma", b"mc", b"md"]
    bench.log.fail()
    assert bench.heard.rollbacks[0][0] == {b"ma", b"mb", b"mc", b"md"}
    assert store.durable == 1
    assert rows_of(bench) == {b"ma": b"0", b"mb": b"0"}
    # The indices that were given up are not used again.
    assert bench.put({b"me": b"5"}) == 6
    bench.log.deliver()
    assert store.durable == 6
    bench.kill()
    bench = Bench(tmp_path, disk)
    assert rows_of(bench) == {b"ma": b"0", b"mb": b"0", b"me": b"5"}
    bench.store.close()


@pytest.mark.parametrize("policy", ["everysec", "no"])
def test_only_synced_rows_settle(tmp_path: Path, policy: str) -> None:
    disk = Disk()
    bench = Bench(tmp_path, disk, policy=policy)
    bench.tick(0.0)
    bench.log.late = True
    bench.put({b"mx": b"1"})
    bench.log.deliver()
    assert bench.store.durable == 1
    for _ in range(5):
        bench.tick(0.1)
        bench.run()
    assert bench.store.stats()["settled_records"] == 0
    bench.tick(60.0)  # A sync starts; until it is done, nothing settles.
    bench.put({b"mx": b"2"})
    assert bench.log.sync_wanted
    bench.tick(0.1)
    assert bench.store.stats()["settled_records"] == 0
    bench.log.late = False
    bench.log.deliver()
    bench.settle()
    assert bench.store.get(b"mx") == b"2"
    bench.store.close()


def test_going_over_to_always_moves_what_was_written_down_first(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Disk(), policy="no")
    bench.put({b"mx": b"1", b"my": b"1"})
    bench.store.set_policy("always")
    bench.put({b"mx": b"2"})
    assert bench.store.get(b"mx") == b"2"
    assert bench.store.stats()["unsynced_records"] == 0
    bench.settle()
    assert bench.store.get(b"mx") == b"2"
    assert bench.store.get(b"my") == b"1"
    bench.store.close()


def test_a_checkpoint_frees_the_log_only_when_the_file_is_gone(tmp_path: Path) -> None:
    disk = Disk()
    bench = Bench(tmp_path, disk, options=SMALL)
    for i in range(100):
        bench.put({b"m%03d" % i: os.urandom(500)})
    bench.settle()
    logs = {name for name in os.listdir(tmp_path / "db") if name.endswith(".log")}
    assert disk.freed == 0
    while not disk.freed:
        for i in range(100):
            bench.put({b"m%03d" % i: os.urandom(500)})
        bench.settle()
        left = {name for name in os.listdir(tmp_path / "db") if name.endswith(".log")}
        assert not (disk.freed and logs & left)
    bench.kill()
    bench = Bench(tmp_path, disk)
    assert len(rows_of(bench)) == 100
    bench.store.close()


def test_a_copy_of_a_running_directory_is_damage(tmp_path: Path) -> None:
    disk = Disk()
    bench = Bench(tmp_path, disk)
    for i in range(20):
        bench.put({b"m%03d" % i: b"v"})
    early = Disk(frames=disk.frames[:10], synced=10, term=disk.term)
    bench.store.close()
    with pytest.raises(StoreDamage, match=r"check .* --repair"):
        Bench(tmp_path, early)
    late = Disk(frames=disk.frames[15:], synced=20, freed=25, term=disk.term)
    with pytest.raises(StoreDamage):
        Bench(tmp_path, late)
    Bench(tmp_path, disk).store.close()


def test_damaged_tables_are_named(tmp_path: Path) -> None:
    disk = Disk()
    bench = Bench(tmp_path, disk)
    for i in range(100):
        bench.put({b"m%03d" % i: os.urandom(100)})
    bench.store.close()
    for table in (tmp_path / "db").glob("*.ldb"):
        table.unlink()
    with pytest.raises(StoreDamage, match="LevelDB"):
        Bench(tmp_path, disk)


def test_open_store_needs_a_usable_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Exception, match="cannot use the directory"):
        open_store(tmp_path / "file")
