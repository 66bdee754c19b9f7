"""What a running log knows: its files, and how far each frame has come.

    queue ─▶ writing (large ones) ─▶ unsynced ─▶ gone: a sync covered it
                                        └─ waiting ─▶ gone: committed

No I/O here.  `SegmentLog.append` moves a frame all the way while all is well, `Pipeline` when
something has to wait, `Failures` when something broke; all of them on the loop's thread.
"""

from __future__ import annotations

import os
from collections import deque

from norikv_resp.commitlog.frame import HEAD_SIZE, HEADER_SYNCED, Fields
from norikv_resp.commitlog.interface import CommitError, Frame
from norikv_resp.commitlog.segment import HEADER_SIZE, Header

OVERHEAD = 256  # bytes of memory that a retained frame takes beside its own


class Entry:
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


class Segment:
    """A file of the log, or a spare."""

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
        # Index of its last frame, or of the last one before it; 0 when recovery had no use for it.
        self.last = 0
        self.unsynced = False
        self.dead = False  # all that it held was given up


class Round:
    """A running sync: the files still to be synced, and what it will cover."""

    __slots__ = ("checksum", "done", "last", "left", "term")

    def __init__(self, left: list[Segment], last: int, checksum: int, term: int) -> None:
        self.left = left
        self.done: list[Segment] = []
        self.last = last
        self.checksum = checksum
        self.term = term


class Figures:
    """Counts since the start, for INFO."""

    __slots__ = ("bytes", "failures", "frames", "rewritten", "sync_seconds", "syncs")

    def __init__(self) -> None:
        self.frames = 0  # written
        self.bytes = 0
        self.syncs = 0
        self.failures = 0
        self.rewritten = 0  # frames
        self.sync_seconds: deque[float] = deque(maxlen=256)  # the latest


