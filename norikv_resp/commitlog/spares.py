"""Spare segments: made ahead, recycled, unlinked, off the loop and one step at a time.

    freed ─▶ renamed, or unlinked
                 │
    created ─▶ filled with zeros, a synced megabyte at a time ─▶ ready ─▶ taken

A file's name and its directory entry come first, so a spare that is needed at once can be handed
over half filled: it works, with slower syncs, and is unlinked instead of recycled in the end.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

from norikv_resp.commitlog.files import Files, write_fully
from norikv_resp.commitlog.frame import HEADER_SYNCED
from norikv_resp.commitlog.segment import Reader, file_name
from norikv_resp.commitlog.state import Segment
from norikv_resp.worker import Done, Job, Worker

RETRY = 1.0  # seconds between attempts to make a file, after a failure
_ZEROS = bytes(1 << 20)


@dataclass(slots=True)
class Folder:
    """Where the segments are, how long one is, and the number of the next file made."""

    files: Files
    path: str
    segment_size: int
    next_number: int = 1  # never used before, so that no file is taken for another

    def name_next(self) -> tuple[int, str]:
        """Use up a number; return it with its path."""
        number = self.next_number
        self.next_number += 1
        return number, os.path.join(self.path, file_name(number))

    def create(self, path: str) -> int:
        """Create an empty file and return its descriptor; its entry is not synced."""
        return self.files.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)

    def zeros(self, offset: int) -> bytes:
        """Return what fills a segment from `offset`, a megabyte at most."""
        return _ZEROS[: self.segment_size - offset]


class Stock(NamedTuple):
    """The files that a start found, sorted by what is to become of them."""

    kept: list[Segment]  # they hold the frames read, oldest first
    spares: deque[Segment]  # never used and filled, numbers growing; not open
    stale: list[Segment]  # to be recycled or unlinked


def take_stock(folder: Folder, reader: Reader, salvaged: bool) -> Stock:
    """Sort the files of a log that was read; OSError when the disk fails.

    With `salvaged` the segments behind the end are set aside under another name.
    """
    files = folder.files
    top = max(reader.segments, default=0)
    stock = Stock([], deque(), [])
    for number in sorted(reader.segments.keys() | reader.others.keys()):
        path = os.path.join(folder.path, file_name(number))
        fd = files.open(path, os.O_RDWR)
        try:
            size = files.size(fd)
        finally:
            files.close(fd)
        full = size == folder.segment_size
        segment = Segment(number, path, -1, full, size)
        if number in reader.segments and number <= reader.number:
            segment.last = reader.ends.get(number, 0)
            segment.flags = HEADER_SYNCED
            stock.kept.append(segment)
        elif salvaged and number <= top:
            files.rename(path, path + ".damaged")
        elif number > top and full:
            stock.spares.append(segment)
        else:
            stock.stale.append(segment)
    folder.next_number = max([top, *reader.others]) + 1
    return stock


def first_segment(folder: Folder, stock: Stock) -> Segment:
    """Open the spares and take one, or make one here and now; OSError when the disk fails.

    A full disk leaves the new one unfilled, which is no failure.
    """
    files = folder.files
    if stock.spares:
        for spare in stock.spares:
            spare.fd = files.open(spare.path, os.O_RDWR)
        return stock.spares.popleft()
    number, path = folder.name_next()
    fd = folder.create(path)
    filled = True
    try:
        for offset in range(0, folder.segment_size, len(_ZEROS)):
            write_fully(files, fd, folder.zeros(offset), offset)
    except OSError:
        filled = False
    return Segment(number, path, fd, filled, folder.segment_size)


class Taker(Protocol):
    """Who uses the spares."""

    def spare_ready(self) -> None:
        """The spare that `Spares.take` could not give is there now."""

    def spare_failed(self, error: Exception) -> None:
        """It could not be made, and nothing is under way to make it."""

    def close_later(self, segment: Segment) -> None:
        """Close a file behind the calls that may still be using it."""


class Spares:
    """Keeps `target` spares ready; everything on the loop's thread, except single calls.

    At most one step is under way, so spares become ready in the order of their numbers: recovery
    takes a higher number for the newer segment.
    """

    def __init__(
        self,
        folder: Folder,
        stock: Stock,
        target: int,
        tender: Worker,
        now: Callable[[], float],
        taker: Taker,
    ) -> None:
        self.ready = stock.spares
        self.needed = False  # the taker waits for a spare
        self.closing = False  # make no more than the one that is needed
        self._freed = deque(stock.stale)  # to be recycled or unlinked
        self._folder = folder
        self._files = folder.files
        self._target = target
        self._tender = tender
        self._now = now
        self._taker = taker
        self._tending = False
        self._retry = 0.0

    def take(self) -> Segment | None:
        """Take a spare; None when there is none, and then the taker hears when there is."""
        if self.ready:
            return self.ready.popleft()
        self.needed = True
        self.tend()
        return None

    def recycle(self, segments: Iterable[Segment]) -> None:
        """Make spares of segments that nobody needs any more."""
        self._freed.extend(segments)
        self.tend()

    def discard(self, segment: Segment) -> None:
        """Give the room of a file that failed, or is half made, back to the disk: in `tend`."""
        segment.reusable = False
        self._taker.close_later(segment)
        self._freed.append(segment)

    def tend(self) -> None:
        """Start the next step, unless one is under way."""
        if self._tending or (self.closing and not self.needed):
            return
        if self._freed:
            segment = self._freed.popleft()
            if segment.reusable and len(self.ready) < self._target + 2:
                self._rename(segment)
            else:
                self._submit(partial(self._files.unlink, segment.path), self._unlinked)
        elif self.needed or (len(self.ready) < self._target and self._now() >= self._retry):
            self._create()

    def _submit(self, job: Job, done: Done) -> None:
        self._tending = True
        self._tender.submit(job, done)

    def _unlinked(self, _: Any, __: Exception | None, ___: float) -> None:
        self._tending = False  # a file that cannot be unlinked is harmless
        self.tend()

    def _rename(self, old: Segment) -> None:
        """Make a spare of a file that is full of zeros or of stale frames."""
        number, path = self._folder.name_next()

        def rename() -> int:
            self._files.rename(old.path, path)
            self._files.sync_directory(self._folder.path)
            return self._files.open(path, os.O_RDWR)

        def done(fd: Any, error: Exception | None, _seconds: float) -> None:
            if error is not None:
                self._failed(error)
            else:
                self._finished(Segment(number, path, fd, True, self._folder.segment_size))

        self._submit(rename, done)

    def _create(self) -> None:
        """Make a spare: an entry in the directory, then zeros in small synced steps."""
        number, path = self._folder.name_next()

        def create() -> int:
            fd = self._folder.create(path)
            try:
                self._files.sync_directory(self._folder.path)
            except OSError:
                self._files.close(fd)
                self._files.unlink(path)
                raise
            return fd

        def done(fd: Any, error: Exception | None, _seconds: float) -> None:
            if error is not None:
                self._failed(error)
            else:
                self._fill(Segment(number, path, fd, False, self._folder.segment_size), 0)

        self._submit(create, done)

    def _fill(self, segment: Segment, offset: int) -> None:
        """Fill `segment` from `offset`, or hand it over as it is when it is needed now."""
        if self.needed or self.closing:
            self._finished(segment)
            return
        zeros = self._folder.zeros(offset)
        if not zeros:
            segment.reusable = True
            self._finished(segment)
            return

        def fill() -> None:
            write_fully(self._files, segment.fd, zeros, offset)
            self._files.fdatasync(segment.fd)

        def done(_: Any, error: Exception | None, _seconds: float) -> None:
            if error is not None:
                self.discard(segment)
                self._failed(error)
            else:
                self._fill(segment, offset + len(zeros))

        self._submit(fill, done)

    def _finished(self, segment: Segment) -> None:
        self._tending = False
        self.ready.append(segment)
        if self.needed:
            self.needed = False
            self._taker.spare_ready()
        self.tend()

    def _failed(self, error: Exception) -> None:
        self._tending = False
        self._retry = self._now() + RETRY
        if self.needed:
            self.needed = False
            self._taker.spare_failed(error)
        if self._freed:
            self.tend()
