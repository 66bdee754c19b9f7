"""Segments: the byte grammar of their header, and reading a directory of them back.

    header = magic "NORIKLOG", u32 version, u32 zero, u64 number, u64 nonce, u64 term,
             u64 previous last, u64 previous checksum, u64 previous term, u64 clock, u64 synced,
             zeros, u64 checksum over the 4088 bytes before it            (4096 bytes)

File `000000000018.log` is segment 18 when its header says so, and a spare otherwise: a recycled
file keeps the bytes of its former life, which no reader may take for frames of this one.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from xxhash import xxh3_64_intdigest

from norikv_resp.commitlog.files import Files, read_fully
from norikv_resp.commitlog.frame import (
    CHECKSUM,
    CLOSED,
    HEAD,
    HEAD_SIZE,
    HEADER_SYNCED,
    TAG,
    TAG_AT,
    Head,
    decode_rows,
    frame_at,
)
from norikv_resp.commitlog.interface import Frame, LogDamage, LogError

FORMAT_VERSION = 1  # on disk, frozen
HEADER_SIZE = 4096  # one page, so that a torn frame never tears the header
_MAGIC = b"NORIKLOG"
_HEADER = struct.Struct("<8sIIQQQQQQQQ")
_CHECKED = HEADER_SIZE - 8
_NAME = re.compile(r"(\d{12})\.log")
_LOW = 0xFFFFFFFF


class Header(NamedTuple):
    """A segment's header: which one it is, and behind which frame it goes on."""

    number: int
    nonce: int  # random; with the number it marks every frame of the segment
    term: int  # term of the server that opened it
    previous_last: int  # index of the last frame before the segment
    previous_checksum: int
    previous_term: int
    clock: int  # highest server time in ms before the segment
    synced: int  # index known to be on disk when the header was written


def encode_header(header: Header) -> bytes:
    """Encode a header of `HEADER_SIZE` bytes."""
    block = _HEADER.pack(_MAGIC, FORMAT_VERSION, 0, *header).ljust(_CHECKED, b"\0")
    return block + CHECKSUM.pack(xxh3_64_intdigest(block))


def decode_header(block: bytes) -> Header | None:
    """Decode a header; None when there is none that verifies, LogError for a newer format."""
    if len(block) < HEADER_SIZE or not block.startswith(_MAGIC):
        return None
    if xxh3_64_intdigest(block[:_CHECKED]) != CHECKSUM.unpack_from(block, _CHECKED)[0]:
        return None
    fields = _HEADER.unpack_from(block)
    if fields[1] > FORMAT_VERSION:
        raise LogError(
            f"the commit log has format version {fields[1]}, this server knows {FORMAT_VERSION}:"
            " start the newer server that wrote it"
        )
    return Header._make(fields[3:])


def file_name(number: int) -> str:
    """Return the name of segment `number`'s file."""
    return f"{number:012d}.log"


def read_directory(
    files: Files, directory: str, *, settle: bool = False
) -> tuple[dict[int, Header], dict[int, int]]:
    """Return the segments by number, and the sizes of the other log files by number.

    With `settle` each file is synced first and its cached pages dropped: after a failed sync the
    cache may show, header included, what the disk does not hold.
    """
    segments: dict[int, Header] = {}
    others: dict[int, int] = {}
    for name in files.names(directory):
        match = _NAME.fullmatch(name)
        if match is None:
            continue
        number = int(match[1])
        fd = files.open(os.path.join(directory, name), os.O_RDONLY)
        try:
            if settle:
                files.fdatasync(fd)
                files.forget(fd)
            header = decode_header(read_fully(files, fd, HEADER_SIZE))
            if header is not None and header.number == number:
                segments[number] = header
            else:
                others[number] = files.size(fd)
        finally:
            files.close(fd)
    return dict(sorted(segments.items())), dict(sorted(others.items()))


class Claim(NamedTuple):
    """A trace left behind the end of the readable frames: `through` was on disk."""

    through: int  # index
    told_by: str


