"""The door to the file system: every file operation of the commit log, replaceable by tests."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Protocol

from norikv_resp.durable import make_directory, sync_directory

Buffer = bytes | bytearray | memoryview


class Files(Protocol):
    """File operations by descriptor, with the meaning and the errors of their `os` namesakes."""

    @property
    def pwrite(self) -> Callable[[int, Buffer, int], int]:
        """Write at an offset; may write less than asked."""

    @property
    def fdatasync(self) -> Callable[[int], None]:
        """Put a file's content and size on disk."""

    def open(self, path: str, flags: int) -> int: ...
    def close(self, fd: int) -> None: ...
    def pread(self, fd: int, size: int, offset: int) -> bytes: ...
    def size(self, fd: int) -> int: ...
    def rename(self, old: str, new: str) -> None: ...
    def unlink(self, path: str) -> None: ...
    def names(self, directory: str) -> list[str]: ...
    def make_directory(self, path: str) -> None:
        """Make `path` and what is missing above it, mode 0700, durably."""

    def sync_directory(self, path: str) -> None:
        """Put a directory's entries on disk."""

    def forget(self, fd: int) -> None:
        """Drop the clean cached pages of a file, so that reading shows what the disk holds."""


class OsFiles:
    """The real file system."""

    pwrite = staticmethod(os.pwrite)
    fdatasync = staticmethod(os.fdatasync)

    def open(self, path: str, flags: int) -> int:
        return os.open(path, flags | os.O_CLOEXEC, 0o600)

    def close(self, fd: int) -> None:
        os.close(fd)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        return os.pread(fd, size, offset)

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def names(self, directory: str) -> list[str]:
        return os.listdir(directory)

    def make_directory(self, path: str) -> None:
        make_directory(path)

    def sync_directory(self, path: str) -> None:
        sync_directory(path)

    def forget(self, fd: int) -> None:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def write_fully(files: Files, fd: int, data: Buffer, offset: int) -> None:
    """Write all of `data`, continuing short writes; OSError when no byte more can be written."""
    written = files.pwrite(fd, data, offset)
    if written == len(data):
        return
    view = memoryview(data)
    while written < len(view):
        step = files.pwrite(fd, view[written:], offset + written)
        if step == 0:
            raise OSError(errno.EIO, "write made no progress")
        written += step


def read_fully(files: Files, fd: int, size: int) -> bytes:
    """Read the first `size` bytes, fewer only when the file is shorter."""
    pieces = []
    done = 0
    while done < size:
        piece = files.pread(fd, min(size - done, 1 << 30), done)
        if not piece:
            break
        pieces.append(piece)
        done += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
