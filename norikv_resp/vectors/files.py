"""Vectors from files, in batches: .npy, .npz and .jsonl.

A file is read from the beginning to the end once, and never held in memory: an .npy file is
mapped, the vectors of an .npz and the lines of a .jsonl file are read as they are needed.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

Vectors = npt.NDArray[np.float32]


class BadFile(Exception):
    """The file cannot be imported; the text says what is wrong, and where."""


@dataclass
class Batch:
    """Some consecutive vectors of a file."""

    #: Which of the file's vectors the first one is, from 0.
    position: int
    ids: list[bytes]
    vectors: Vectors
    #: JSON texts; None where there are none, or if no vector has any.
    attributes: list[bytes | None] | None

    def token(self) -> bytes:
        """An idempotency token: the same for the same content at the same place of a file. O(n)."""
        digest = xxhash.xxh3_128()
        for texts in (self.ids, self.attributes or ()):
            for text in texts:
                digest.update(b"%d:" % (-1 if text is None else len(text)))
                digest.update(text or b"")
        digest.update(self.vectors.tobytes())
        return b"import-%d-%s" % (self.position, digest.hexdigest().encode())


class Names(NamedTuple):
    """The arrays of an .npz, the fields of a .jsonl."""

    id: str
    vector: str
    attributes: str


class VectorFile:
    """A file of `count` vectors with `dimensions` numbers each."""

    def __init__(
        self, count: int, dimensions: int, batches: Callable[[int], Iterator[Batch]]
    ) -> None:
        self.count = count
        self.dimensions = dimensions
        #: All vectors in batches of so many; BadFile where something is wrong.
        self.batches = batches


def open_file(path: Path, names: Names, prefix: str) -> VectorFile:
    """A file of one of the kinds, by its name; BadFile.

    *prefix* goes before the position that is the id of a vector without one.
    """
    kinds = {".npy": _open_npy, ".npz": _open_npz, ".jsonl": _open_jsonl}
    kind = kinds.get(path.suffix.lower())
    if kind is None:
        raise BadFile(f"{path} is none of {', '.join(kinds)}")
    try:
        file = kind(path, names, prefix)
    except OSError as error:
        raise BadFile(f"{path}: {error.strerror or error}") from None
    if not file.count:
        raise BadFile(f"{path} holds no vectors")
    return file


# ---- arrays


def _open_npy(path: Path, _: Names, prefix: str) -> VectorFile:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise BadFile(f"{path}: {error}") from None
    _check_array(str(path), array.dtype, array.shape)

    def batches(size: int) -> Iterator[Batch]:
        for start in range(0, len(array), size):
            vectors = _as_vectors(str(path), array[start : start + size], start)
            yield Batch(start, _counted(prefix, start, len(vectors)), vectors, None)

    return VectorFile(len(array), array.shape[1], batches)


def _open_npz(path: Path, names: Names, prefix: str) -> VectorFile:
    present = _names_in(path)
    if names.vector not in present:
        known = ", ".join(present) or "none"
        raise BadFile(f"{path} has no array '{names.vector}', only: {known}")
    ids = _whole(path, names.id) if names.id in present else None
    attributes = _whole(path, names.attributes) if names.attributes in present else None
    label = f"{path}: {names.vector}"
    with _member(path, names.vector) as stream:
        shape, dtype = _header(label, stream)
    for name, array in ((names.id, ids), (names.attributes, attributes)):
        if array is not None and array.shape != shape[:1]:
            raise BadFile(f"{path}: '{name}' has shape {array.shape}, not {shape[:1]}")

    def batches(size: int) -> Iterator[Batch]:
        with _member(path, names.vector) as stream:
            _header(label, stream)
            for start in range(0, shape[0], size):
                end = min(start + size, shape[0])
                wanted = (end - start) * shape[1] * dtype.itemsize
                data = stream.read(wanted)
                if len(data) != wanted:
                    raise BadFile(f"{label} ends early")
                rows = np.frombuffer(data, dtype).reshape(end - start, shape[1])
                yield Batch(
                    start,
                    _counted(prefix, start, end - start)
                    if ids is None
                    else [_text(i) for i in ids[start:end]],
                    _as_vectors(label, rows, start),
                    None
                    if attributes is None
                    else [_attributes(_text(a)) for a in attributes[start:end]],
                )

    return VectorFile(shape[0], shape[1], batches)


def _names_in(path: Path) -> list[str]:
    """The arrays of an .npz."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sorted(name.removesuffix(".npy") for name in archive.namelist())
    except zipfile.BadZipFile as error:
        raise BadFile(f"{path}: {error}") from None


