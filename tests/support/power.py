"""A file system in memory that can lose its power, run out of room, or fail any operation.

What is modelled: pages of 4 KB that reach the disk in any order and in any of the versions that
they had since the last sync; directory entries that reach it in order, as with a journal; a failed
fdatasync that leaves pages marked clean although the disk does not hold them.
"""

from __future__ import annotations

import errno
import os
import random
from collections import Counter
from typing import Any

from norikv_resp.commitlog.files import Buffer

PAGE = 4096


class Inode:
    """One file: what reads see, what the disk holds, and the pages in between."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.disk = bytearray()
        self.versions: dict[int, list[bytes]] = {}  # page -> its contents since the last sync
        self.failed = False  # a sync of it failed in this process: never to be synced again

    def write(self, data: bytes, offset: int) -> None:
        end = offset + len(data)
        if end > len(self.data):
            self.data.extend(bytes(end - len(self.data)))
        self.data[offset:end] = data
        for page in range(offset // PAGE, (end + PAGE - 1) // PAGE):
            content = bytes(self.data[page * PAGE : (page + 1) * PAGE])
            self.versions.setdefault(page, []).append(content)

    def reach_disk(self, page: int, content: bytes) -> None:
        end = page * PAGE + len(content)
        if end > len(self.disk):
            self.disk.extend(bytes(end - len(self.disk)))
        self.disk[page * PAGE : end] = content

    def sync(self) -> None:
        for page, versions in self.versions.items():
            self.reach_disk(page, versions[-1])
        self.versions.clear()

    def lose_power(self, rng: random.Random) -> None:
        odds = rng.choice((0.0, 0.5, 0.5, 0.9, 1.0))
        for page, versions in self.versions.items():
            if rng.random() < odds:
                self.reach_disk(page, rng.choice(versions[-2:]))
        self.versions.clear()
        self.data = bytearray(self.disk)

    def fail_sync(self, rng: random.Random) -> None:
        for page, versions in self.versions.items():
            if rng.random() < 0.5:
                self.reach_disk(page, versions[-1])
        self.versions.clear()

    def forget(self) -> None:
        self.data[: len(self.disk)] = self.disk
        self.data[len(self.disk) :] = bytes(len(self.data) - len(self.disk))
        for page, versions in self.versions.items():
            self.data[page * PAGE : page * PAGE + len(versions[-1])] = versions[-1]


class PowerFiles:
    """`Files` in memory; `plan` maps (operation, how many more of it) to what happens then."""

    def __init__(self, rng: random.Random | None = None) -> None:
        self.rng = rng or random.Random(0)
        self.entries: dict[str, Inode] = {}
        self.on_disk: dict[str, Inode] = {}
        self.pending: list[tuple[str, str, Any]] = []  # directory changes not yet synced
        self.open_files: dict[int, Inode] = {}
        self.next_fd = 100
        self.calls: Counter[str] = Counter()
        self.faults: dict[tuple[str, int], int | str] = {}  # errno, or "short"
        self.full = False  # every write and every new file fails

    # ---- faults

    def arm(self, operation: str, countdown: int, what: int | str) -> None:
        """Let the `countdown`-th call of `operation` from now fail with an errno, or be short."""
        self.faults[operation, self.calls[operation] + countdown] = what

    def _call(self, operation: str) -> int | str | None:
        self.calls[operation] += 1
        what = self.faults.pop((operation, self.calls[operation]), None)
        if isinstance(what, int):
            raise OSError(what, os.strerror(what))
        return what

    def lose_power(self) -> None:
        """Keep a prefix of the directory changes and any subset of the pages."""
        kept = self.rng.randint(0, len(self.pending))
        for change in self.pending[:kept]:
            self._apply(self.on_disk, change)
        self.entries = dict(self.on_disk)
        for inode in self.entries.values():
            inode.lose_power(self.rng)
        self.restart()
        self.pending.clear()

    def restart(self) -> None:
        """Forget the process: its descriptors and the faults in store for it."""
        self.open_files.clear()
        for inode in self.entries.values():
            inode.failed = False
        self.faults.clear()
        self.full = False

    @staticmethod
    def _apply(entries: dict[str, Inode], change: tuple[str, str, Any]) -> None:
        kind, name, what = change
        if kind == "link":
            entries[name] = what
        elif kind == "unlink":
            entries.pop(name, None)
        else:
            entries[what] = entries.pop(name)

    def _change(self, *change: Any) -> None:
        self._apply(self.entries, change)
        self.pending.append(change)

    # ---- Files

    def open(self, path: str, flags: int) -> int:
        self._call("open")
        inode = self.entries.get(path)
        if inode is None:
            if not flags & os.O_CREAT:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            if self.full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            inode = Inode()
            self._change("link", path, inode)
        self.next_fd += 1
        self.open_files[self.next_fd] = inode
        return self.next_fd

    def close(self, fd: int) -> None:
        del self.open_files[fd]

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        return bytes(self.open_files[fd].data[offset : offset + size])

    def pwrite(self, fd: int, data: Buffer, offset: int) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = bytes(data)
        if self._call("pwrite") == "short":
            written = written[: len(written) // 2]
        self.open_files[fd].write(written, offset)
        return len(written)

    def fdatasync(self, fd: int) -> None:
        assert not self.open_files[fd].failed, "synced again after its sync failed"
        try:
            self._call("fdatasync")
        except OSError:
            self.open_files[fd].fail_sync(self.rng)
            self.open_files[fd].failed = True
            raise
        self.open_files[fd].sync()

    def size(self, fd: int) -> int:
        return len(self.open_files[fd].data)

    def rename(self, old: str, new: str) -> None:
        self._call("rename")
        self._change("rename", old, new)

    def unlink(self, path: str) -> None:
        self._call("unlink")
        self._change("unlink", path, None)

    def names(self, directory: str) -> list[str]:
        return [os.path.basename(path) for path in self.entries]

    def make_directory(self, path: str) -> None:
        self._call("make_directory")

    def sync_directory(self, path: str) -> None:
        self._call("sync_directory")
        for change in self.pending:
            self._apply(self.on_disk, change)
        self.pending.clear()

    def forget(self, fd: int) -> None:
        self.open_files[fd].forget()