class State:
    """Where every frame is; `check` states what always holds between two calls of the log."""

    __slots__ = (
        "checksum",
        "clock",
        "committed",
        "current",
        "epoch",
        "failure",
        "halt",
        "highest",
        "last",
        "last_term",
        "older",
        "queue",
        "retained",
        "round",
        "segments",
        "sync_target",
        "synced",
        "synced_checksum",
        "synced_term",
        "term",
        "unsynced",
        "waiting",
        "writing",
    )

    def __init__(self) -> None:
        # The chain: the last frame written, and the last one known to be on disk.
        self.term = 0
        self.clock = 0
        self.highest = 0  # index of the last frame appended, dropped ones included
        self.last = 0
        self.last_term = 0
        self.checksum = 0
        self.committed = 0
        self.synced = 0
        self.synced_term = 0
        self.synced_checksum = 0

        # Frames on their way, oldest first.
        self.queue: deque[Entry] = deque()  # not written yet
        self.writing: Entry | None = None  # large, being written in the thread
        self.waiting: deque[Entry] = deque()  # written, not committed
        self.unsynced: deque[Entry] = deque()  # written, not synced; a superset of waiting
        self.retained = 0  # bytes in unsynced
        self.round: Round | None = None  # in the thread
        self.sync_target = 0  # index that a call of sync() waits for, 0 when none does

        # Files.
        self.segments: deque[Segment] = deque()  # oldest first; the last is the current one
        self.current: Segment | None = None
        self.older: list[Segment] = []  # left behind with unsynced data

        # Failure: either of the two means that there is no current segment.
        self.halt: CommitError | None = None  # a write failed, earlier frames are still syncing
        self.failure: str | None = None  # no segment to write to
        self.epoch = 0  # grows when a failed sync makes running calls meaningless

    def must_rewrite(self) -> bool:
        """Tell whether acknowledged frames are in memory only, their files given up."""
        return self.failure is not None and self.last == self.synced and bool(self.unsynced)

    def dirty(self) -> list[Segment]:
        """Return the files with unsynced data, in their order."""
        current = self.current
        if current is not None and current.unsynced:
            return [*self.older, current]
        return [*self.older]

    def round_now(self, segments: list[Segment]) -> Round:
        """Return a sync of `segments` that covers everything written so far."""
        return Round(segments, self.last, self.checksum, self.last_term)

    def header_for(self, segment: Segment) -> Header:
        """Let `segment` go on after the last frame written; return the header that says so."""
        segment.nonce = int.from_bytes(os.urandom(8), "little") | 1
        segment.last = self.last
        segment.offset = HEADER_SIZE
        return Header(
            number=segment.number,
            nonce=segment.nonce,
            term=self.term,
            previous_last=self.last,
            previous_checksum=self.checksum,
            previous_term=self.last_term,
            clock=self.clock,
            synced=self.synced,
        )

    def fields_for(self, entry: Entry, segment: Segment) -> Fields:
        """Return the header fields of `entry` as the next frame of `segment`."""
        return (
            self.checksum,
            segment.nonce,
            segment.tag,
            segment.flags,
            entry.size - HEAD_SIZE,
            entry.first,
            entry.last,
            entry.term,
            entry.clock,
            self.synced,
        )

    def wrote(self, segment: Segment, entry: Entry, checksum: int) -> None:
        """`entry` is now in `segment`'s file; it waits for its commit and for a sync."""
        segment.offset += entry.size
        segment.last = entry.last
        segment.unsynced = True
        self.last = entry.last
        self.last_term = entry.term
        self.checksum = checksum
        self.clock = max(self.clock, entry.clock)
        self.unsynced.append(entry)
        self.retained += entry.size + OVERHEAD
        self.waiting.append(entry)

    def synced_through(self, covered: Round) -> int:
        """Everything that `covered` promised is on disk.

        Returns the index of the last frame that was committed before, 0 when there is none.
        """
        for segment in covered.done:
            segment.flags = HEADER_SYNCED
        relaxed = 0
        unsynced = self.unsynced
        while unsynced and unsynced[0].last <= covered.last:
            entry = unsynced.popleft()
            self.retained -= entry.size + OVERHEAD
            if entry.acknowledged:
                relaxed = entry.last
        self.synced = covered.last
        self.synced_checksum = covered.checksum
        self.synced_term = covered.term
        if not unsynced and self.current is not None:
            self.current.unsynced = False
        return relaxed

    def fall_back(self) -> None:
        """Take the last synced frame for the end: what was written behind it is given up.

        Frames acknowledged without a sync stay in `unsynced`, to be rewritten.
        """
        self.epoch += 1
        self.round = None
        self.writing = None
        while self.unsynced and not self.unsynced[-1].acknowledged:
            self.retained -= self.unsynced.pop().size + OVERHEAD
        self.waiting.clear()
        self.last, self.last_term = self.synced, self.synced_term
        self.checksum = self.synced_checksum
        for segment in self.segments:
            segment.last = min(segment.last, self.synced)
            segment.dead = not segment.flags

    def rewrote(self, segment: Segment, entry: Entry, checksum: int, offset: int) -> None:
        """The frames of `unsynced`, `entry` last, are now in `segment` too, up to `offset`."""
        segment.offset = offset
        segment.last = entry.last
        segment.reusable = segment.reusable and offset <= segment.capacity
        self.last, self.last_term = entry.last, entry.term
        self.checksum = checksum

    def take_freed(self, through: int) -> list[Segment]:
        """Remove and return the oldest segments, as far as their frames have `last` <= `through`.

        A restart begins in the newest segment that follows an index which LevelDB holds: a segment
        may go only when the header of the next one is on disk.
        """
        segments = self.segments
        through = min(through, self.synced)
        freed: list[Segment] = []
        while len(segments) > 1 and segments[0].last <= through and segments[1].flags:
            if segments[0] in self.older:
                break
            freed.append(segments.popleft())
        return freed

    def take_dead(self) -> list[Segment]:
        """Remove and return the segments of which nothing is left."""
        dead = [segment for segment in self.segments if segment.dead]
        for segment in dead:
            self.segments.remove(segment)
        return dead

    def check(self) -> None:
        """Assert every invariant; for tests, between two calls of an open log."""
        assert (self.current is None) == (self.halt is not None or self.failure is not None)
        assert self.halt is None or self.failure is None
        assert self.current is None or self.current is self.segments[-1]
        numbers = [segment.number for segment in self.segments]
        assert numbers == sorted(set(numbers))
        lasts = [segment.last for segment in self.segments if segment.last]
        assert lasts == sorted(lasts)
        assert all(segment in self.segments for segment in self.older)

        assert self.synced <= self.last <= self.highest
        assert self.committed <= self.last or self.must_rewrite()
        assert self.synced_term <= self.last_term <= self.term
        unsynced = [*self.unsynced]
        behind = [self.synced, *(entry.last for entry in unsynced)]
        assert behind == sorted(set(behind))
        assert self.must_rewrite() or behind[-1] == self.last
        assert self.retained == sum(entry.size + OVERHEAD for entry in unsynced)
        acknowledged = len(unsynced) - len(self.waiting)
        assert acknowledged >= 0
        assert [*self.waiting] == unsynced[acknowledged:]
        assert [entry.acknowledged for entry in unsynced].count(True) == acknowledged

        ahead = [*([self.writing] if self.writing else []), *self.queue]
        indices = [self.last, *(entry.last for entry in ahead), self.highest]
        assert indices == sorted(indices)
        assert self.halt is None or not ahead
