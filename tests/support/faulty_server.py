"""A server whose disk, LevelDB and clock misbehave when a test says so.

``python -m tests.support.faulty_server`` takes norikv-resp's arguments. It is told what to do over
the unix socket that ``NORIKV_TEST_FAULTS`` names, a JSON list in a line (name and arguments), and
answers each with a line of JSON. `FaultyServer` starts one and speaks to it.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.support.late_log import LateLog
from tests.support.server import ServerProcess

VARIABLE = "NORIKV_TEST_FAULTS"
CLOCK_VARIABLE = "NORIKV_TEST_CLOCK"

#: A commit log whose outcomes wait while `hold` says so.
HELD_LOG = "tests.support.faulty_server:HeldLog"

PAGE = 4096


class FaultyServer(ServerProcess):
    """A server process with a line to its faults; `clock` is the wall clock's offset in s."""

    def __init__(self, *extra: str, clock: int = 0, **options: Any) -> None:
        command = [sys.executable, "-m", "tests.support.faulty_server"]
        super().__init__(*extra, command=command, start=False, **options)
        self.data.rmdir()
        self.faults_path = str(self.home / "f")
        self.set_clock(clock)

    def set_clock(self, offset: int) -> None:
        """The wall clock of the next start."""
        self.env = {**os.environ, VARIABLE: self.faults_path, CLOCK_VARIABLE: str(offset)}

    def tell(self, name: str, *arguments: Any) -> Any:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(10.0)
            line.connect(self.faults_path)
            line.sendall(json.dumps([name, *arguments]).encode() + b"\n")
            return json.loads(line.makefile().readline())

    def wait(self, condition: Any, seconds: float = 15.0) -> dict[str, Any]:
        """Until *condition* holds for the store's figures."""
        deadline = time.monotonic() + seconds
        while True:
            stats: dict[str, Any] = self.tell("stats")
            if condition(stats):
                return stats
            assert time.monotonic() < deadline, stats
            time.sleep(0.02)


# ---- inside the server's process


class Faults:
    """What goes wrong at the moment; the control thread changes it."""

    def __init__(self) -> None:
        self.offset = int(os.environ.get(CLOCK_VARIABLE, "0"))
        self.calls: Counter[str] = Counter()
        self.armed: dict[tuple[str, int], str] = {}
        self.full = False
        self.free: int | None = None
        self.leveldb = threading.Event()  # Cleared: LevelDB's writes stall.
        self.leveldb.set()
        self.commits = threading.Event()  # Cleared: outcomes of a HeldLog wait.
        self.commits.set()
        #: What a power cut would leave of each page that was written since the last sync.
        self.dirty: dict[str, dict[int, bytes]] = {}
        self.store: Any = None

    def call(self, operation: str) -> str:
        """Count a call; what is to happen to it. The making of spare segments is not counted:
        it goes on beside, and would take the fault that is meant for a frame."""
        if threading.current_thread().name == "commitlog-spares":
            return ""
        self.calls[operation] += 1
        what = self.armed.pop((operation, self.calls[operation]), "")
        if what and what != "short":
            number = getattr(errno, what)
            raise OSError(number, os.strerror(number))
        return what

    # The names that a test can send.

    def arm(self, operation: str, countdown: int, what: str) -> None:
        self.armed[operation, self.calls[operation] + countdown] = what

    def fill(self, full: bool) -> None:
        self.full = full

    def set_free(self, free: int | None) -> None:
        self.free = free

    def set_clock(self, offset: int) -> None:
        self.offset = offset

    def stall(self, stalled: bool) -> None:
        (self.leveldb.clear if stalled else self.leveldb.set)()

    def hold(self, held: bool) -> None:
        (self.commits.clear if held else self.commits.set)()

    def stats(self) -> Any:
        return self.store.stats()

    def unsynced(self) -> dict[str, list[tuple[int, str]]]:
        """Pages of the commit log's files that a power cut can lose, with their old content."""
        return {
            name: [(page, old.hex()) for page, old in pages.items()]
            for name, pages in self.dirty.items()
        }


faults = Faults()


class HeldLog(LateLog):
    """A late log whose outcomes can be held back."""

    def _deliver_late(self) -> None:
        assert self._loop is not None
        while (late := self._outcomes.get()) is not None:
            due, outcome = late
            time.sleep(max(0.0, due - time.monotonic()))
            faults.commits.wait()
            self._loop.call_soon_threadsafe(outcome)


def _name(fd: int) -> str:
    return os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))


def pwrite(fd: int, data: Any, offset: int) -> int:
    if faults.full:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if faults.call("pwrite") == "short":
        data = memoryview(data)[: len(data) // 2]
    pages = faults.dirty.setdefault(_name(fd), {})
    for page in range(offset // PAGE, (offset + len(data) + PAGE - 1) // PAGE):
        if page not in pages:
            pages[page] = os.pread(fd, PAGE, page * PAGE)
    return os.pwrite(fd, data, offset)


def fdatasync(fd: int) -> None:
    faults.dirty.pop(_name(fd), None)  # What is written from now on may be lost.
    faults.call("fdatasync")
    os.fdatasync(fd)


class FaultyDB:
    """LevelDB: once a write has failed it fails until it is opened again."""

    def __init__(self, path: Path, options: Any) -> None:
        from norikv_resp.store.leveldb import open_leveldb

        self.broken = False
        self._db: Any = open_leveldb(path, options)

    def write_batch(self) -> Any:
        batch = self._db.write_batch()

        def write() -> None:
            faults.leveldb.wait()
            self.broken = self.broken or faults.full
            if self.broken:
                from norikv_resp.store.leveldb import LevelDBError

                raise LevelDBError("IO error: No space left on device")
            batch.write()

        return SimpleNamespace(put=batch.put, delete=batch.delete, write=write)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


def answer(listener: socket.socket) -> None:
    while True:
        line, _ = listener.accept()
        with line:
            name, *arguments = json.loads(line.makefile().readline())
            result = getattr(faults, name)(*arguments)
            line.sendall(json.dumps(result).encode() + b"\n")


def main() -> int:
    import norikv_resp.clock
    import norikv_resp.datadir
    from norikv_resp.__main__ import main as run
    from norikv_resp.commitlog import OsFiles
    from norikv_resp.store import open_store
    from norikv_resp.store.recovery import DataDirectory

    def open_faulty(*args: Any, **options: Any) -> Any:
        faults.store = open_store(*args, **options, opener=FaultyDB)
        return faults.store

    free_bytes = DataDirectory.free_bytes
    patches: list[tuple[Any, str, Any]] = [
        (OsFiles, "pwrite", staticmethod(pwrite)),
        (OsFiles, "fdatasync", staticmethod(fdatasync)),
        (DataDirectory, "free_bytes", lambda self: faults.free or free_bytes(self)),
        (
            norikv_resp.clock,
            "time",
            SimpleNamespace(time_ns=lambda: time.time_ns() + faults.offset * 10**9),
        ),
        (norikv_resp.datadir, "open_store", open_faulty),
    ]
    for owner, name, patch in patches:
        setattr(owner, name, patch)
    path = os.environ[VARIABLE]
    if os.path.exists(path):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    threading.Thread(target=answer, args=(listener,), daemon=True).start()
    return run()


if __name__ == "__main__":
    # Under the name that HELD_LOG imports, so that there is one `faults`.
    from tests.support.faulty_server import main as main_by_name

    sys.exit(main_by_name())
