"""The files of sets: what a checkpoint holds, how it is written beside everything, and verified.

For each set, by its collection id and the number of a generation::

    CID-NUMBER.vectors     see vectorfile.py
    CID.checkpoint         everything else of one generation, and which vectors file it belongs to
    CID.checkpoint.PID     one that is being written

A checkpoint, numbers little-endian, checksums xxh3_64::

    graph       USearch's own file; nothing for a flat set
    labels      u64 each slot
    alive       u8 each slot
    norms       f32 each slot
    starts      u64 each slot: where its id starts; u64 where the last one ends
    ids         bytes
    outside     i64 each: slots that are alive and not in the graph, below `graphed`
    blocks      u64 each 4 MB of the vectors file, up to the last slot's row: its checksum
    header      u64 size of each of the eight parts above, u64 cid, u32 generation, u64 slots,
                u64 graphed, u64 alive, u64 next label, u64 term, u64 index,
                u32 database, u32 epoch, u32 dimensions, u8 metric, u8 kind, u8 quantisation,
                u8 0, u32 m, u32 ef construction, u32 ef, 16 bytes version of USearch, rest: key
    trailer     u64 checksum of the eight parts, u64 checksum of the header, u32 size of the header,
                u32 format version, 8 bytes "NKVINDEX"

A fork of the index process writes it: the vectors file is synced first, then the checkpoint under
its temporary name, which is renamed and the directory synced. So after any crash there is the one
before or the new one. Nothing of a file is used, least of all by USearch, before every byte of it
and of the rows that it covers has been verified.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xxhash

from .generation import Generation
from .graph import USEARCH_VERSION
from .messages import Checkpoint, CheckpointNote, Definition
from .slots import SlotTable
from .vectorfile import VectorFile

#: One more whenever files of the format before cannot be read any more.
FORMAT_VERSION = 1

#: A set under a longer key gets no checkpoint, so that header and trailer are within `_END`.
_LONGEST_KEY = 1 << 16
_END = 1 << 17

_MAGIC = b"NKVINDEX"
_PARTS = 8
_SIZES = struct.Struct(f"<{_PARTS}Q")
_HEADER = struct.Struct("<QIQQQQQQIIIBBBBIII16s")
_TRAILER = struct.Struct("<QQII8s")


class UnusableError(Exception):
    """A checkpoint cannot be used; the text says why."""


class Cover(NamedTuple):
    """What a checkpoint says of itself."""

    cid: int
    generation: int
    slots: int
    graphed: int
    alive: int
    next_label: int
    version: tuple[int, int]
    database: int
    epoch: int
    definition: Definition
    usearch: str
    key: bytes


# -- names ---------------------------------------------------------------------


def checkpoint_path(directory: Path, cid: int) -> Path:
    """Where the checkpoint of a set is, if it has one."""
    return directory / f"{cid}.checkpoint"


def vectors_path(directory: Path, cid: int, generation: int) -> Path:
    """Where the vectors of a generation are."""
    return directory / f"{cid}-{generation}.vectors"


def generations(directory: Path, cid: int) -> list[int]:
    """The numbers of a set's vectors files."""
    paths = directory.glob(f"{cid}-*.vectors")
    return [int(number) for path in paths if (number := path.stem.partition("-")[2]).isdecimal()]


def delete(directory: Path, cid: int) -> None:
    """Remove all files of a set."""
    checkpoint_path(directory, cid).unlink(missing_ok=True)
    keep_only(directory, cid, ())


def keep_only(directory: Path, cid: int, numbers: Sequence[int]) -> None:
    """Remove a set's vectors files of all other generations."""
    for number in generations(directory, cid):
        if number not in numbers:
            vectors_path(directory, cid, number).unlink(missing_ok=True)


def survey(directory: Path) -> tuple[list[CheckpointNote], list[str]]:
    """The checkpoints in a directory, unverified, and what was wrong with others.

    Files that belong to no checkpoint are removed.
    """
    notes, complaints = [], []
    for path in directory.glob("*.checkpoint.*"):
        path.unlink(missing_ok=True)
    for path in directory.glob("*.checkpoint"):
        try:
            cover = _read_cover(path)
            if path.stem != str(cover.cid):
                raise UnusableError(f"it is that of collection {cover.cid}")
            notes.append(
                CheckpointNote(
                    cover.cid, cover.next_label, cover.database, cover.epoch, cover.key
                )
            )  # fmt: skip
        except (UnusableError, OSError) as error:
            complaints.append(f"{path.name}: {error}")
            path.unlink(missing_ok=True)
    known = {str(note.cid) for note in notes}
    for path in directory.glob("*.vectors"):
        if path.stem.partition("-")[0] not in known:
            path.unlink(missing_ok=True)
    return notes, complaints


