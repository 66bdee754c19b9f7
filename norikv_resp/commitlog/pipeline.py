"""The way of a frame that has to wait: for a thread, for a spare, or for frames before it.

    append ─▶ queue ─▶ written ─▶ (waiting for a sync) ─▶ committed
                          └─ kept in `unsynced` until a sync covers it

Written is what `pump` does, committed what `_advance` does; each step that ends calls the next.
`Failures` takes over when a write or a sync fails.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple

from norikv_resp.commitlog.failures import Failures
from norikv_resp.commitlog.files import write_fully
from norikv_resp.commitlog.frame import (
    CLOSED,
    HEAD_SIZE,
    STEP,
    encode_lengths,
    seal,
    split,
    write_large,
)
from norikv_resp.commitlog.interface import CommitError, Frame, LogError, LogListener
from norikv_resp.commitlog.policy import SyncPolicy
from norikv_resp.commitlog.segment import HEADER_SIZE, encode_header
from norikv_resp.commitlog.spares import Folder, Spares, Stock
from norikv_resp.commitlog.state import Entry, Figures, Round, Segment, State
from norikv_resp.worker import Done, Job, Worker


class Limits(NamedTuple):
    """Sizes from which frames go another way."""

    large: int = 1 << 20  # bytes from which a frame is written, or a backlog synced, in a thread
    retained: int = 64 << 20  # bytes acknowledged but unsynced that force a sync

    @property
    def held(self) -> int:
        """Bytes acknowledged but unsynced that hold appends until a sync is done."""
        return 2 * self.retained


class Pipeline:
    """Writes, syncs and commits frames in their order; lives from `start` to `close` of a log.

    `worker` makes the calls on files with frames in them, `tender` those on spares.
    """

    def __init__(
        self,
        state: State,
        figures: Figures,
        *,
        folder: Folder,
        stock: Stock,
        spares: int,
        limits: Limits,
        worker: Worker,
        tender: Worker,
        policy: SyncPolicy,
        listener: LogListener,
        now: Callable[[], float],
    ) -> None:
        self._state = state
        self._figures = figures
        self._segment_size = folder.segment_size
        self._limits = limits
        self._files = folder.files
        self._worker = worker
        self._tender = tender
        self._policy = policy
        self.listener = listener
        self.spares = Spares(folder, stock, spares, tender, now, self)
        self.failures = Failures(state, figures, self, self.spares, folder.files, listener, now)

    # ---- writing

    def append(self, frame: Frame, sync: bool, items: list[bytes], size: int) -> None:
        """Queue a frame that cannot take the short way, and do what can be done at once.

        `items` are its keys and values in turn, `size` its bytes on disk.
        """
        state = self._state
        state.highest = frame.last
        if state.halt is not None:
            return  # the failure about to be reported covers this frame too
        lengths = encode_lengths(items)
        if size > self._limits.large:
            entry = Entry(frame, sync, size, groups=[[lengths], *split(items, STEP)])
        else:
            entry = Entry(frame, sync, size, body=b"".join((lengths, *items)))
        state.queue.append(entry)
        if state.failure is None:
            self.pump()
        elif self.failures.due():
            self.failures.reopen()
        elif not self.failures.reopening:
            self.failures.refuse(state.failure)

    def pump(self) -> None:
        """Write what is queued, as far as possible without waiting, and see to its commit."""
        state = self._state
        queue = state.queue
        while queue and state.writing is None and (segment := state.current) is not None:
            if state.retained > self._limits.held and state.round is not None:
                break
            entry = queue[0]
            if not self._fits(entry, segment):
                if not self._switch(segment):
                    break
                continue
            queue.popleft()
            if entry.size > self._limits.large:
                self._write_in_thread(segment, entry)
                break
            checksum, data = seal(state.checksum, state.fields_for(entry, segment), entry.body)
            try:
                if segment.header:
                    write_fully(self._files, segment.fd, segment.header + data, 0)
                    segment.header = b""
                else:
                    write_fully(self._files, segment.fd, data, segment.offset)
            except OSError as error:
                self.failures.write_failed(error)
                return
            self._wrote(segment, entry, checksum)
        self._advance()

    def _fits(self, entry: Entry, segment: Segment) -> bool:
        """Tell whether `segment` takes `entry`: an empty one takes what is too long for any."""
        if segment.offset + entry.size <= segment.capacity:
            return True
        return segment.offset == HEADER_SIZE and entry.size + HEADER_SIZE > self._segment_size

    def _switch(self, old: Segment) -> bool:
        """Make a spare the current segment; False when none is ready yet."""
        state = self._state
        segment = self.spares.take()
        if segment is None:
            return False
        self.leave(old)
        segment.header = encode_header(state.header_for(segment))
        state.segments.append(segment)
        state.current = segment
        self.spares.tend()
        return True

    def leave(self, segment: Segment) -> None:
        """Write no more to `segment`: close it, once it is synced."""
        if segment.unsynced or self._state.round is not None:
            self._state.older.append(segment)
        else:
            self.close_later(segment)

    def _write_in_thread(self, segment: Segment, entry: Entry) -> None:
        """Write a large frame; nothing else is written meanwhile."""
        state = self._state
        epoch = state.epoch
        state.writing = entry
        fields = state.fields_for(entry, segment)
        header, segment.header = segment.header, b""
        fd, offset = segment.fd, segment.offset  # closed behind this call, if a failure comes first

        def write() -> int:
            if header:
                write_fully(self._files, fd, header, 0)
            return write_large(self._files, fd, offset, fields, entry.pieces())

        def done(checksum: Any, error: Exception | None, _seconds: float) -> None:
            if epoch != state.epoch:
                return
            state.writing = None
            if error is not None:
                self.failures.write_failed(error)
                return
            self._wrote(segment, entry, checksum)
            self.pump()

        self.submit(write, done)

    def _wrote(self, segment: Segment, entry: Entry, checksum: int) -> None:
        self._state.wrote(segment, entry, checksum)
        if segment.offset > self._segment_size:
            segment.reusable = False  # a large frame's own file
        self._figures.frames += 1
        self._figures.bytes += entry.size

    def submit(self, job: Job, done: Done) -> None:
        """Run a job in the worker, behind those before it."""
        self._worker.submit(job, done)

    def close_later(self, segment: Segment) -> None:
        """Close a file behind the calls that may still be using it."""
        fd, segment.fd = segment.fd, -1
        if fd >= 0:
            self.submit(partial(self._files.close, fd), _ignore)

    # ---- committing

    def _advance(self) -> None:
        """Acknowledge what may be acknowledged, and sync what waits for a sync."""
        state = self._state
        self.acknowledge()
        if state.round is not None or state.must_rewrite():
            return
        asked = state.sync_target > state.synced and state.unsynced
        if asked or state.retained > self._limits.retained:
            self.start_round()
        elif state.waiting:
            if self._policy.inline and state.retained <= self._limits.large and state.halt is None:
                self._sync_inline()
            else:
                self.start_round()

    def acknowledge(self, reported: int = 0) -> None:
        """Commit, in order, the written frames that need no sync or have had theirs.

        `reported` is the index that the sync just done was already reported through.
        """
        state = self._state
        waiting = state.waiting
        covered = False
        committed = state.committed
        while waiting and (not waiting[0].sync or waiting[0].last <= state.synced):
            entry = waiting.popleft()
            entry.acknowledged = True
            committed = entry.last
            covered |= not entry.sync and entry.last <= state.synced
        asked = 0 < state.sync_target <= state.synced
        if asked:
            state.sync_target = 0
        if committed != state.committed:
            state.committed = committed
            self.listener.on_commit(committed)
        synced = min(state.synced, state.committed)
        if (covered or asked) and synced != reported:
            self.listener.on_synced(synced)

    def _sync_inline(self) -> None:
        """Sync on the loop: cheaper than a thread while the disk is quick."""
        segments = self._state.dirty()
        covered = self._state.round_now([])
        started = perf_counter()
        try:
            for segment in segments:
                self._files.fdatasync(segment.fd)
        except OSError as error:
            self.failures.sync_failed(error)
            return
        covered.done = segments
        self._timed(perf_counter() - started)
        self.round_done(covered)

    def start_round(self) -> None:
        """Sync everything written so far in the thread, unless a sync is running."""
        state = self._state
        if state.round is None:
            state.round = state.round_now(state.dirty())
            self._next_sync(state.round)

    def _next_sync(self, covered: Round) -> None:
        state = self._state
        if not covered.left:
            state.round = None
            self.round_done(covered)
            return
        segment = covered.left.pop(0)
        epoch = state.epoch
        segment.unsynced = False  # writes that come from now on need the next round

        def done(_: Any, error: Exception | None, seconds: float) -> None:
            if epoch != state.epoch:
                return
            if error is not None:
                self.failures.sync_failed(error)
                return
            self._timed(seconds)
            covered.done.append(segment)
            self._next_sync(covered)

        self.submit(partial(self._files.fdatasync, segment.fd), done)

    def _timed(self, seconds: float) -> None:
        self._figures.syncs += 1
        self._figures.sync_seconds.append(seconds)
        self._policy.note(seconds)

    def round_done(self, covered: Round) -> None:
        """Everything through `covered.last` is on disk: commit it, and go on."""
        state = self._state
        relaxed = state.synced_through(covered)
        for segment in [s for s in state.older if s.last <= covered.last]:
            state.older.remove(segment)
            self.close_later(segment)
        if relaxed:
            self.listener.on_synced(relaxed)
        self.acknowledge(relaxed)
        if state.halt is not None:
            self.failures.deliver_halt()
        else:
            self.pump()

    def sync(self) -> None:
        """See `CommitLog.sync`."""
        state = self._state
        if state.must_rewrite():
            state.sync_target = state.unsynced[-1].last
            if self.failures.due():
                self.failures.reopen()
            return
        if not state.unsynced and not state.queue and state.writing is None:
            self.listener.on_synced(state.synced)
            return
        if state.halt is None and state.failure is None:
            state.sync_target = state.highest
        elif state.unsynced:
            state.sync_target = state.unsynced[-1].last
        if state.unsynced:
            self.start_round()

    # ---- the taker of spares

    def spare_ready(self) -> None:
        """Go on with what needed a spare."""
        if self.failures.reopening:
            spare = self.spares.take()
            assert spare is not None
            self.failures.reopen_in(spare)
        else:
            self.pump()

    def spare_failed(self, error: Exception) -> None:
        """Fail what needed a spare."""
        if self.failures.reopening:
            self.failures.reopen_failed(error)
        elif self._state.queue:
            self.failures.write_failed(error)

    # ---- closing

    def close(self) -> None:
        """See `CommitLog.close`."""
        state = self._state
        self.spares.closing = True
        for _ in range(3):  # a sync may fail on the way, and want a fresh segment
            if state.must_rewrite() and not self.failures.reopening:
                self.failures.reopen()
            elif state.unsynced:
                self.start_round()
            while self.spares.needed or state.writing or state.round or self.failures.reopening:
                self._tender.drain()
                self._worker.drain()
            if not state.unsynced:
                break
        error: Exception | None = None
        if state.current is not None and not state.unsynced:
            error = self._write_end(state.current)
        state.current = None
        self._tender.close()
        for segment in [*state.segments, *self.spares.ready]:
            self.close_later(segment)
        self._worker.close()
        if state.unsynced:
            raise CommitError(state.failure or "acknowledged frames are not synced", "unknown")
        if error is not None:
            raise LogError(f"the end of the commit log could not be written: {error}")

    def _write_end(self, segment: Segment) -> Exception | None:
        """Append the frame without rows that says that everything before it was synced."""
        state = self._state
        body = encode_lengths([])
        size = HEAD_SIZE + len(body)
        if segment.offset + size > segment.capacity:
            return None
        fields = (
            state.checksum,
            segment.nonce,
            segment.tag,
            segment.flags | CLOSED,
            len(body),
            state.last + 1,
            state.last,
            state.term,
            state.clock,
            state.synced,
        )
        data = seal(state.checksum, fields, body)[1]
        try:
            write_fully(self._files, segment.fd, data, segment.offset)
            self._files.fdatasync(segment.fd)
        except OSError as error:
            return error
        return None


def _ignore(_: Any, __: Exception | None, ___: float) -> None:
    """For calls whose outcome changes nothing."""