@contextmanager
def _member(path: Path, name: str) -> Iterator[IO[bytes]]:
    """The stored form of an array of an .npz."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as stream:
            yield stream
    except (KeyError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise BadFile(f"{path}: {name}: {error}") from None


def _whole(path: Path, name: str) -> npt.NDArray[Any]:
    with _member(path, name) as stream:
        try:
            return np.lib.format.read_array(stream, allow_pickle=False)
        except ValueError as error:
            raise BadFile(f"{path}: {name}: {error}") from None


def _header(label: str, stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """The shape and type of an array that begins here."""
    form = np.lib.format
    try:
        version = form.read_magic(stream)
        read = form.read_array_header_1_0 if version == (1, 0) else form.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except ValueError as error:
        raise BadFile(f"{label}: {error}") from None
    _check_array(label, dtype, shape)
    if fortran:
        raise BadFile(f"{label} is stored column by column: save numpy.ascontiguousarray of it")
    return shape, dtype


def _check_array(label: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    if len(shape) != 2 or not shape[1]:
        raise BadFile(f"{label} has shape {shape}: a row of numbers is needed for each vector")
    if dtype.kind not in "fiu":
        raise BadFile(f"{label} has elements of type {dtype}: real numbers are needed")


def _as_vectors(label: str, rows: npt.NDArray[Any], position: int) -> Vectors:
    """The rows as float32, checked."""
    with np.errstate(over="ignore"):
        vectors = np.ascontiguousarray(rows, "<f4")
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise BadFile(f"{label}: row {position + int(bad[0])} has a number that is not finite")
    return vectors


def _counted(prefix: str, start: int, count: int) -> list[bytes]:
    return [f"{prefix}{number}".encode() for number in range(start, start + count)]


def _text(value: Any) -> bytes:
    """An element of an array of strings or numbers, as bytes."""
    plain = value.item()
    return plain if isinstance(plain, bytes) else str(plain).encode("utf-8", "surrogateescape")


def _attributes(text: bytes) -> bytes | None:
    return text or None


# ---- lines of JSON


def _open_jsonl(path: Path, names: Names, _: str) -> VectorFile:
    count = 0
    first: _Line | None = None
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                count += 1
                first = first or _Line(path, names, number, line)
    dimensions = len(first.vector) if first else 0

    def batches(size: int) -> Iterator[Batch]:
        position = 0
        for group in _grouped(_lines(path, names, dimensions), size):
            attributes = [line.attributes for line in group]
            yield Batch(
                position,
                [line.id for line in group],
                np.stack([line.vector for line in group]),
                attributes if any(attributes) else None,
            )
            position += len(group)

    return VectorFile(count, dimensions, batches)


class _Line:
    """One vector of a .jsonl file."""

    def __init__(self, path: Path, names: Names, number: int, line: bytes) -> None:
        self._place = f"{path}: line {number}"
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise self._bad(f"is not JSON: {error}") from None
        if not isinstance(fields, dict):
            raise self._bad("is not an object")
        self.id = self._id(fields.get(names.id), names.id)
        self.vector = self._vector(fields.get(names.vector), names.vector)
        self.attributes = self._attributes(fields.get(names.attributes), names.attributes)

    def _bad(self, why: str) -> BadFile:
        return BadFile(f"{self._place} {why}")

    def _id(self, value: Any, name: str) -> bytes:
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise self._bad(f"has no string or integer '{name}'")
        return str(value).encode("utf-8", "surrogatepass")

    def _vector(self, value: Any, name: str) -> Vectors:
        plain = isinstance(value, list) and value
        if not plain or not all(type(number) in (int, float) for number in value):
            raise self._bad(f"has no list of numbers '{name}'")
        try:
            with np.errstate(over="ignore"):
                vector = np.array(value, np.float64).astype("<f4")
        except OverflowError:
            vector = np.full(1, np.inf, np.float32)
        if not np.isfinite(vector).all():
            raise self._bad("has a number that is not finite")
        return vector

    def _attributes(self, value: Any, name: str) -> bytes | None:
        if value is None or isinstance(value, str):
            return value.encode("utf-8", "surrogatepass") if value else None
        if not isinstance(value, dict):
            raise self._bad(f"has '{name}' that are no object")
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(
            "utf-8", "surrogatepass"
        )


def _lines(path: Path, names: Names, dimensions: int) -> Iterator[_Line]:
    with path.open("rb") as lines:
        for number, text in enumerate(lines, 1):
            if not text.strip():
                continue
            line = _Line(path, names, number, text)
            if len(line.vector) != dimensions:
                raise BadFile(
                    f"{path}: line {number} has {len(line.vector)} numbers,"
                    f" the first vector has {dimensions}"
                )
            yield line


def _grouped(lines: Iterator[_Line], size: int) -> Iterator[list[_Line]]:
    group: list[_Line] = []
    for line in lines:
        group.append(line)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
