"""A small model of what a commit log promises, compared with the log at every crash."""

from __future__ import annotations

import errno
import random

from norikv_resp.commitlog import CommitError, Frame, Limits, SegmentLog
from norikv_resp.commitlog.policy import SyncPolicy
from norikv_resp.worker import Worker
from tests.support.power import PowerFiles
from tests.support.workers import ManualWorker


class FixedPolicy(SyncPolicy):
    """Always on the loop, or always in the thread."""

    def __init__(self, inline: bool) -> None:
        super().__init__()
        self.inline = inline

    def note(self, seconds: float) -> None:
        pass


class Model:
    """Drives a log over `PowerFiles` and keeps, in a few lists, what must come back.

    `history` holds the frames committed so far, `flying` those appended and without an outcome.
    `alternatives` are the other histories that a crash may reveal: (how much of `history`, what
    then), for frames whose outcome was reported as unknown.
    """

    def __init__(
        self,
        seed: int,
        *,
        size: int = 32768,
        mode: str = "mixed",
        manual: bool | None = None,
        inline: bool | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.rng = random.Random(seed)
        self.files = PowerFiles(self.rng)
        self.size = size
        self.mode = mode  # of the frames: "always" synced, "no" or "mixed"
        self.manual = manual  # calls wait for the test, or are made at once; None: either
        self.inline = inline  # syncs on the loop, or in the thread; None: either
        self.limits = limits or Limits()
        self.time = 0.0
        self.history: list[Frame] = []
        self.flying: list[tuple[Frame, bool]] = []
        self.alternatives: list[tuple[int, list[Frame]]] = []
        self.durable = 0  # frames of history that a power loss must leave
        self.settled = 0  # index that LevelDB holds everything through
        self.term = 0
        self.failures: list[CommitError] = []
        self.open()

    # ---- the log and its listener

    def open(self) -> None:
        worker: Worker | None = None
        tender: Worker | None = None
        self.workers: list[ManualWorker] = []
        if self.rng.random() < 0.7 if self.manual is None else self.manual:
            worker, tender = self.workers = [ManualWorker(), ManualWorker()]
        self.log = SegmentLog(
            "/log",
            segment_size=self.size,
            limits=self.limits,
            files=self.files,
            worker=worker,
            tender=tender,
            spares=self.rng.choice((0, 1, 2)),
            policy=FixedPolicy(self.rng.random() < 0.5 if self.inline is None else self.inline),
            now=lambda: self.time,
        )
        recovered = list(self.log.recover(self.settled))
        self.compare(recovered)
        assert self.log.term >= self.term, (self.log.term, self.term)
        self.term += 1
        self.index = self.log.start(self.term, self)
        assert self.index > max((f.last for f in self.history), default=self.settled)
        self.sync_flags = (True, False) if self.mode == "mixed" else (self.mode == "always",)

    def compare(self, recovered: list[Frame]) -> None:
        """Check a recovery against what was promised, and take it as the new history."""
        settled = sum(frame.last <= self.settled for frame in self.history)
        least = max(self.durable, settled)
        flying = [frame for frame, _ in self.flying]
        futures = [*self.alternatives, (len(self.history), flying)]
        possible = [self.history[:length] for length in range(least, len(self.history) + 1)]
        for kept, then in futures:
            if kept >= least:
                whole = self.history[:kept] + then
                possible += [whole[:length] for length in range(kept, len(whole) + 1)]
        for history in possible:
            if recovered == history[settled:]:
                self.history = history
                break
        else:
            raise AssertionError(
                f"recovered {[f.last for f in recovered]}, promised"
                f" {[f.last for f in self.history[:least]]} of"
                f" {[f.last for f in self.history]}, settled {self.settled},"
                f" alternatives {[(k, [f.last for f in t]) for k, t in futures]}"
            )
        self.flying.clear()
        self.alternatives.clear()
        self.durable = len(self.history)

    def on_commit(self, last: int) -> None:
        assert self.flying and last > self.log_last
        while self.flying and self.flying[0][0].last <= last:
            frame, sync = self.flying.pop(0)
            self.history.append(frame)
            if sync:
                self.durable = len(self.history)
        assert self.history[-1].last == last

    def on_failure(self, error: CommitError) -> None:
        assert self.flying
        self.failures.append(error)
        dropped = [frame for frame, _ in self.flying]
        if error.outcome == "unknown":
            self.alternatives.append((len(self.history), dropped))
        self.flying.clear()

    def on_synced(self, last: int) -> None:
        assert last <= self.log_last
        covered = sum(frame.last <= last for frame in self.history)
        self.durable = max(self.durable, covered)

    @property
    def log_last(self) -> int:
        return self.history[-1].last if self.history else self.settled

    # ---- what can happen

    def append(self, size: int = 100, sync: bool | None = None) -> None:
        first = self.index
        last = first + self.rng.randint(0, 2)
        self.index = last + 1
        rows = {b"key%05d" % last: last.to_bytes(4, "big") * (size // 4), b"gone": b""}
        frame = Frame(first, last, self.term, max(self.log.clock, 1000 + last), rows)
        sync = self.rng.choice(self.sync_flags) if sync is None else sync
        self.flying.append((frame, sync))
        self.log.append(frame, sync)

    def free(self) -> None:
        """Settle some of what is on disk, and give its log back."""
        if self.durable:
            self.settled = max(self.settled, self.history[self.rng.randrange(self.durable)].last)
            self.log.free(self.settled)

    def work(self) -> None:
        busy = [worker for worker in self.workers if worker.jobs]
        if busy:
            self.rng.choice(busy).step()

    def finish(self) -> None:
        """Let every call in flight happen."""
        while any(worker.jobs for worker in self.workers):
            self.work()

    def fault(self) -> None:
        operation = self.rng.choice(("pwrite", "fdatasync", "pwrite", "fdatasync", "open"))
        error: int | str = self.rng.choice((errno.EIO, errno.ENOSPC))
        if operation == "pwrite" and self.rng.random() < 0.4:
            error = "short"
        self.files.arm(operation, self.rng.randint(1, 4), error)

    def lose_power(self) -> None:
        self.files.lose_power()
        self.open()

    def kill(self) -> None:
        """Kill the process: what was handed to the operating system is there, if no sync failed."""
        if self.log.failure is None:
            self.durable = len(self.history)
        self.files.restart()
        self.open()

    def run(self, steps: int, faults: float = 0.0) -> None:
        """Do `steps` random things."""
        for _ in range(steps):
            self.time += self.rng.choice((0.01, 0.3))
            chance = self.rng.random()
            if chance < faults:
                self.fault()
            elif chance < 0.5:
                self.append()
            elif chance < 0.56:
                self.append(self.rng.choice((3000, 9000, 3 * self.size)))
            elif chance < 0.62:
                self.log.sync()
            elif chance < 0.68:
                self.free()
            else:
                self.work()
            self.log.check()
