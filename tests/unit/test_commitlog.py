"""The local commit log: outcomes, failures in flight, segments, damage, threads."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from norikv_resp.commitlog import (
    CommitError,
    Frame,
    Limits,
    LogDamage,
    LogError,
    OsFiles,
    SegmentLog,
    inspect,
)
from norikv_resp.commitlog.policy import SyncPolicy
from tests.support.late_log import LateLog
from tests.support.log_model import FixedPolicy, Model
from tests.support.power import PowerFiles
from tests.support.workers import ManualWorker

SIZE = 32768


class Listener:
    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []

    def on_commit(self, last: int) -> None:
        self.events.append(("commit", last))

    def on_failure(self, error: CommitError) -> None:
        self.events.append(("failure", error.outcome))

    def on_synced(self, last: int) -> None:
        self.events.append(("synced", last))


def frame(index: int, size: int = 100, term: int = 1) -> Frame:
    return Frame(index, index, term, 1000 + index, {b"key%d" % index: b"v" * size, b"gone": b""})


def opened(
    files: PowerFiles, *, after: int = 0, inline: bool = True, **options: Any
) -> tuple[SegmentLog, Listener, list[Frame]]:
    files.restart()
    log = SegmentLog("/log", segment_size=SIZE, files=files, policy=FixedPolicy(inline), **options)
    frames = list(log.recover(after))
    listener = Listener()
    log.start(log.term + 1, listener)
    return log, listener, frames


# ---- outcomes


def test_synced_frames_commit_during_append_and_come_back() -> None:
    files = PowerFiles()
    log, listener, _ = opened(files)
    frames = [frame(i) for i in range(1, 20)]
    for one in frames:
        log.append(one, True)
        assert log.committed == log.synced == one.last
    assert listener.events == [("commit", i) for i in range(1, 20)]
    files.lose_power()
    _, _, recovered = opened(files)
    assert recovered == frames


def test_unsynced_frames_commit_at_once_and_sync_reports_them() -> None:
    log, listener, _ = opened(PowerFiles())
    log.append(frame(1), False)
    log.append(frame(2), False)
    assert (log.committed, log.synced) == (2, 0)
    log.sync()
    assert listener.events == [("commit", 1), ("commit", 2), ("synced", 2)]
    log.sync()
    assert listener.events[-1] == ("synced", 2)


def test_a_synced_frame_reports_the_unsynced_ones_before_it_first() -> None:
    log, listener, _ = opened(PowerFiles())
    log.append(frame(1), False)
    log.append(frame(2), True)
    assert listener.events == [("commit", 1), ("synced", 1), ("commit", 2)]


def test_one_sync_in_the_thread_covers_what_was_written_before_it() -> None:
    worker = ManualWorker()
    log, listener, _ = opened(PowerFiles(), inline=False, worker=worker)
    log.append(frame(1), True)
    log.append(frame(2), True)
    log.append(frame(3), False)
    assert listener.events == []
    worker.step()
    assert listener.events == [("commit", 1)]
    worker.step()
    assert listener.events == [("commit", 1), ("commit", 3), ("synced", 3)]
    assert not worker.jobs


def test_unsynced_bytes_force_a_sync() -> None:
    worker = ManualWorker()
    log, listener, _ = opened(PowerFiles(), worker=worker, limits=Limits(retained=4096))
    for i in range(1, 40):
        log.append(frame(i), False)
    held = log.committed
    assert held < 39  # twice the bound: commits wait for the disk
    worker.drain()
    assert log.committed == 39
    assert log.synced >= held
    assert ("synced", log.synced) in listener.events


def test_indices_and_clock_never_go_back() -> None:
    log, _, _ = opened(PowerFiles())
    log.append(frame(5), True)
    with pytest.raises(ValueError, match="frame 5 to 5 follows 5"):
        log.append(frame(5), True)
    with pytest.raises(ValueError, match="follows"):
        log.append(Frame(6, 6, 1, 1004, {}), True)


def test_term_and_next_index_survive() -> None:
    files = PowerFiles()
    log, _, _ = opened(files)
    log.append(frame(7), True)
    log.close()
    log, _, recovered = opened(files)
    assert [f.last for f in recovered] == [7]
    assert (log.term, log.clock, log.next_index, log.committed) == (2, 1007, 8, 7)
    log.close()
    again = SegmentLog("/log", segment_size=SIZE, files=files)
    assert list(again.recover(7)) == []
    with pytest.raises(ValueError, match="term 2 is not above 2"):
        again.start(2, Listener())
    assert again.start(3, Listener()) == 8


# ---- failures


def test_a_failed_write_is_not_applied_and_the_next_append_goes_on() -> None:
    files = PowerFiles()
    log, listener, _ = opened(files)
    log.append(frame(1), True)
    files.arm("pwrite", 1, errno.ENOSPC)
    log.append(frame(2), True)
    assert listener.events[1:] == [("failure", "not applied")]
    assert "No space left" in (log.failure or "")
    log.append(frame(3), True)
    assert listener.events[2:] == [("commit", 3)]
    assert log.failure is None
    files.lose_power()
    assert [f.last for f in opened(files)[2]] == [1, 3]


def test_a_failed_sync_is_unknown_and_never_repeated_on_that_file() -> None:
    files = PowerFiles()
    log, listener, _ = opened(files)
    log.append(frame(1), True)
    files.arm("fdatasync", 1, errno.EIO)
    log.append(frame(2), True)  # the model fails on any further use of the file
    assert listener.events[1:] == [("failure", "unknown")]
    log.append(frame(3), True)
    log.close()
    assert [f.last for f in opened(files)[2]] == [1, 3]


def test_frames_before_a_failed_write_still_commit_first() -> None:
    files = PowerFiles()
    worker = ManualWorker()
    log, listener, _ = opened(files, inline=False, worker=worker)
    log.append(frame(1), True)
    log.append(frame(2), True)
    files.arm("pwrite", 1, errno.EIO)
    log.append(frame(3), True)
    log.append(frame(4), True)  # staged over frame 3: covered by its failure
    assert listener.events == []
    worker.drain()
    assert listener.events == [("commit", 1), ("commit", 2), ("failure", "not applied")]


def test_acknowledged_frames_outlive_a_failed_sync() -> None:
    files = PowerFiles()
    log, listener, _ = opened(files)
    for i in (1, 2, 3):
        log.append(frame(i), False)
    files.arm("fdatasync", 1, errno.EIO)
    log.sync()
    assert listener.events[-1] == ("synced", 3)
    assert log.stats()["log_rewritten_frames"] == 3
    files.lose_power()
    assert [f.last for f in opened(files)[2]] == [1, 2, 3]


def test_a_full_disk_refuses_frames_until_there_is_room() -> None:
    files = PowerFiles()
    now = [0.0]
    log, listener, _ = opened(files, spares=0, now=lambda: now[0])
    log.append(frame(1), False)
    files.full = True
    files.arm("fdatasync", 1, errno.ENOSPC)
    log.sync()
    for i in range(2, 10):
        log.append(frame(i), False)
        assert listener.events[-1] == ("failure", "not applied")
    assert log.stats()["log_unsynced_frames"] == 1
    files.full = False
    log.append(frame(10), False)  # within a second of the last attempt
    assert listener.events[-1] == ("failure", "not applied")
    now[0] += 1.1
    log.append(frame(11), False)
    assert listener.events[-2:] == [("synced", 1), ("commit", 11)]
    log.close()
    assert [f.last for f in opened(files)[2]] == [1, 11]


def test_close_says_when_acknowledged_frames_could_not_be_synced() -> None:
    files = PowerFiles()
    log, _, _ = opened(files, spares=0)
    log.append(frame(1), False)
    files.full = True
    files.arm("fdatasync", 1, errno.ENOSPC)
    with pytest.raises(CommitError) as caught:
        log.close()
    assert caught.value.outcome == "unknown"


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize("mode", ["always", "no", "mixed"])
def test_any_failed_operation_leaves_the_promises_whole(mode: str, inline: bool) -> None:
    """Outcomes and both kinds of restart equal the model; service resumes by itself."""
    faults: list[tuple[str, int | str]]
    faults = [("pwrite", "short"), ("open", errno.EMFILE), ("sync_directory", errno.EIO)]
    faults += itertools.product(("pwrite", "fdatasync"), (errno.EIO, errno.ENOSPC))
    for (operation, what), nth, end, manual in itertools.product(
        faults, range(1, 6), ("lose_power", "kill"), (True, False)
    ):
        model = Model(nth, size=12288, mode=mode, manual=manual, inline=inline)
        model.append()
        model.finish()
        model.files.arm(operation, nth, what)
        for size in (100, 3000, 100):
            model.append(size)
        model.log.sync()
        model.finish()
        model.time += 2
        for size in (3000, 3000, 100):
            model.append(size)
        model.finish()
        model.files.faults.clear()
        model.time += 2
        model.append()
        model.finish()
        assert model.flying == []
        assert model.history[-1].last == model.index - 1, (operation, what, nth)
        getattr(model, end)()
        model.append()
        model.finish()
        model.lose_power()


# ---- segments


def test_segments_are_recycled_and_big_frames_get_a_file_of_their_own() -> None:
    files = PowerFiles()
    log, listener, _ = opened(files)
    big = frame(1, 5 * SIZE)
    log.append(big, True)
    for i in range(2, 400):
        log.append(frame(i, 1000), True)
        if i % 50 == 0:
            log.free(i - 10)
    assert listener.events == [("commit", i) for i in range(1, 400)]
    assert len(files.entries) <= 8
    assert all(len(inode.data) == SIZE for inode in files.entries.values())
    log.append(frame(400, 3 * SIZE), False)
    log.append(frame(401), True)
    files.lose_power()
    _, _, recovered = opened(files, after=390)
    assert [f.last for f in recovered] == list(range(391, 402))
    assert len(recovered[9].rows[b"key400"]) == 3 * SIZE


def test_a_needed_spare_is_used_before_it_is_filled() -> None:
    files = PowerFiles()
    tender = ManualWorker()
    log, _, _ = opened(files, tender=tender)
    for i in range(1, 60):
        log.append(frame(i, 1000), True)
    assert log.committed < 59
    tender.step()  # the directory entry
    assert log.committed < 59
    while log.committed < 59:
        assert tender.step()
    files.lose_power()
    assert len(opened(files)[2]) == 59


def test_nothing_is_freed_that_a_restart_needs() -> None:
    files = PowerFiles()
    log, _, _ = opened(files)
    for i in range(1, 100):
        log.append(frame(i, 1000), True)
        log.free(i)
        copy = PowerFiles()
        copy.entries = dict(files.entries)
        again = SegmentLog("/log", segment_size=SIZE, files=copy)
        assert list(again.recover(i)) == []
        assert again.next_index == i + 1


# ---- damage


def written(count: int = 60, close: bool = True) -> PowerFiles:
    files = PowerFiles()
    log, _, _ = opened(files)
    for i in range(1, count + 1):
        log.append(frame(i, 1000), True)
    if close:
        log.close()
    files.restart()
    return files


def segment_files(files: PowerFiles) -> list[str]:
    return sorted(path for path, inode in files.entries.items() if inode.data[:8] == b"NORIKLOG")


def test_damage_in_the_middle_is_named_with_what_can_be_saved() -> None:
    files = written()
    path = segment_files(files)[1]
    data = files.entries[path].data
    data[12000] ^= 1
    files.entries[path].disk[12000] ^= 1
    before = [bytes(inode.data) for inode in files.entries.values()]
    log = SegmentLog("/log", segment_size=SIZE, files=files)
    frames: list[Frame] = []
    with pytest.raises(LogDamage) as caught:
        frames += log.recover(0)
    damage = caught.value
    assert damage.path == path
    assert damage.saved_through == 32
    assert 10000 < damage.offset <= 12000
    assert "frames 33 to" in str(damage)
    assert "--repair" in damage.remedy
    with pytest.raises(RuntimeError):
        log.start(2, Listener())
    found = inspect("/log", files)
    assert [(f.damage, f.offset) for f in found.findings] == [(True, damage.offset)]
    assert found.last == 32
    assert before == [bytes(inode.data) for inode in files.entries.values()]


def test_salvage_keeps_the_readable_prefix_and_sets_the_rest_aside() -> None:
    files = written()
    path = segment_files(files)[0]
    files.entries[path].disk[12000] ^= 1
    log = SegmentLog("/log", segment_size=SIZE, files=files)
    frames = list(log.recover(0, salvage=True))
    saved = frames[-1].last
    assert log.next_index == 61
    log.start(log.term + 1, Listener())
    assert any(path.endswith(".damaged") for path in files.entries)
    log.append(frame(61, term=2), True)
    log.close()
    _, _, recovered = opened(files)
    assert [f.last for f in recovered] == [*range(1, saved + 1), 61]


def test_a_clean_end_makes_damage_to_the_last_frame_visible() -> None:
    files = written(3)
    files.entries[segment_files(files)[0]].disk[4096 + 3 * 1100] ^= 1
    with pytest.raises(LogDamage, match="readable through index 2"):
        opened(files)


def test_a_torn_unsynced_end_is_no_damage() -> None:
    files = PowerFiles()
    log, _, _ = opened(files)
    for i in (1, 2):
        log.append(frame(i, 1000), True)
    for i in (3, 4):
        log.append(frame(i, 1000), False)
    files.restart()
    inode = files.entries[segment_files(files)[0]]
    inode.sync()
    inode.disk[4096 + 2 * 1100 + 500] ^= 1
    inode.data = bytearray(inode.disk)
    found = inspect("/log", files)
    assert [f.damage for f in found.findings] == [False]
    log, _, recovered = opened(files)
    assert [f.last for f in recovered] == [1, 2]
    assert log.next_index == 5  # 3 and 4 were given up, and are not used again


def test_missing_segments_and_a_missing_log_are_damage() -> None:
    files = written()
    oldest = segment_files(files)[0]
    inode = files.entries.pop(oldest)
    with pytest.raises(LogDamage, match="frames 1 to 60 are missing at the beginning"):
        opened(files)
    files.entries[oldest] = inode
    files.entries.pop(segment_files(files)[1])
    with pytest.raises(LogDamage, match="frames 26 to"):
        opened(files)
    files.entries.clear()
    with pytest.raises(LogDamage, match="settled through index 5, but the log is gone"):
        opened(files, after=5)


def test_a_log_that_ends_before_leveldb_does_is_damage() -> None:
    files = written(5)
    log = SegmentLog("/log", segment_size=SIZE, files=files)
    with pytest.raises(LogDamage, match="LevelDB says"):
        list(log.recover(3, reach=6))
    assert inspect("/log", files, after=9).findings[0].damage
    assert not inspect("/log", files, after=3).findings


def test_a_broken_header_is_damage_when_it_was_synced() -> None:
    files = written(5)
    files.entries[segment_files(files)[0]].disk[20] ^= 1
    with pytest.raises(LogDamage, match="header is unreadable"):
        opened(files)


def test_a_value_that_imitates_a_frame_is_no_frame() -> None:
    """Bytes of an earlier segment inside a value never count as a trace of later frames."""
    files = written(5, close=False)
    stolen = bytes(files.entries[segment_files(files)[0]].disk[4096:9000])
    log, _, _ = opened(files)
    log.append(Frame(6, 6, 2, 1006, {b"key": stolen}), False)
    files.restart()
    inode = files.entries[segment_files(files)[-1]]
    inode.sync()
    inode.disk[4096] ^= 1
    _, _, recovered = opened(files)
    assert [f.last for f in recovered] == [1, 2, 3, 4, 5]


# ---- threads, loop, real files


def test_sync_policy_moves_to_the_thread_and_back() -> None:
    policy = SyncPolicy()
    for _ in range(1000):
        policy.note(0.0002)
    assert policy.inline
    for _ in range(3):
        policy.note(0.006)
    assert not policy.inline
    for _ in range(256):
        policy.note(0.0007)
    assert policy.inline
    for _ in range(3):
        policy.note(0.006)
    for _ in range(256):
        policy.note(0.0007)
    assert not policy.inline  # soon regretted: twice as long
    for _ in range(256):
        policy.note(0.0007)
    assert policy.inline


def test_sync_policy_bears_single_slow_syncs_but_no_slow_disk() -> None:
    policy = SyncPolicy()
    for number in range(10_000):
        policy.note(0.002 if number % 10 == 0 else 0.0002)
    assert policy.inline
    for _ in range(256):
        policy.note(0.002)
    assert not policy.inline
    for _ in range(10_000):
        policy.note(0.002)
    assert not policy.inline


@pytest.mark.parametrize("make", [SegmentLog, LateLog])
@pytest.mark.parametrize("inline", [True, False])
def test_threads_on_a_loop_keep_the_order_in_real_files(
    make: Callable[..., SegmentLog], inline: bool, tmp_path: Path
) -> None:
    listener = Listener()
    frames = [frame(i) for i in range(1, 200)]
    frames[100] = frame(101, 2 << 20)
    frames[150] = frame(151, 5 << 20)  # larger than a segment

    async def main() -> None:
        log = make(tmp_path / "log", segment_size=4 << 20, policy=FixedPolicy(inline))
        assert list(log.recover(0)) == []
        log.start(1, listener)
        for i, one in enumerate(frames):
            log.append(one, i % 3 != 0)
            await asyncio.sleep(0)
        log.sync()
        deadline = asyncio.get_running_loop().time() + 20
        while log.synced < 199 and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.001)
        assert log.committed == log.synced == 199
        log.close()
        await asyncio.sleep(0)

    asyncio.run(main())
    commits = [last for kind, last in listener.events if kind == "commit"]
    assert commits == sorted(commits)
    assert commits[-1] == 199
    assert ("synced", 199) in listener.events
    log = SegmentLog(tmp_path / "log", segment_size=4 << 20)
    assert list(log.recover(0)) == frames
    found = inspect(str(tmp_path / "log"), OsFiles())
    assert (found.findings, found.frames, found.last, found.closed) == ([], 199, 199, True)
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o700
    assert all(p.stat().st_mode & 0o777 == 0o600 for p in (tmp_path / "log").iterdir())


def test_late_log_drops_what_is_appended_over_an_unreported_failure() -> None:
    files = PowerFiles()
    log = LateLog("/log", segment_size=SIZE, files=files, policy=FixedPolicy(True))
    list(log.recover(0))
    listener = Listener()
    log.start(1, listener)
    files.arm("pwrite", 1, errno.EIO)
    log.append(frame(1), True)
    log.append(frame(2), True)
    assert listener.events == []
    log.deliver()
    assert listener.events == [("failure", "not applied")]
    log.append(frame(3), True)
    log.deliver()
    assert listener.events[1:] == [("commit", 3)]


def test_a_newer_log_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "log"
    monkeypatch.setattr("norikv_resp.commitlog.segment.FORMAT_VERSION", 2)
    log = SegmentLog(directory, segment_size=SIZE)
    list(log.recover(0))
    log.start(1, Listener())
    log.close()
    monkeypatch.undo()
    with pytest.raises(LogError, match="start the newer server"):
        list(SegmentLog(directory, segment_size=SIZE).recover(0))
    assert os.listdir(directory)