@dataclass
class Reader:
    """Reads the frames of a log directory in commit order and judges where they end.

    The order: behind a frame stands the first frame of the newest segment whose header names it,
    or else the next frame of the same segment.  A newer segment wins, because it was opened in the
    knowledge that what followed had been given up.
    """

    files: Files
    directory: str
    settle: bool  # sync each file first, and read what the disk holds
    segments: dict[int, Header] = field(init=False)
    others: dict[int, int] = field(init=False)  # spares and files without a usable header
    last: int = field(init=False, default=0)  # the end of what was read so far: index,
    checksum: int = field(init=False, default=0)  # checksum
    last_term: int = field(init=False, default=0)  # and term of its last frame,
    number: int = field(init=False, default=0)  # its segment
    offset: int = field(init=False, default=0)  # and the byte behind it
    ends: dict[int, int] = field(init=False, default_factory=dict)  # segment -> its last index
    term: int = field(init=False, default=0)  # highest term seen, given-up frames included
    highest: int = field(init=False, default=0)  # highest index seen, given-up frames included
    clock: int = field(init=False, default=0)  # highest server time in ms
    closed: bool = field(init=False, default=False)  # a clean stop wrote the end
    frames: int = field(init=False, default=0)
    rows: int = field(init=False, default=0)
    _tail: bytes = field(init=False, default=b"", repr=False)  # content of segment `number`
    given_up: int = field(init=False, default=0)  # whole frames found behind the end

    def __post_init__(self) -> None:
        self.segments, self.others = read_directory(self.files, self.directory, settle=self.settle)
        for header in self.segments.values():
            self.term = max(self.term, header.term, header.previous_term)
            self.clock = max(self.clock, header.clock)
            self.highest = max(self.highest, header.previous_last, header.synced)

    def read(self, after: int, reach: int = 0) -> Iterator[Frame]:
        """Yield the frames with `last` > `after`; LogDamage when synced ones are missing.

        `reach` is the highest index that LevelDB holds something of.
        """
        start = [n for n, header in self.segments.items() if header.previous_last <= after]
        if start:
            yield from self._chain(start[-1], after)
            claims = [Claim(max(after, reach), "LevelDB")]
        else:
            self.last = after
            claims = [Claim(reach, "LevelDB")]
            if self.segments:
                oldest, header = next(iter(self.segments.items()))
                self.number = oldest
                self._tail = self.load(oldest)
                claims.append(Claim(header.previous_last, f"segment {file_name(oldest)}"))
            elif after:
                raise self._damage(f"LevelDB is settled through index {after}, but the log is gone")
        claims += self._claims()
        self.highest = max(self.highest, self.last)
        claim = max(claims)
        if claim.through > self.last:
            if start:
                reason = f"frames {self.last + 1} to {claim.through} are unreadable"
            else:
                reason = f"frames {after + 1} to {claim.through} are missing at the beginning"
            raise self._damage(f"{reason}, though {claim.told_by} says that they were synced")

    def _damage(self, reason: str) -> LogDamage:
        path = self.directory
        if self.number:
            path = os.path.join(path, file_name(self.number))
        return LogDamage(path, self.offset, reason, self.last)

    def load(self, number: int) -> bytes:
        """Return the content of a log file."""
        fd = self.files.open(os.path.join(self.directory, file_name(number)), os.O_RDONLY)
        try:
            return read_fully(self.files, fd, self.files.size(fd))
        finally:
            self.files.close(fd)

    def _chain(self, number: int, after: int) -> Iterator[Frame]:
        """Follow the frames from the beginning of segment `number` to where they end."""
        takes_over = {(h.previous_last, h.previous_checksum): n for n, h in self.segments.items()}
        header = self.segments[number]
        self.last, self.checksum = header.previous_last, header.previous_checksum
        self.last_term = header.previous_term
        while True:
            self.number = number
            self.offset = HEADER_SIZE
            self.ends[number] = self.last
            following = takes_over.get((self.last, self.checksum), number)
            if following <= number:
                try:
                    yield from self._segment(number, takes_over, after)
                finally:
                    self.ends[number] = self.last
                    self.term = max(self.term, self.last_term)
                following = takes_over.get((self.last, self.checksum), number)
            if following <= number:
                return
            number = following

    def _segment(
        self, number: int, takes_over: dict[tuple[int, int], int], after: int
    ) -> Iterator[Frame]:
        """Yield one segment's frames until a newer segment takes over or one does not verify."""
        header = self.segments[number]
        tag = (header.nonce, number & _LOW)
        data = self._tail = self.load(number)
        view = memoryview(data)
        room = len(data) - HEAD_SIZE
        while self.offset <= room:
            checksum, seed, nonce, segment, flags, size, first, last, term, clock, _ = (
                HEAD.unpack_from(data, self.offset)
            )
            body = self.offset + HEAD_SIZE
            if (nonce, segment) != tag or seed != self.checksum or size > room - self.offset:
                return
            if xxh3_64_intdigest(view[self.offset + 8 : body + size], seed) != checksum:
                return
            closing = flags & CLOSED
            if first <= self.last or (last < first and not closing):
                raise self._damage(f"frame {first} to {last} follows {self.last}")
            try:
                rows = decode_rows(data, body, size)
            except ValueError as error:
                raise self._damage(f"frame {first} to {last}: {error}") from None
            self.offset = body + size
            self.last, self.checksum, self.last_term = last, checksum, term
            self.closed = bool(closing)
            if not closing:
                self.clock = max(self.clock, clock)
                self.frames += 1
                self.rows += len(rows)
                if last > after:
                    yield Frame(first, last, term, clock, rows)
            if takes_over.get((last, checksum), number) > number:
                break

    def _claims(self) -> list[Claim]:
        """Collect what stands behind the end and says that more had been synced."""
        claims: list[Claim] = []
        for number in sorted(self.segments.keys() | self.others.keys()):
            if number < self.number:
                continue
            name = file_name(number)
            header = self.segments.get(number)
            if header is not None:
                claims.append(Claim(header.synced, f"segment {name}"))
            if number > self.number or header is None:
                found = self._frames_of(number, header, HEADER_SIZE)
            else:
                found = self._frames_of(number, header, self.offset)
            for offset, head in found:
                if head.first <= self.last:
                    continue
                self.given_up += 1
                self.highest = max(self.highest, head.last)
                self.term = max(self.term, head.term)
                claims.append(Claim(head.synced, f"the frame at byte {offset} of {name}"))
                if header is None and head.flags & HEADER_SYNCED:
                    claims.append(Claim(head.first, f"{name}, whose header is unreadable,"))
        return claims

    def _first_head(self, number: int) -> Head | None:
        """Return the first frame's header as it stands in a file without a usable header."""
        fd = self.files.open(os.path.join(self.directory, file_name(number)), os.O_RDONLY)
        try:
            block = self.files.pread(fd, HEAD_SIZE, HEADER_SIZE)
        finally:
            self.files.close(fd)
        return Head._make(HEAD.unpack(block)) if len(block) == HEAD_SIZE else None

    def _frames_of(
        self, number: int, header: Header | None, offset: int
    ) -> Iterator[tuple[int, Head]]:
        """Find whole frames of segment `number` from `offset` on, behind damage too."""
        if header is None:
            first = self._first_head(number)
            if first is None or first.segment != number & _LOW:
                return
            tag = TAG.pack(first.nonce, first.segment)
        else:
            tag = TAG.pack(header.nonce, number & _LOW)
        data = self._tail if number == self.number and header else self.load(number)
        while (found := data.find(tag, offset + TAG_AT)) >= 0:
            offset = found - TAG_AT
            head = frame_at(data, offset)
            if head is None:
                offset += 1
            else:
                yield offset, head
                offset += HEAD_SIZE + head.size


