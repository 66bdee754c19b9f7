"""What a failed write or sync costs, and how the log comes back.

Three ways for things to go wrong, and what each may lose:
* a write fails: that frame and what came after it are dropped, "not applied"; frames written before
  it are synced first and commit (`State.halt` meanwhile);
* a sync fails: no file with unsynced data is ever synced or written again.  Frames that wait for
  a sync are dropped, "unknown"; those acknowledged without one are kept in memory, so they are
  rewritten to a fresh segment;
* no fresh segment can be had: appends fail, "not applied", and one a second tries again
  (`State.failure` says why).
After each the log goes on in a fresh segment whose header names the frame that it follows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from norikv_resp.commitlog.files import Files, write_fully
from norikv_resp.commitlog.frame import HEAD_SIZE, HEADER_SYNCED, write_large
from norikv_resp.commitlog.interface import CommitError, LogListener, Outcome
from norikv_resp.commitlog.segment import HEADER_SIZE, encode_header
from norikv_resp.commitlog.spares import Spares
from norikv_resp.commitlog.state import Entry, Figures, Segment, State

if TYPE_CHECKING:
    from norikv_resp.commitlog.pipeline import Pipeline

RETRY = 1.0  # seconds between attempts to open a fresh segment after a failure


class Failures:
    """Takes the log from a failure to a fresh segment.

    Every frame gets exactly one outcome, in order: `on_failure` comes after the commits of all
    frames before the failed one, and covers all those appended since.
    """

    def __init__(
        self,
        state: State,
        figures: Figures,
        pipeline: Pipeline,
        spares: Spares,
        files: Files,
        listener: LogListener,
        now: Callable[[], float],
    ) -> None:
        self.reopening = False  # a fresh segment is on its way
        self._state = state
        self._figures = figures
        self._pipeline = pipeline
        self._spares = spares
        self._files = files
        self._listener = listener
        self._now = now
        self._dropped = 0  # index through which frames were committed or dropped, as of a failure
        self._retry = 0.0

    # ---- failing

    def refuse(self, cause: str) -> None:
        """Drop what is queued: there is no segment to write it to."""
        self._fail(cause, "not applied")

    def write_failed(self, error: Exception) -> None:
        """Give up the frame being written and those after it; those before it may still commit."""
        self._abandon_current()
        self._state.queue.clear()
        self._state.halt = CommitError(f"writing the commit log failed: {error}", "not applied")
        self.deliver_halt()

    def deliver_halt(self) -> None:
        """Report a failed write once every frame before it has its own outcome."""
        state = self._state
        self._pipeline.acknowledge()
        if state.waiting or state.round is not None:
            self._pipeline.start_round()
            return
        halt, state.halt = state.halt, None
        assert halt is not None
        state.failure = halt.cause
        self._retry = self._now()
        if state.sync_target > state.last:
            state.sync_target = state.last if state.unsynced else 0
        self._fail(halt.cause, halt.outcome)

    def sync_failed(self, error: Exception) -> None:
        """Give up every file with unsynced data, and every frame that waits for a sync."""
        state = self._state
        cause = state.failure = f"syncing the commit log failed: {error}"
        state.halt = None
        self._retry = self._now()
        state.fall_back()
        self._abandon_current()
        for segment in state.older:
            segment.reusable = False
            self._pipeline.close_later(segment)
        state.older.clear()
        if state.sync_target:
            state.sync_target = state.unsynced[-1].last if state.unsynced else 0
        if state.highest > max(state.committed, self._dropped):
            self._fail(cause, "unknown")
        else:
            self._figures.failures += 1
        # The listener may have appended and thereby reopened the log already.
        if state.must_rewrite() and not self.reopening:
            self.reopen()

    def _abandon_current(self) -> None:
        state = self._state
        segment = state.current
        if segment is not None:
            state.current = None
            segment.reusable = False
            self._pipeline.leave(segment)

    def _fail(self, cause: str, outcome: Outcome) -> None:
        """Drop whatever is not committed, and say so."""
        self._state.queue.clear()
        self._dropped = self._state.highest
        self._figures.failures += 1
        self._listener.on_failure(CommitError(cause, outcome))

    # ---- coming back

    def due(self) -> bool:
        """Tell whether it is time for an attempt to open a fresh segment."""
        return not self.reopening and self._now() >= self._retry

    def reopen(self) -> None:
        """Try to go on in a fresh segment, with the unsynced frames rewritten to it."""
        self.reopening = True
        self._retry = self._now() + RETRY
        spare = self._spares.take()
        if spare is not None:
            self.reopen_in(spare)

    def reopen_in(self, segment: Segment) -> None:
        """Write `segment`'s header, behind the frames that it must not be without."""
        state = self._state
        epoch = state.epoch
        rewritten = [*state.unsynced] if state.must_rewrite() else []
        header = encode_header(state.header_for(segment))
        frames = [(state.fields_for(entry, segment), entry.pieces()) for entry in rewritten]

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
            self.reopening = False
            if error is not None or epoch != state.epoch:
                self._spares.discard(segment)
                self._spares.tend()
            if epoch != state.epoch:
                self.reopen()
            elif error is not None:
                self.reopen_failed(error)
            else:
                self._reopened(segment, rewritten, *end)

        self._pipeline.submit(write, done)

    def _reopened(
        self, segment: Segment, rewritten: list[Entry], checksum: int, offset: int
    ) -> None:
        """Go on in a segment that is durable."""
        state = self._state
        segment.flags = HEADER_SYNCED
        dead = state.take_dead()
        state.segments.append(segment)
        state.failure = None
        state.current = segment
        self._spares.recycle(dead)
        if not rewritten:
            self._pipeline.pump()
            return
        self._figures.rewritten += len(rewritten)
        state.rewrote(segment, rewritten[-1], checksum, offset)
        self._pipeline.round_done(state.round_now([]))

    def reopen_failed(self, error: Exception) -> None:
        """No segment this time; appends fail until the next attempt."""
        self.reopening = False
        cause = self._state.failure = f"opening a commit log segment failed: {error}"
        self._retry = self._now() + RETRY
        if self._state.queue:
            self._fail(cause, "not applied")