# -- writing -------------------------------------------------------------------


class Writer:
    """A fork that writes one checkpoint. `fd` becomes readable when it has ended."""

    def __init__(
        self, directory: Path, cid: int, generation: Generation, asked: Checkpoint,
        close: Sequence[int],
    ) -> None:  # fmt: skip
        """Fork. `close` are descriptors that the fork must not hold open."""
        self.asked = asked
        self.generation = generation.number
        self._started = time.monotonic()
        self.fd, outcome = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            _write_and_exit(directory, cid, generation, asked, outcome, [*close, self.fd])
        os.close(outcome)

    def result(self) -> tuple[int, float, bytes]:
        """Size, seconds, why it failed; blocks until the fork has ended."""
        said = b""
        while part := os.read(self.fd, 4096):
            said += part
        self._reap()
        seconds = time.monotonic() - self._started
        size, _, reason = said.partition(b" ")
        if size.isdigit() and not reason:
            return int(size), seconds, b""
        return 0, seconds, reason or b"the process that wrote it ended"

    def cancel(self) -> None:
        """Stop writing; the checkpoint before stays."""
        os.kill(self._pid, signal.SIGKILL)
        self._reap()

    def _reap(self) -> None:
        os.close(self.fd)
        os.waitpid(self._pid, 0)


def _write_and_exit(
    directory: Path, cid: int, generation: Generation, asked: Checkpoint, outcome: int,
    close: Sequence[int],
) -> None:  # fmt: skip
    parent = os.getppid()
    try:
        for fd in close:
            os.close(fd)
        os.nice(10)
        size = _write(directory, cid, generation, asked, parent)
        os.write(outcome, b"%d " % size)
    except BaseException as error:
        os.write(outcome, b"0 " + (str(error) or type(error).__name__).encode())
    finally:
        os._exit(0)


def _write(
    directory: Path, cid: int, generation: Generation, asked: Checkpoint, parent: int
) -> int:
    """In the fork, whose memory is its own: reduce the generation to what is asked, write it."""
    if len(asked.key) > _LONGEST_KEY:
        raise UnusableError("the key is too long")
    count = int(np.searchsorted(generation.table.labels, np.uint64(asked.next_label)))
    if asked.unsettled:
        generation.revive(asked.unsettled)
    generation.remove(generation.table.labels[count:].tolist())
    graphed = min(generation.graphed, count)
    generation.file.sync()
    temporary = directory / f"{cid}.checkpoint.{os.getpid()}"
    try:
        if generation.graph is not None:
            generation.graph.save(temporary)
        with open(temporary, "ab") as file:
            graph_size = file.tell()
            table = generation.table
            blocks = generation.file.checksums(count)
            parts = [
                *table.sections(count),
                generation.outside.tobytes(),
                struct.pack(f"<{len(blocks)}Q", *blocks),
            ]
            for part in parts:
                file.write(part)
            file.flush()
            cover = Cover(
                cid, generation.number, count, graphed, table.alive_count, asked.next_label,
                asked.version, asked.database, asked.epoch, generation.definition,
                USEARCH_VERSION, asked.key,
            )  # fmt: skip
            header = _encode_header([graph_size, *map(len, parts)], cover)
            content = _file_checksum(temporary)
            file.write(header)
            file.write(
                _TRAILER.pack(
                    content, xxhash.xxh3_64_intdigest(header), len(header), FORMAT_VERSION, _MAGIC
                )
            )
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        if os.getppid() != parent:
            raise UnusableError("the index process has ended")
        os.replace(temporary, checkpoint_path(directory, cid))
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(directory)
    return size


def _encode_header(sizes: Sequence[int], cover: Cover) -> bytes:
    d = cover.definition
    return (
        _SIZES.pack(*sizes)
        + _HEADER.pack(
            cover.cid, cover.generation, cover.slots, cover.graphed, cover.alive,
            cover.next_label, *cover.version, cover.database, cover.epoch, d.dimensions,
            d.metric, d.kind, d.quantisation, 0, d.m, d.ef_construction, d.ef,
            cover.usearch.encode()[:16],
        )
        + cover.key
    )  # fmt: skip


def _file_checksum(path: Path) -> int:
    digest = xxhash.xxh3_64()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.intdigest()


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# -- reading -------------------------------------------------------------------


def size(directory: Path, cid: int) -> int:
    """How many bytes the checkpoint of a set has, 0 without one."""
    try:
        return checkpoint_path(directory, cid).stat().st_size
    except FileNotFoundError:
        return 0


