"""The vectors of one generation of a set as they were given: float32 rows in a file.

Row by row, without a header: row *slot* begins at byte `slot * dimensions * 4`. The file is written
with pwrite and read through a shared mapping, so it takes page cache and no memory of the process.
A row that a checkpoint covers is never written again. What the file holds behind the rows in use is
of no meaning: zeros, or rows of a life that ended before its next checkpoint.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

Matrix = npt.NDArray[np.float32]

#: Rows are checksummed in blocks of about so many bytes.
BLOCK = 4 << 20

_SMALLEST = 1 << 20


class VectorFile:
    """The rows of one generation. Raises OSError where the file system does."""

    def __init__(self, path: Path, dimensions: int, *, create: bool) -> None:
        self.path = path
        self._dimensions = dimensions
        self._width = 4 * dimensions
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_TRUNC if create else 0)
        self._fd = os.open(path, flags, 0o600)
        self._map: mmap.mmap | None = None
        #: Every row that the file has room for.
        self.rows: Matrix = np.empty((0, dimensions), np.float32)
        self._map_all(os.fstat(self._fd).st_size // self._width)

    def write(self, slot: int, rows: Matrix) -> None:
        """Put rows from `slot` on; `rows` is contiguous."""
        if slot + len(rows) > len(self.rows):
            self._grow(slot + len(rows))
        data = memoryview(rows.data).cast("B")
        at = slot * self._width
        while data:
            written = os.pwrite(self._fd, data, at)
            data = data[written:]
            at += written

    def checksums(self, count: int) -> list[int]:
        """xxh3_64 of each block of the first `count` rows; fewer if the file is too short."""
        end = count * self._width
        sums = []
        for at in range(0, end, BLOCK):
            data = os.pread(self._fd, min(BLOCK, end - at), at)
            sums.append(xxhash.xxh3_64_intdigest(data))
        return sums

    def sync(self) -> None:
        """Put what was written on disk."""
        os.fsync(self._fd)

    def release(self) -> None:
        """Give back the pages that reading has mapped; they stay in the page cache."""
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Nothing may be read or written any more."""
        self.rows = np.empty((0, self._dimensions), np.float32)
        self._map = None
        os.close(self._fd)

    def delete(self) -> None:
        """Close, and remove the file."""
        self.close()
        self.path.unlink(missing_ok=True)

    def _grow(self, least: int) -> None:
        wanted = max(least, len(self.rows) + len(self.rows) // 4, _SMALLEST // self._width + 1)
        os.ftruncate(self._fd, wanted * self._width)
        self._map_all(wanted)

    def _map_all(self, count: int) -> None:
        # The old mapping goes with the last array that reads it.
        if count == 0:
            return
        self._map = mmap.mmap(self._fd, count * self._width, mmap.MAP_SHARED, mmap.PROT_READ)
        flat: npt.NDArray[Any] = np.frombuffer(self._map, np.float32)
        self.rows = flat.reshape(count, self._dimensions)
