"""The local commit log: recycled segments, one write and one sync per frame.

While all is well `append` takes the short way: one write, at most one fdatasync, one call of the
listener.  The rest is elsewhere: what the log knows in `state`, the way of frames that have to wait
in `pipeline`, what goes wrong and the way back in `failures`, the supply of files in `spares`.

All state belongs to the loop's thread; helper threads make single calls on its behalf.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Callable, Iterator
from itertools import chain
from time import monotonic, perf_counter

from xxhash import xxh3_64_intdigest

from norikv_resp.commitlog.files import Files, OsFiles, write_fully
from norikv_resp.commitlog.frame import CHECKSUM, HASHED, HEAD_SIZE, HEADER_SYNCED
from norikv_resp.commitlog.interface import Frame, LogDamage, LogListener
from norikv_resp.commitlog.pipeline import Limits, Pipeline
from norikv_resp.commitlog.policy import SyncPolicy
from norikv_resp.commitlog.segment import HEADER_SIZE, Reader, encode_header
from norikv_resp.commitlog.spares import Folder, first_segment, take_stock
from norikv_resp.commitlog.state import OVERHEAD, Entry, Figures, State
from norikv_resp.worker import InlineWorker, ThreadWorker, Worker

SEGMENT_SIZE = 32 << 20
LIMITS = Limits()
_hashed = HASHED.pack
_checksum = CHECKSUM.pack
_pack = struct.pack


class SegmentLog:
    """A `CommitLog` in a directory of this machine; one owner, one thread.

    With a running loop at `start` its blocking calls go to two helper threads, otherwise (or with
    `worker` and `tender` given) to what the caller injected.  `spares` segments are made ahead.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        segment_size: int = SEGMENT_SIZE,
        spares: int = 2,
        limits: Limits = LIMITS,
        files: Files | None = None,
        worker: Worker | None = None,
        tender: Worker | None = None,
        policy: SyncPolicy | None = None,
        now: Callable[[], float] = monotonic,
    ) -> None:
        if segment_size < 2 * HEADER_SIZE:
            raise ValueError(f"a segment needs at least {2 * HEADER_SIZE} bytes")
        self._files: Files = OsFiles() if files is None else files
        self._folder = Folder(self._files, os.fspath(directory), segment_size)
        self._spare_target = spares
        self._limits = limits
        self._worker = worker
        self._tender = tender
        self._policy = SyncPolicy() if policy is None else policy
        self._now = now

        # For `append`, at hand.
        self._pwrite = self._files.pwrite
        self._fdatasync = self._files.fdatasync
        self._large, self._retained, self._held = limits.large, limits.retained, limits.held

        self._state = State()
        self._figures = Figures()
        self._reader: Reader | None = None  # set by recover
        self._recovered = False
        self._salvaged = False
        self._pipeline: Pipeline | None = None  # set by start
        self._closed = False

    # ---- properties

    @property
    def committed(self) -> int:
        """Last index reported by `on_commit`, or recovered."""
        return self._state.committed

    @property
    def synced(self) -> int:
        """Last index known to be on disk."""
        return self._state.synced

    @property
    def term(self) -> int:
        """Highest term found by recovery, or the running one after `start`."""
        return self._state.term

    @property
    def clock(self) -> int:
        """Highest server time in any frame, in ms."""
        return self._state.clock

    @property
    def next_index(self) -> int:
        """Lowest index never used, not even by a frame that was dropped."""
        return self._state.highest + 1

    @property
    def failure(self) -> str | None:
        """Why appends fail now; None when they do not."""
        return self._state.failure

    # ---- recovery and start

    def recover(self, after: int, reach: int = 0, *, salvage: bool = False) -> Iterator[Frame]:
        """Yield the frames with `last` > `after`, in order; to be exhausted before `start`.

        `after` is what LevelDB is settled through, `reach` the highest index that it holds
        something of.  Raises LogDamage, after the frames before it, when synced frames are
        missing; with `salvage` it ends there instead, and `start` sets aside what lies beyond.
        LogError for a newer format, OSError when the disk fails.  Memory: one segment.
        """
        if self._pipeline is not None:
            raise RuntimeError("recover after start")
        directory = self._folder.path
        self._files.make_directory(directory)
        self._files.sync_directory(directory)
        reader = self._reader = Reader(self._files, directory, settle=True)
        try:
            yield from reader.read(after, reach)
        except LogDamage:
            if not salvage:
                raise
            self._salvaged = True
        if reader.last < after:
            reader.last, reader.checksum, reader.last_term = after, 0, 0
        state = self._state
        state.last = state.committed = state.synced = reader.last
        state.checksum = state.synced_checksum = reader.checksum
        state.last_term = state.synced_term = reader.last_term
        state.term = reader.term
        state.clock = reader.clock
        state.highest = max(reader.highest, reader.last, reach)
        self._recovered = True

    def start(self, term: int, listener: LogListener) -> int:
        """Open a fresh segment in `term`, durably; return the lowest index that may be used.

        ValueError unless `term` is higher than any before, OSError when the disk fails.
        """
        reader = self._reader
        if reader is None or not self._recovered:
            raise RuntimeError("start before recover was exhausted")
        state = self._state
        if term <= state.term:
            raise ValueError(f"term {term} is not above {state.term}")
        state.term = term
        stock = take_stock(self._folder, reader, self._salvaged)
        first = first_segment(self._folder, stock)
        write_fully(self._files, first.fd, encode_header(state.header_for(first)), 0)
        self._fdatasync(first.fd)
        self._files.sync_directory(self._folder.path)
        first.flags = HEADER_SYNCED
        state.segments.extend((*stock.kept, first))
        state.current = first
        self._pipeline = Pipeline(
            state,
            self._figures,
            folder=self._folder,
            stock=stock,
            spares=self._spare_target,
            limits=self._limits,
            worker=_worker("commitlog") if self._worker is None else self._worker,
            tender=_worker("commitlog-spares") if self._tender is None else self._tender,
            policy=self._policy,
            listener=listener,
            now=self._now,
        )
        self._pipeline.spares.tend()
        return self.next_index

    # ---- appending

    def append(self, frame: Frame, sync: bool) -> None:
        """Order and write `frame`; see `CommitLog.append`.  O(bytes).

        ValueError when its index was used before, by a dropped frame too, or its clock goes back.
        """
        # This runs once per turn of the loop.  Whatever needs more than one write and at most one
        # quick sync goes through the pipeline, which does the same in more steps.
        state = self._state
        if frame.first <= state.highest or frame.last < frame.first or frame.clock < state.clock:
            raise ValueError(f"frame {frame.first} to {frame.last} follows {state.highest}")
        items = [*chain.from_iterable(frame.rows.items())]
        lengths = [*map(len, items)]
        count = len(lengths)
        body_size = 4 + 4 * count + sum(lengths)
        segment = state.current
        pipeline = self._pipeline
        if pipeline is None or self._closed:
            raise RuntimeError("append to a log that is not open")
        if (
            segment is None
            or state.queue
            or state.waiting
            or state.writing is not None
            or body_size > self._large
            or segment.offset + HEAD_SIZE + body_size > segment.capacity
            or segment.header
            or (
                sync
                and (
                    state.older
                    or state.round is not None
                    or not self._policy.inline
                    or state.retained > self._large
                )
            )
            or state.retained > self._held
        ):
            pipeline.append(frame, sync, items, HEAD_SIZE + body_size)
            return
        last = state.highest = frame.last
        hashed = b"".join(
            (
                _hashed(
                    state.checksum,
                    segment.nonce,
                    segment.tag,
                    segment.flags,
                    body_size,
                    frame.first,
                    last,
                    frame.term,
                    frame.clock,
                    state.synced,
                ),
                _pack(f"<{count + 1}I", count >> 1, *lengths),
                *items,
            )
        )
        checksum = xxh3_64_intdigest(hashed, state.checksum)
        data = _checksum(checksum) + hashed
        size = len(data)
        try:
            if self._pwrite(segment.fd, data, segment.offset) != size:
                write_fully(self._files, segment.fd, data, segment.offset)
        except OSError as error:
            pipeline.failures.write_failed(error)
            return
        segment.offset += size
        segment.last = last
        state.last = last
        state.last_term = frame.term
        state.checksum = checksum
        state.clock = frame.clock
        figures = self._figures
        figures.frames += 1
        figures.bytes += size
        if not sync:
            entry = Entry(frame, False, size, data[HEAD_SIZE:])
            entry.acknowledged = True
            segment.unsynced = True
            state.unsynced.append(entry)
            state.retained += size + OVERHEAD
            state.committed = last
            pipeline.listener.on_commit(last)
            if state.retained > self._retained:
                pipeline.start_round()
            return
        started = perf_counter()
        try:
            self._fdatasync(segment.fd)
        except OSError as error:
            pipeline.failures.sync_failed(error)
            return
        seconds = perf_counter() - started
        self._policy.note(seconds)
        figures.sync_seconds.append(seconds)
        figures.syncs += 1
        segment.flags = HEADER_SYNCED
        segment.unsynced = False
        state.synced = state.committed = last
        state.synced_term = frame.term
        state.synced_checksum = checksum
        if state.unsynced:
            relaxed = state.unsynced[-1].last
            state.unsynced.clear()
            state.retained = 0
            pipeline.listener.on_synced(relaxed)
        pipeline.listener.on_commit(last)

    def sync(self) -> None:
        """Make everything appended so far durable; `on_synced` follows, perhaps at once."""
        if self._pipeline is None or self._closed:
            raise RuntimeError("sync of a log that is not open")
        self._pipeline.sync()

    # ---- freeing, closing, figures

    def free(self, through: int) -> None:
        """Recycle the segments whose frames all have `last` <= `through`; O(segments freed)."""
        if self._pipeline is not None and self._state.current is not None:
            self._pipeline.spares.recycle(self._state.take_freed(through))

    def close(self) -> None:
        """Sync, mark the end as a clean one, close; blocks.

        CommitError when acknowledged frames could not be synced.
        """
        if self._closed:
            return
        try:
            if self._pipeline is not None:
                self._pipeline.close()
        finally:
            self._closed = True

    def check(self) -> None:
        """Assert what always holds between two calls; for tests."""
        if self._pipeline is not None and not self._closed:
            self._state.check()

    def stats(self) -> dict[str, int | float | str]:
        """Return figures for INFO: counts since the start, bytes, seconds."""
        state, figures = self._state, self._figures
        seconds = sorted(figures.sync_seconds)
        count = len(seconds)
        frames = figures.frames
        return {
            "log_frames": frames,
            "log_bytes": figures.bytes,
            "log_frame_bytes_avg": figures.bytes // frames if frames else 0,
            "log_syncs": figures.syncs,
            "log_sync_usec_avg": round(sum(seconds) / count * 1e6) if count else 0,
            "log_sync_usec_p99": round(seconds[(count - 1) * 99 // 100] * 1e6) if count else 0,
            "log_sync_mode": "inline" if self._policy.inline else "thread",
            "log_unsynced_frames": len(state.unsynced),
            "log_unsynced_bytes": state.retained,
            "log_queued_frames": len(state.queue),
            "log_committed": state.committed,
            "log_synced": state.synced,
            "log_segments": len(state.segments),
            "log_oldest_segment": state.segments[0].number if state.segments else 0,
            "log_spares": len(self._pipeline.spares.ready) if self._pipeline else 0,
            "log_failures": figures.failures,
            "log_rewritten_frames": figures.rewritten,
            "log_failure": state.failure or "",
        }


def _worker(name: str) -> Worker:
    """Return a thread beside the running loop; without a loop calls are made at once."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return InlineWorker()
    return ThreadWorker(name, loop.call_soon_threadsafe)