@dataclass(slots=True, frozen=True)
class Finding:
    """One thing that `inspect` has to say."""

    damage: bool  # False: normal after a crash
    path: str
    offset: int
    text: str


@dataclass(slots=True, frozen=True)
class Inspection:
    """What a log directory holds, by reading every frame of it."""

    findings: list[Finding]
    segments: int
    spares: int
    frames: int
    rows: int
    first: int  # lowest index that a replay can start behind, or 0
    last: int  # index of the last readable frame
    term: int
    clock: int
    closed: bool  # the last server stopped cleanly


def inspect(directory: str, files: Files, after: int | None = None, reach: int = 0) -> Inspection:
    """Verify every frame of a log that no server has open, without changing anything.

    `after` and `reach` are LevelDB's mark, where it is known.  LogError for a newer format.
    """
    findings: list[Finding] = []
    reader = Reader(files, directory, settle=False)
    oldest = next(iter(reader.segments.values()), None)
    first = oldest.previous_last if oldest else 0
    try:
        for _ in reader.read(first, reach):
            pass
    except LogDamage as damage:
        findings.append(Finding(True, damage.path, damage.offset, str(damage)))
    path = os.path.join(directory, file_name(reader.number)) if reader.number else directory
    if after is not None and (first > after or reader.last < after) and not findings:
        text = f"LevelDB is settled through {after}, the log holds {first + 1} to {reader.last}"
        findings.append(Finding(True, path, reader.offset, text))
    if reader.given_up and not findings:
        text = f"{reader.given_up} unsynced frames behind index {reader.last} will be given up"
        findings.append(Finding(False, path, reader.offset, text))
    return Inspection(
        findings=findings,
        segments=len(reader.segments),
        spares=len(reader.others),
        frames=reader.frames,
        rows=reader.rows,
        first=first,
        last=reader.last,
        term=reader.term,
        clock=reader.clock,
        closed=reader.closed,
    )
