"""The local commit log: recycled segments, one write and one sync per frame.

    append ─▶ queue ─▶ written ─▶ (waiting for a sync) ─▶ committed
                          └─ kept in `unsynced` until a sync covers it

All state belongs to the loop's thread; helper threads make single calls on its behalf.  While all
is well `append` takes the short way: one write, at most one fdatasync, one call of the listener.

Three ways for things to go wrong, and what each may lose:
* a write fails: that frame and what came after it are dropped, "not applied"; frames written before
  it are synced first and commit;
* a sync fails: no file with unsynced data is ever synced or written again.  Frames that wait for
  a sync are dropped, "unknown"; those acknowledged without one are kept in memory, so they are
  rewritten to a fresh segment;
* no fresh segment can be had: appends fail, "not applied", and one a second tries again.
After each the log goes on in a fresh segment whose header names the frame that it follows.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain
from time import monotonic, perf_counter
from typing import Any

from xxhash import xxh3_64_intdigest

from norikv_resp.commitlog.files import Files, OsFiles, write_fully
from norikv_resp.commitlog.frame import (
    CHECKSUM,
    CLOSED,
    HASHED,
    HEAD_SIZE,
    HEADER_SYNCED,
    STEP,
    Fields,
    encode_lengths,
    seal,
    split,
    write_large,
)
from norikv_resp.commitlog.interface import (
    CommitError,
    Frame,
    LogDamage,
    LogError,
    LogListener,
    Outcome,
)
from norikv_resp.commitlog.segment import (
    HEADER_SIZE,
    Header,
    Reader,
    encode_header,
    file_name,
)
from norikv_resp.commitlog.worker import InlineWorker, SyncPolicy, ThreadWorker, Worker

SEGMENT_SIZE = 32 << 20
LARGE = 1 << 20  # bytes from which a frame is written and synced in a thread
RETAINED = 64 << 20  # bytes acknowledged but unsynced that force a sync; twice that holds appends
_OVERHEAD = 256  # bytes of memory that a retained frame takes beside its own
RETRY = 1.0  # seconds between attempts to open a fresh segment after a failure
_ZEROS = bytes(1 << 20)
_hashed = HASHED.pack
_checksum = CHECKSUM.pack
_pack = struct.pack


class _Entry:
    """A frame between `append` and the sync that covers it."""

    __slots__ = (
        "acknowledged",
        "body",
        "clock",
        "first",
        "groups",
        "last",
        "size",
        "sync",
        "term",
    )

    def __init__(
        self,
        frame: Frame,
        sync: bool,
        size: int,
        body: bytes = b"",
        groups: list[list[bytes]] | None = None,
    ) -> None:
        self.first = frame.first
        self.last = frame.last
        self.term = frame.term
        self.clock = frame.clock
        self.sync = sync  # may commit only when synced
        self.size = size  # bytes on disk, header included
        self.body = body  # as on disk,
        self.groups = groups  # or the body of a large frame in pieces of about a megabyte
        self.acknowledged = False  # reported by on_commit

    def pieces(self) -> list[list[bytes]]:
        """Return the body in groups of bytes objects."""
        return [[self.body]] if self.groups is None else self.groups


class _Segment:
    """A file of the log."""

    __slots__ = (
        "capacity",
        "dead",
        "fd",
        "flags",
        "header",
        "last",
        "nonce",
        "number",
        "offset",
        "path",
        "reusable",
        "tag",
        "unsynced",
    )

    def __init__(self, number: int, path: str, fd: int, reusable: bool, capacity: int = 0) -> None:
        self.number = number
        self.path = path
        self.fd = fd  # -1 when closed
        self.reusable = reusable  # filled to its size, and no operation on it ever failed
        self.capacity = capacity  # bytes, header included
        self.tag = number & 0xFFFFFFFF
        self.nonce = 0
        self.header = b""  # still to be written with the first frame
        self.offset = HEADER_SIZE  # where the next frame goes
        self.flags = 0  # of the next frame: whether the header is known to be synced
        self.last = 0  # index of its last frame, or of the last one before it
        self.unsynced = False
        self.dead = False  # all that it held was given up


class _Round:
    """A sync running in the thread: the files still to be synced, and what it will cover."""

    __slots__ = ("checksum", "done", "last", "left", "term")

    def __init__(self, segments: list[_Segment], last: int, checksum: int, term: int) -> None:
        self.left = segments
        self.done: list[_Segment] = []
        self.last = last
        self.checksum = checksum
        self.term = term


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
        files: Files | None = None,
        worker: Worker | None = None,
        tender: Worker | None = None,
        policy: SyncPolicy | None = None,
        now: Callable[[], float] = monotonic,
    ) -> None:
        if segment_size < 2 * HEADER_SIZE:
            raise ValueError(f"a segment needs at least {2 * HEADER_SIZE} bytes")
        self._directory = os.fspath(directory)
        self._segment_size = segment_size
        self._spare_target = spares
        self._files: Files = OsFiles() if files is None else files
        self._pwrite = self._files.pwrite
        self._fdatasync = self._files.fdatasync
        self._worker = worker  # writes and syncs
        self._tender = tender  # makes and recycles spares
        self._policy = SyncPolicy() if policy is None else policy
        self._now = now
        self._listener: LogListener | None = None
        self._reader: Reader | None = None
        self._recovered = False
        self._closing = False
        self._closed = False
        self._salvaged = False

        # The chain: the last frame written, and the last one known to be on disk.
        self._term = 0
        self._clock = 0
        self._highest = 0  # index of the last frame appended, dropped ones included
        self._dropped = 0  # index through which frames were committed or dropped, as of a failure
        self._last = 0
        self._last_term = 0
        self._checksum = 0
        self._committed = 0
        self._synced = 0
        self._synced_term = 0
        self._synced_checksum = 0

        # Frames on their way, oldest first.
        self._queue: deque[_Entry] = deque()  # not written yet
        self._writing: _Entry | None = None  # large, being written in the thread
        self._waiting: deque[_Entry] = deque()  # written, not committed
        self._unsynced: deque[_Entry] = deque()  # written, not synced; a superset of _waiting
        self._retained = 0  # bytes in _unsynced
        self._round: _Round | None = None
        self._sync_target = 0  # index that a call of sync() waits for, 0 when none does

        # Files.
        self._segments: deque[_Segment] = deque()  # oldest first; the last is the current one
        self._current: _Segment | None = None
        self._older: list[_Segment] = []  # left behind with unsynced data
        self._spares: deque[_Segment] = deque()  # ready, numbers growing
        self._freed: deque[_Segment] = deque()  # to be recycled or unlinked
        self._next_number = 1
        self._tending = False
        self._needed = False  # something waits for a spare
        self._spare_retry = 0.0

        # Failure.
        self._epoch = 0  # grows when a failure makes running calls meaningless
        self._halt: CommitError | None = None  # a write failed, earlier frames are still syncing
        self._failure: str | None = None  # no segment to write to
        self._reopening = False
        self._retry = 0.0

        # Figures.
        self._frames = 0
        self._bytes = 0
        self._syncs = 0
        self._failures = 0
        self._rewritten = 0
        self._sync_seconds: deque[float] = deque(maxlen=256)

    # ---- properties

    @property
    def committed(self) -> int:
        """Last index reported by `on_commit`, or recovered."""
        return self._committed

    @property
    def synced(self) -> int:
        """Last index known to be on disk."""
        return self._synced

    @property
    def term(self) -> int:
        """Highest term found by recovery, or the running one after `start`."""
        return self._term

    @property
    def clock(self) -> int:
        """Highest server time in any frame, in ms."""
        return self._clock

    @property
    def next_index(self) -> int:
        """Lowest index never used, not even by a frame that was dropped."""
        return self._highest + 1

    @property
    def failure(self) -> str | None:
        """Why appends fail now; None when they do not."""
        return self._failure

    # ---- recovery and start

    def recover(self, after: int, reach: int = 0, *, salvage: bool = False) -> Iterator[Frame]:
        """Yield the frames with `last` > `after`, in order; to be exhausted before `start`.

        `after` is what LevelDB is settled through, `reach` the highest index that it holds
        something of.  Raises LogDamage, after the frames before it, when synced frames are
        missing; with `salvage` it ends there instead, and `start` sets aside what lies beyond.
        LogError for a newer format, OSError when the disk fails.  Memory: one segment.
        """
        if self._listener is not None:
            raise RuntimeError("recover after start")
        self._files.make_directory(self._directory)
        self._files.sync_directory(self._directory)
        reader = self._reader = Reader(self._files, self._directory, settle=True)
        try:
            yield from reader.read(after, reach)
        except LogDamage:
            if not salvage:
                raise
            self._salvaged = True
        if reader.last < after:
            reader.last, reader.checksum, reader.last_term = after, 0, 0
        self._last = self._committed = self._synced = reader.last
        self._checksum = self._synced_checksum = reader.checksum
        self._last_term = self._synced_term = reader.last_term
        self._term = reader.term
        self._clock = reader.clock
        self._highest = max(reader.highest, reader.last, reach)
        self._recovered = True

    def start(self, term: int, listener: LogListener) -> int:
        """Open a fresh segment in `term`, durably; return the lowest index that may be used.

        ValueError unless `term` is higher than any before, OSError when the disk fails.
        """
        reader = self._reader
        if reader is None or not self._recovered:
            raise RuntimeError("start before recover was exhausted")
        if term <= self._term:
            raise ValueError(f"term {term} is not above {self._term}")
        self._term = term
        stale, spares = self._take_stock(reader)
        if spares:
            for spare in spares:
                spare.fd = self._files.open(spare.path, os.O_RDWR)
            spare = spares.popleft()
        else:
            spare = self._make_spare()
        header = encode_header(self._header_for(spare))
        write_fully(self._files, spare.fd, header, 0)
        self._fdatasync(spare.fd)
        self._files.sync_directory(self._directory)
        spare.flags = HEADER_SYNCED
        spare.header = b""
        self._segments.append(spare)
        self._current = spare
        self._set_workers()
        self._listener = listener
        self._spares = spares
        self._freed.extend(stale)
        self._tend()
        return self.next_index

    def _take_stock(self, reader: Reader) -> tuple[list[_Segment], deque[_Segment]]:
        """Sort the files found: segments to keep, those to recycle (returned), and spares."""
        top = max(reader.segments, default=0)
        stale: list[_Segment] = []
        spares: deque[_Segment] = deque()
        for number in sorted(reader.segments.keys() | reader.others.keys()):
            path = os.path.join(self._directory, file_name(number))
            fd = self._files.open(path, os.O_RDWR)
            try:
                size = self._files.size(fd)
            finally:
                self._files.close(fd)
            full = size == self._segment_size
            segment = _Segment(number, path, -1, full, size)
            if number in reader.segments and number <= reader.number:
                segment.last = reader.ends.get(number, 0)
                segment.flags = HEADER_SYNCED
                self._segments.append(segment)
            elif self._salvaged and number <= top:
                self._files.rename(path, path + ".damaged")
            elif number > top and full:
                spares.append(segment)
            else:
                stale.append(segment)
        self._next_number = max([top, *reader.others]) + 1
        return stale, spares

    def _make_spare(self) -> _Segment:
        """Make a zero-filled segment here and now; an unfilled one when the disk is full."""
        number = self._next_number
        self._next_number += 1
        path = os.path.join(self._directory, file_name(number))
        fd = self._files.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        filled = True
        try:
            for offset in range(0, self._segment_size, len(_ZEROS)):
                zeros = _ZEROS[: self._segment_size - offset]
                write_fully(self._files, fd, zeros, offset)
        except OSError:
            filled = False
        return _Segment(number, path, fd, filled, self._segment_size)

    def _set_workers(self) -> None:
        loop: asyncio.AbstractEventLoop | None
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if self._worker is None:
            self._worker = ThreadWorker(loop, "commitlog") if loop else InlineWorker()
        if self._tender is None:
            self._tender = ThreadWorker(loop, "commitlog-spares") if loop else InlineWorker()

    def _header_for(self, segment: _Segment) -> Header:
        """Name the place after the last frame written as the place where `segment` goes on."""
        segment.nonce = int.from_bytes(os.urandom(8), "little") | 1
        segment.last = self._last
        segment.offset = HEADER_SIZE
        return Header(
            number=segment.number,
            nonce=segment.nonce,
            term=self._term,
            previous_last=self._last,
            previous_checksum=self._checksum,
            previous_term=self._last_term,
            clock=self._clock,
            synced=self._synced,
        )

    # ---- appending

    def append(self, frame: Frame, sync: bool) -> None:
        """Order and write `frame`; see `CommitLog.append`.  O(bytes).

        ValueError when its index was used before, by a dropped frame too, or its clock goes back.
        """
        if frame.first <= self._highest or frame.last < frame.first or frame.clock < self._clock:
            raise ValueError(f"frame {frame.first} to {frame.last} follows {self._highest}")
        items = [*chain.from_iterable(frame.rows.items())]
        lengths = [*map(len, items)]
        count = len(lengths)
        body_size = 4 + 4 * count + sum(lengths)
        segment = self._current
        if (
            segment is None
            or self._queue
            or self._waiting
            or self._writing is not None
            or body_size > LARGE
            or segment.offset + HEAD_SIZE + body_size > segment.capacity
            or segment.header
            or self._halt is not None
            or (
                sync
                and (
                    self._older
                    or self._round is not None
                    or not self._policy.inline
                    or self._retained > LARGE
                )
            )
            or self._retained > 2 * RETAINED
        ):
            self._append_slowly(frame, sync, items, HEAD_SIZE + body_size)
            return
        last = self._highest = frame.last
        hashed = b"".join(
            (
                _hashed(
                    self._checksum,
                    segment.nonce,
                    segment.tag,
                    segment.flags,
                    body_size,
                    frame.first,
                    last,
                    frame.term,
                    frame.clock,
                    self._synced,
                ),
                _pack(f"<{count + 1}I", count >> 1, *lengths),
                *items,
            )
        )
        checksum = xxh3_64_intdigest(hashed, self._checksum)
        data = _checksum(checksum) + hashed
        try:
            if self._pwrite(segment.fd, data, segment.offset) != len(data):
                write_fully(self._files, segment.fd, data, segment.offset)
        except OSError as error:
            self._write_failed(error)
            return
        segment.offset += len(data)
        segment.last = last
        self._last = last
        self._last_term = frame.term
        self._checksum = checksum
        self._clock = frame.clock
        self._frames += 1
        self._bytes += len(data)
        listener = self._listener
        assert listener is not None
        if not sync:
            entry = _Entry(frame, False, len(data), data[HEAD_SIZE:])
            entry.acknowledged = True
            segment.unsynced = True
            self._unsynced.append(entry)
            self._retained += len(data) + _OVERHEAD
            self._committed = last
            listener.on_commit(last)
            if self._retained > RETAINED:
                self._start_round()
            return
        started = perf_counter()
        try:
            self._fdatasync(segment.fd)
        except OSError as error:
            self._sync_failed(error)
            return
        seconds = perf_counter() - started
        self._policy.note(seconds)
        self._sync_seconds.append(seconds)
        self._syncs += 1
        segment.flags = HEADER_SYNCED
        segment.unsynced = False
        self._synced = self._committed = last
        self._synced_term = frame.term
        self._synced_checksum = checksum
        if self._unsynced:
            relaxed = self._unsynced[-1].last
            self._unsynced.clear()
            self._retained = 0
            listener.on_synced(relaxed)
        listener.on_commit(last)

    def _append_slowly(self, frame: Frame, sync: bool, items: list[bytes], size: int) -> None:
        """Queue a frame that cannot take the short way, and do what can be done at once."""
        if self._closed or self._listener is None:
            raise RuntimeError("append to a log that is not open")
        self._highest = frame.last
        if self._halt is not None:
            return  # the failure about to be reported covers this frame too
        lengths = encode_lengths(items)
        if size > LARGE:
            entry = _Entry(frame, sync, size, groups=[[lengths], *split(items, STEP)])
        else:
            entry = _Entry(frame, sync, size, body=b"".join((lengths, *items)))
        self._queue.append(entry)
        if self._failure is None:
            self._pump()
        elif not self._reopening:
            if self._now() >= self._retry:
                self._reopen()
            else:
                self._fail(self._failure, "not applied")

    def _pump(self) -> None:
        """Write what is queued, as far as possible without waiting, and see to its commit."""
        queue = self._queue
        while queue and self._writing is None and self._current is not None:
            if self._retained > 2 * RETAINED and self._round is not None:
                break
            entry = queue[0]
            segment = self._current
            if segment.offset + entry.size > segment.capacity and not (
                segment.offset == HEADER_SIZE and entry.size + HEADER_SIZE > self._segment_size
            ):
                if not self._switch():
                    break
                continue
            queue.popleft()
            fields = self._fields(entry, segment)
            if entry.size > LARGE:
                self._writing = entry
                self._submit_large(segment, entry, fields)
                break
            checksum, data = seal(self._checksum, fields, entry.body)
            try:
                if segment.header:
                    write_fully(self._files, segment.fd, segment.header + data, 0)
                    segment.header = b""
                else:
                    write_fully(self._files, segment.fd, data, segment.offset)
            except OSError as error:
                self._write_failed(error)
                return
            self._written(segment, entry, checksum)
        self._settle()

    def _fields(self, entry: _Entry, segment: _Segment) -> Fields:
        return (
            self._checksum,
            segment.nonce,
            segment.tag,
            segment.flags,
            entry.size - HEAD_SIZE,
            entry.first,
            entry.last,
            entry.term,
            entry.clock,
            self._synced,
        )

    def _written(self, segment: _Segment, entry: _Entry, checksum: int) -> None:
        """Account for a frame that is now in its file."""
        segment.offset += entry.size
        segment.last = entry.last
        segment.unsynced = True
        if segment.offset > self._segment_size:
            segment.reusable = False  # a large frame's own file
        self._last = entry.last
        self._last_term = entry.term
        self._checksum = checksum
        self._clock = max(self._clock, entry.clock)
        self._frames += 1
        self._bytes += entry.size
        self._unsynced.append(entry)
        self._retained += entry.size + _OVERHEAD
        self._waiting.append(entry)

    def _submit_large(self, segment: _Segment, entry: _Entry, fields: Fields) -> None:
        epoch = self._epoch
        header, segment.header = segment.header, b""
        fd, offset = segment.fd, segment.offset  # closed behind this call, if a failure comes first

        def write() -> int:
            if header:
                write_fully(self._files, fd, header, 0)
            return write_large(self._files, fd, offset, fields, entry.pieces())

        def done(checksum: Any, error: Exception | None, _seconds: float) -> None:
            if epoch != self._epoch:
                return
            self._writing = None
            if error is not None:
                self._write_failed(error)
                return
            self._written(segment, entry, checksum)
            self._pump()

        self._submit(write, (), done)

    def _submit(
        self,
        call: Callable[..., Any],
        args: tuple[Any, ...],
        done: Callable[[Any, Exception | None, float], None],
    ) -> None:
        assert self._worker is not None
        self._worker.submit(call, args, done)

    # ---- committing

    def _settle(self) -> None:
        """Acknowledge what may be acknowledged, and sync what waits for a sync."""
        self._acknowledge()
        if self._round is not None or self._must_rewrite():
            return
        waiting = self._waiting
        if (self._sync_target > self._synced and self._unsynced) or self._retained > RETAINED:
            self._start_round()
        elif waiting:
            if self._policy.inline and self._retained <= LARGE and self._halt is None:
                self._sync_inline()
            else:
                self._start_round()

    def _acknowledge(self, reported: int = 0) -> None:
        """Commit, in order, the written frames that need no sync or have had theirs.

        `reported` is the index that the sync just done was already reported through.
        """
        waiting = self._waiting
        covered = False
        committed = self._committed
        while waiting and (not waiting[0].sync or waiting[0].last <= self._synced):
            entry = waiting.popleft()
            entry.acknowledged = True
            committed = entry.last
            covered |= not entry.sync and entry.last <= self._synced
        asked = 0 < self._sync_target <= self._synced
        if asked:
            self._sync_target = 0
        listener = self._listener
        assert listener is not None
        if committed != self._committed:
            self._committed = committed
            listener.on_commit(committed)
        synced = min(self._synced, self._committed)
        if (covered or asked) and synced != reported:
            listener.on_synced(synced)

    def _dirty(self) -> list[_Segment]:
        current = self._current
        if current is not None and current.unsynced:
            return [*self._older, current]
        return [*self._older]

    def _sync_inline(self) -> None:
        """Sync on the loop: cheaper than a thread while the disk is quick."""
        segments = self._dirty()
        covered = _Round(segments, self._last, self._checksum, self._last_term)
        started = perf_counter()
        try:
            for segment in segments:
                self._fdatasync(segment.fd)
        except OSError as error:
            self._sync_failed(error)
            return
        covered.left, covered.done = [], segments
        self._timed(perf_counter() - started)
        self._round_done(covered)

    def _start_round(self) -> None:
        """Sync everything written so far in the thread."""
        if self._round is not None:
            return
        covered = _Round(self._dirty(), self._last, self._checksum, self._last_term)
        self._round = covered
        self._next_sync(covered)

    def _next_sync(self, covered: _Round) -> None:
        if not covered.left:
            self._round = None
            self._round_done(covered)
            return
        segment = covered.left.pop(0)
        epoch = self._epoch
        segment.unsynced = False  # writes that come from now on need the next round

        def done(_: Any, error: Exception | None, seconds: float) -> None:
            if epoch != self._epoch:
                return
            if error is not None:
                self._round = None
                self._sync_failed(error)
                return
            self._timed(seconds)
            covered.done.append(segment)
            self._next_sync(covered)

        self._submit(self._fdatasync, (segment.fd,), done)

    def _timed(self, seconds: float) -> None:
        self._syncs += 1
        self._sync_seconds.append(seconds)
        self._policy.note(seconds)

    def _round_done(self, covered: _Round) -> None:
        """Everything through `covered.last` is on disk."""
        for segment in covered.done:
            segment.flags = HEADER_SYNCED
        unsynced = self._unsynced
        relaxed = 0
        while unsynced and unsynced[0].last <= covered.last:
            entry = unsynced.popleft()
            self._retained -= entry.size + _OVERHEAD
            if entry.acknowledged:
                relaxed = entry.last
        self._synced = covered.last
        self._synced_checksum = covered.checksum
        self._synced_term = covered.term
        for segment in [s for s in self._older if s.last <= covered.last]:
            self._older.remove(segment)
            self._close_later(segment)
        if not unsynced and self._current is not None:
            self._current.unsynced = False
        if relaxed:
            assert self._listener is not None
            self._listener.on_synced(relaxed)
        self._acknowledge(relaxed)
        if self._halt is not None:
            self._deliver_halt()
        else:
            self._pump()

    def sync(self) -> None:
        """Make everything appended so far durable; `on_synced` follows, perhaps at once."""
        if self._listener is None or self._closed:
            raise RuntimeError("sync of a log that is not open")
        if self._must_rewrite():
            self._sync_target = self._unsynced[-1].last  # they have to be rewritten
            if not self._reopening and self._now() >= self._retry:
                self._reopen()
            return
        if not self._unsynced and not self._queue and self._writing is None:
            self._listener.on_synced(self._synced)
            return
        if self._halt is None and self._failure is None:
            self._sync_target = self._highest
        elif self._unsynced:
            self._sync_target = self._unsynced[-1].last
        if self._unsynced and self._round is None:
            self._start_round()

    # ---- failing and coming back

    def _fail(self, cause: str, outcome: Outcome) -> None:
        """Drop whatever is not committed, and say so."""
        self._queue.clear()
        self._dropped = self._highest
        self._failures += 1
        assert self._listener is not None
        self._listener.on_failure(CommitError(cause, outcome))

    def _abandon_current(self) -> None:
        segment = self._current
        if segment is not None:
            self._current = None
            segment.reusable = False
            if segment.unsynced or self._round is not None:
                self._older.append(segment)
            else:
                self._close_later(segment)

    def _write_failed(self, error: Exception) -> None:
        """Give up the frame being written and those after it; those before it may still commit."""
        self._abandon_current()
        self._queue.clear()
        self._halt = CommitError(f"writing the commit log failed: {error}", "not applied")
        self._deliver_halt()

    def _deliver_halt(self) -> None:
        """Report a failed write once every frame before it has its own outcome."""
        self._acknowledge()
        if self._waiting or self._round is not None:
            self._start_round()
            return
        halt, self._halt = self._halt, None
        assert halt is not None
        self._failure = halt.cause
        self._retry = self._now()
        if self._sync_target > self._last:
            self._sync_target = self._last if self._unsynced else 0
        self._fail(halt.cause, halt.outcome)

    def _sync_failed(self, error: Exception) -> None:
        """Give up every file with unsynced data, and every frame that waits for a sync."""
        self._epoch += 1
        self._round = None
        self._writing = None
        self._failure = f"syncing the commit log failed: {error}"
        self._retry = self._now()
        dropped = self._highest > max(self._committed, self._dropped)
        self._halt = None
        self._abandon_current()
        for segment in self._older:
            segment.reusable = False
            self._close_later(segment)
        self._older.clear()
        while self._unsynced and not self._unsynced[-1].acknowledged:
            self._retained -= self._unsynced.pop().size + _OVERHEAD
        self._waiting.clear()
        self._last, self._last_term = self._synced, self._synced_term
        self._checksum = self._synced_checksum
        for segment in self._segments:
            segment.last = min(segment.last, self._synced)
            segment.dead = not segment.flags
        if self._sync_target:
            self._sync_target = self._unsynced[-1].last if self._unsynced else 0
        if dropped:
            self._fail(self._failure, "unknown")
        else:
            self._failures += 1
        if self._unsynced and self._failure is not None and not self._reopening:
            self._reopen()

    def _must_rewrite(self) -> bool:
        """Tell whether acknowledged frames are in memory only, their files given up."""
        return self._failure is not None and self._last == self._synced and bool(self._unsynced)

    def _reopen(self) -> None:
        """Try to go on in a fresh segment, with the unsynced frames rewritten to it."""
        self._reopening = True
        self._retry = self._now() + RETRY
        if self._spares:
            self._reopen_in(self._spares.popleft())
        else:
            self._needed = True
            self._tend()

    def _reopen_in(self, segment: _Segment) -> None:
        """Write `segment`'s header, behind the frames that it must not be without."""
        epoch = self._epoch
        rewritten = [*self._unsynced] if self._must_rewrite() else []
        header = encode_header(self._header_for(segment))
        frames = [(self._fields(entry, segment), entry.pieces()) for entry in rewritten]

        def write() -> tuple[int, int]:
            """Frames first, so that a kill in between leaves the old chain as it was."""
            checksum, offset = frames[0][0][0] if frames else 0, HEADER_SIZE
            for fields, pieces in frames:
                chained = (checksum, *fields[1:])
                checksum = write_large(self._files, segment.fd, offset, chained, pieces)
                offset += HEAD_SIZE + fields[4]
            write_fully(self._files, segment.fd, header, 0)
            self._files.fdatasync(segment.fd)
            return checksum, offset

        def done(end: Any, error: Exception | None, _seconds: float) -> None:
            self._reopening = False
            if error is not None or epoch != self._epoch:
                self._discard(segment)
                self._tend()
            if epoch != self._epoch:
                self._reopen()
            elif error is not None:
                self._reopen_failed(error)
            else:
                self._reopened(segment, rewritten, *end)

        self._submit(write, (), done)

    def _reopened(
        self, segment: _Segment, rewritten: list[_Entry], checksum: int, offset: int
    ) -> None:
        """Go on in a segment that is durable."""
        segment.flags = HEADER_SYNCED
        for dead in [s for s in self._segments if s.dead]:
            self._segments.remove(dead)
            self._freed.append(dead)
        self._segments.append(segment)
        self._failure = None
        self._current = segment
        self._tend()
        if not rewritten:
            self._pump()
            return
        entry = rewritten[-1]
        self._rewritten += len(rewritten)
        self._checksum, segment.offset = checksum, offset
        self._last, self._last_term = entry.last, entry.term
        segment.last = entry.last
        segment.reusable = segment.reusable and offset <= self._segment_size
        self._round_done(_Round([], self._last, checksum, self._last_term))

    def _reopen_failed(self, error: Exception) -> None:
        self._reopening = False
        self._failure = f"opening a commit log segment failed: {error}"
        self._retry = self._now() + RETRY
        if self._queue:
            self._fail(self._failure, "not applied")

    # ---- segments

    def _switch(self) -> bool:
        """Make a spare the current segment; False when none is ready yet."""
        if not self._spares:
            self._needed = True
            self._tend()
            return False
        old = self._current
        assert old is not None
        segment = self._spares.popleft()
        if old.unsynced or self._round is not None:
            self._older.append(old)
        else:
            self._close_later(old)
        segment.header = encode_header(self._header_for(segment))
        self._segments.append(segment)
        self._current = segment
        self._tend()
        return True

    def _close_later(self, segment: _Segment) -> None:
        """Close a file behind the calls that may still be using it."""
        fd, segment.fd = segment.fd, -1
        if fd >= 0:
            self._submit(self._files.close, (fd,), _ignore)

    def free(self, through: int) -> None:
        """Recycle the segments whose frames all have `last` <= `through`; O(segments freed)."""
        segments = self._segments
        through = min(through, self._synced)
        # A restart begins in the newest segment that follows an index which LevelDB holds: a
        # segment may go only when the header of the next one is on disk.
        if self._current is None:
            return
        while len(segments) > 1 and segments[0].last <= through and segments[1].flags:
            if segments[0] in self._older:
                break
            self._freed.append(segments.popleft())
        self._tend()

    def _tend(self) -> None:
        """Start the next step of making, recycling or unlinking files, one at a time.

        One at a time so that spares become ready in the order of their numbers.
        """
        if self._tending or (self._closing and not self._needed):
            return
        if self._freed:
            segment = self._freed.popleft()
            if segment.reusable and len(self._spares) < self._spare_target + 2:
                self._recycle(segment)
            else:
                self._tend_by(self._files.unlink, (segment.path,), self._unlinked)
        elif self._needed or (
            len(self._spares) < self._spare_target and self._now() >= self._spare_retry
        ):
            self._create()

    def _tend_by(
        self,
        call: Callable[..., Any],
        args: tuple[Any, ...],
        done: Callable[[Any, Exception | None, float], None],
    ) -> None:
        assert self._tender is not None
        self._tending = True
        self._tender.submit(call, args, done)

    def _unlinked(self, _: Any, __: Exception | None, ___: float) -> None:
        self._tending = False  # a file that cannot be unlinked is harmless
        self._tend()

    def _new_path(self) -> tuple[int, str]:
        number = self._next_number
        self._next_number += 1
        return number, os.path.join(self._directory, file_name(number))

    def _recycle(self, old: _Segment) -> None:
        number, path = self._new_path()

        def rename() -> int:
            self._files.rename(old.path, path)
            self._files.sync_directory(self._directory)
            return self._files.open(path, os.O_RDWR)

        def done(fd: Any, error: Exception | None, _seconds: float) -> None:
            if error is not None:
                self._spare_failed(error)
            else:
                self._spare_ready(_Segment(number, path, fd, True, self._segment_size))

        self._tend_by(rename, (), done)

    def _create(self) -> None:
        """Make a spare: an entry in the directory, then zeros in small synced steps."""
        number, path = self._new_path()

        def create() -> int:
            fd = self._files.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            try:
                self._files.sync_directory(self._directory)
            except OSError:
                self._files.close(fd)
                self._files.unlink(path)
                raise
            return fd

        def done(fd: Any, error: Exception | None, _seconds: float) -> None:
            if error is not None:
                self._spare_failed(error)
            else:
                self._fill(_Segment(number, path, fd, False, self._segment_size), 0)

        self._tend_by(create, (), done)

    def _fill(self, segment: _Segment, offset: int) -> None:
        """Fill `segment` from `offset`, or hand it over as it is when it is needed now."""
        if self._needed or self._closing:
            self._spare_ready(segment)
            return
        if offset >= self._segment_size:
            segment.reusable = True
            self._spare_ready(segment)
            return
        zeros = _ZEROS[: self._segment_size - offset]

        def fill() -> None:
            write_fully(self._files, segment.fd, zeros, offset)
            self._files.fdatasync(segment.fd)

        def done(_: Any, error: Exception | None, _seconds: float) -> None:
            if error is not None:
                self._discard(segment)
                self._spare_failed(error)
            else:
                self._fill(segment, offset + len(zeros))

        self._tend_by(fill, (), done)

    def _discard(self, segment: _Segment) -> None:
        """Give the room of a file that failed, or is half made, back to the disk."""
        segment.reusable = False
        self._close_later(segment)
        self._freed.append(segment)

    def _spare_ready(self, segment: _Segment) -> None:
        self._tending = False
        self._spares.append(segment)
        if self._needed:
            self._needed = False
            if self._reopening:
                self._reopen_in(self._spares.popleft())
            else:
                self._pump()
        self._tend()

    def _spare_failed(self, error: Exception) -> None:
        self._tending = False
        self._spare_retry = self._now() + RETRY
        if self._needed:
            self._needed = False
            if self._reopening:
                self._reopen_failed(error)
            elif self._queue:
                self._write_failed(error)
        if self._freed:
            self._tend()

    # ---- closing and figures

    def close(self) -> None:
        """Sync, mark the end as a clean one, close; blocks.

        CommitError when acknowledged frames could not be synced.
        """
        if self._closed:
            return
        if self._listener is None:
            self._closed = True
            return
        assert self._worker is not None and self._tender is not None
        self._closing = True
        for _ in range(3):  # a sync may fail on the way, and want a fresh segment
            if self._must_rewrite() and not self._reopening:
                self._reopen()
            elif self._unsynced:
                self._start_round()
            while self._needed or self._writing or self._round or self._reopening:
                self._tender.drain()
                self._worker.drain()
            if not self._unsynced:
                break
        error: Exception | None = None
        if self._current is not None and not self._unsynced:
            error = self._write_end(self._current)
        self._closed = True
        self._current = None
        self._tender.close()
        for segment in [*self._segments, *self._spares]:
            self._close_later(segment)
        self._worker.close()
        if self._unsynced:
            cause = self._failure or "acknowledged frames are not synced"
            raise CommitError(cause, "unknown")
        if error is not None:
            raise LogError(f"the end of the commit log could not be written: {error}")

    def _write_end(self, segment: _Segment) -> Exception | None:
        """Append the frame without rows that says that everything before it was synced."""
        body = encode_lengths([])
        size = HEAD_SIZE + len(body)
        if segment.offset + size > segment.capacity:
            return None
        fields = (
            self._checksum,
            segment.nonce,
            segment.tag,
            segment.flags | CLOSED,
            len(body),
            self._last + 1,
            self._last,
            self._term,
            self._clock,
            self._synced,
        )
        data = seal(self._checksum, fields, body)[1]
        try:
            write_fully(self._files, segment.fd, data, segment.offset)
            self._fdatasync(segment.fd)
        except OSError as error:
            return error
        return None

    def stats(self) -> dict[str, int | float | str]:
        """Return figures for INFO: counts since the start, bytes, seconds."""
        seconds = sorted(self._sync_seconds)
        count = len(seconds)
        oldest = self._segments[0].number if self._segments else 0
        return {
            "log_frames": self._frames,
            "log_bytes": self._bytes,
            "log_frame_bytes_avg": self._bytes // self._frames if self._frames else 0,
            "log_syncs": self._syncs,
            "log_sync_usec_avg": round(sum(seconds) / count * 1e6) if count else 0,
            "log_sync_usec_p99": round(seconds[(count - 1) * 99 // 100] * 1e6) if count else 0,
            "log_sync_mode": "inline" if self._policy.inline else "thread",
            "log_unsynced_frames": len(self._unsynced),
            "log_unsynced_bytes": self._retained,
            "log_queued_frames": len(self._queue),
            "log_committed": self._committed,
            "log_synced": self._synced,
            "log_segments": len(self._segments),
            "log_oldest_segment": oldest,
            "log_spares": len(self._spares),
            "log_failures": self._failures,
            "log_rewritten_frames": self._rewritten,
            "log_failure": self._failure or "",
        }


def _ignore(_: Any, __: Exception | None, ___: float) -> None:
    """For calls whose outcome changes nothing."""
