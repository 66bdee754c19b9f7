"""Changes to directories that survive a power failure."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def sync_directory(path: str | Path) -> None:
    """Put a directory's entries on disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directory(path: str | Path) -> None:
    """Make `path` and what is missing above it, mode 0700, durably."""
    missing = Path(path).absolute()
    made = []
    while not missing.exists():
        made.append(missing)
        missing = missing.parent
    for directory in reversed(made):
        directory.mkdir(mode=0o700, exist_ok=True)
        sync_directory(directory.parent)


def replace_file(path: str | Path, content: bytes, mode: int) -> None:
    """Give a file a new content as a whole, durably, and `mode`. Raises OSError."""
    path = Path(path).absolute()
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.tmp-", dir=path.parent)
    try:
        with open(handle, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    sync_directory(path.parent)