def load(directory: Path, cid: int, definition: Definition) -> tuple[Generation, Cover]:
    """The generation that a checkpoint holds. UnusableError if there is none or it is not good."""
    path = checkpoint_path(directory, cid)
    try:
        with open(path, "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise UnusableError("there is no checkpoint") from None
    except (OSError, ValueError) as error:
        raise UnusableError(str(error)) from None
    try:
        return _load(directory, mapped, cid, definition)
    except (OSError, ValueError, RuntimeError) as error:
        raise UnusableError(str(error)) from None


def _load(
    directory: Path, mapped: mmap.mmap, cid: int, definition: Definition
) -> tuple[Generation, Cover]:
    whole = memoryview(mapped)
    sizes, cover, content = _decode_end(whole[-_END:], len(whole))
    if cover.cid != cid:
        raise UnusableError(f"it is that of collection {cover.cid}")
    if cover.definition != definition:
        raise UnusableError("the set was defined differently")
    if cover.usearch != USEARCH_VERSION:
        raise UnusableError(f"it was written with USearch {cover.usearch}")
    if xxhash.xxh3_64_intdigest(whole[: sum(sizes)]) != content:
        raise UnusableError("its checksum is wrong")
    parts = list(_cut(whole, sizes))
    file = _verified_vectors(directory, cover, parts[7])
    try:
        return _rebuilt(cover, file, parts), cover
    except BaseException:
        file.close()
        raise


def _verified_vectors(directory: Path, cover: Cover, blocks: memoryview) -> VectorFile:
    path = vectors_path(directory, cover.cid, cover.generation)
    try:
        file = VectorFile(path, cover.definition.dimensions, create=False)
    except FileNotFoundError:
        raise UnusableError("its vectors file is missing") from None
    if len(file.rows) < cover.slots or file.checksums(cover.slots) != blocks.cast("Q").tolist():
        file.close()
        raise UnusableError("the vectors file is not the one that it belongs to")
    return file


def _rebuilt(cover: Cover, file: VectorFile, parts: Sequence[memoryview]) -> Generation:
    generation = Generation(cover.definition, cover.generation, file)
    generation.table = SlotTable.from_sections(cover.slots, parts[1:6])
    generation.outside = np.frombuffer(parts[6], np.int64).copy()
    generation.graphed = cover.graphed
    graph = generation.graph
    if graph is not None:
        graph.load(parts[0])
        alive = int(np.count_nonzero(generation.table.alive[: cover.graphed]))
        if len(graph) != alive - len(generation.outside):
            raise UnusableError("the graph has another number of vectors")
    return generation


def _cut(whole: memoryview, sizes: Sequence[int]) -> Iterator[memoryview]:
    at = 0
    for part in sizes:
        yield whole[at : at + part]
        at += part


def _read_cover(path: Path) -> Cover:
    """What the end of a checkpoint says; only that is verified."""
    with open(path, "rb") as file:
        length = file.seek(0, os.SEEK_END)
        file.seek(max(0, length - _END))
        return _decode_end(memoryview(file.read()), length)[1]


def _decode_end(end: memoryview, length: int) -> tuple[list[int], Cover, int]:
    """Sizes of parts, cover and checksum of the parts, from the last bytes of `length`."""
    if len(end) < _TRAILER.size:
        raise UnusableError("it is too short")
    content, checksum, header_size, version, magic = _TRAILER.unpack_from(
        end, len(end) - _TRAILER.size
    )
    if magic != _MAGIC:
        raise UnusableError("its end is missing")
    if version != FORMAT_VERSION:
        raise UnusableError(f"its format version is {version}")
    fixed = _SIZES.size + _HEADER.size
    start = len(end) - _TRAILER.size - header_size
    if header_size < fixed or start < 0:
        raise UnusableError("its header is cut")
    header = bytes(end[start : start + header_size])
    if xxhash.xxh3_64_intdigest(header) != checksum:
        raise UnusableError("the checksum of its header is wrong")
    sizes = list(_SIZES.unpack_from(header))
    if sum(sizes) + header_size + _TRAILER.size != length:
        raise UnusableError("its length is wrong")
    (
        cid, generation, slots, graphed, alive, next_label, term, index, database, epoch,
        dimensions, metric, kind, quantisation, _, m, ef_construction, ef, usearch,
    ) = _HEADER.unpack_from(header, _SIZES.size)  # fmt: skip
    definition = Definition(dimensions, metric, kind, quantisation, m, ef_construction, ef)
    cover = Cover(
        cid, generation, slots, graphed, alive, next_label, (term, index), database, epoch,
        definition, usearch.rstrip(b"\0").decode("ascii", "replace"), header[fixed:],
    )  # fmt: skip
    return sizes, cover, content
