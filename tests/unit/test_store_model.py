"""The store against a dict, with every completion and every failure at any moment.

Power loss in this model: LevelDB keeps its tables and MANIFEST, its own logs are dropped or
holed, and the commit log keeps any prefix that contains all that was synced.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from norikv_resp.store import ReadFailed, core
from norikv_resp.store.core import Store
from tests.unit.store_fakes import SMALL, Bench, Disk, Trouble

ROWS = [b"m\0\0\0\1%c" % c for c in b"abcdefgh"] + [b"e" + bytes(8) + b"%c" % c for c in b"xyz"]
row = st.sampled_from(ROWS)
value = st.sampled_from([b"", b"1", b"22", b"x" * 900])
LOW, HIGH = b"a", b"z"


class StoreMachine(RuleBasedStateMachine):
    """`history` holds the state after each index; the store may forget only its tail."""

    def __init__(self) -> None:
        super().__init__()
        self.constants = core.MERGE_ROWS, core.UNITE, core.SLACK
        core.MERGE_ROWS, core.UNITE, core.SLACK = 3, 1, 3
        self.path = Path(tempfile.mkdtemp(prefix="store-model-"))
        self.disk = Disk()
        self.policy = "always"
        self.bench: Bench | None = None
        self.history: dict[int, dict[bytes, bytes]] = {0: {}}
        self.state: dict[bytes, bytes] = {}

    @initialize(policy=st.sampled_from(["always", "everysec", "no"]))
    def start(self, policy: str) -> None:
        self.policy = policy
        self.open()

    def open(self) -> None:
        self.trouble = Trouble()
        self.bench = Bench(
            self.path,
            self.disk,
            options=SMALL,
            late=True,
            policy=self.policy,
            opener=self.trouble.open,
        )

    @property
    def store(self) -> Store:
        assert self.bench is not None
        return self.bench.store

    @rule(rows=st.dictionaries(row, value, min_size=1, max_size=6))
    def stage(self, rows: dict[bytes, bytes]) -> None:
        for key, new in rows.items():
            self.store.open[key] = new
            if new:
                self.state[key] = new
            else:
                self.state.pop(key, None)
        self.store.staged += 1

    @rule()
    def seal(self) -> None:
        staged = bool(self.store.open)
        self.store.seal(self.store.staged, self.store.staged)
        if staged:
            self.history[self.store.staged] = dict(self.state)

    @rule(count=st.integers(1, 5))
    def commit(self, count: int) -> None:
        assert self.bench
        self.bench.log.deliver(count)

    @rule()
    def fail(self) -> None:
        assert self.bench
        lost = [index for index in self.history if index > self.store.durable]
        self.bench.log.fail()
        for index in lost:
            del self.history[index]
        old = self.state
        self.state = dict(self.history[max(self.history)])
        dropped, _ = self.bench.heard.rollbacks[-1]
        changed = {key for key in ROWS if old.get(key) != self.state.get(key)}
        assert changed <= dropped

    @rule(seconds=st.sampled_from([0.1, 1.1, 40.0]))
    def tick(self, seconds: float) -> None:
        assert self.bench
        self.bench.tick(seconds)

    @rule()
    def write_step(self) -> None:
        assert self.bench
        self.bench.writer.step()

    @rule()
    def flush_step(self) -> None:
        assert self.bench
        self.bench.flusher.step()

    @rule()
    def ask_for_a_checkpoint(self) -> None:
        assert self.bench
        self.store._settler.request_checkpoint(self.bench.now)

    @rule()
    def leveldb_fails(self) -> None:
        self.trouble.fail_writes = OSError(28, "No space left on device")

    @rule(opens=st.booleans())
    def leveldb_could_work(self, opens: bool) -> None:
        self.trouble.fail_writes = None
        self.trouble.fail_opens = None if opens else OSError(24, "Too many open files")

    @rule(policy=st.sampled_from(["always", "everysec", "no"]))
    def change_policy(self, policy: str) -> None:
        self.policy = policy
        self.store.set_policy(policy)  # type: ignore[arg-type]

    @rule(start=row, stop=row, reverse=st.booleans(), limit=st.none() | st.integers(1, 4))
    def range(self, start: bytes, stop: bytes, reverse: bool, limit: int | None) -> None:
        expected = sorted(item for item in self.state.items() if start <= item[0] < stop)
        if reverse:
            expected.reverse()
        try:
            found = self.store.range(start, stop, reverse=reverse, limit=limit)
        except ReadFailed:
            assert self.trouble.fail_opens
        else:
            assert found == expected[:limit]

    @rule()
    def restart(self) -> None:
        """A clean stop, after the last turn was sealed."""
        self.seal()
        healthy = not (self.store.stats()["leveldb_failure"] or self.trouble.fail_writes)
        self.store.close()
        self.bench = None
        self.open()
        assert not healthy or self.store.stats()["unsettled_records"] == 0
        assert self.store.durable == self.disk.synced

    @rule(keep=st.integers(0, 5), hole=st.booleans())
    @precondition(lambda self: self.bench is not None)
    def power_loss(self, keep: int, hole: bool) -> None:
        assert self.bench
        frozen = self.path.with_name(self.path.name + "-frozen")
        shutil.copytree(self.path, frozen)
        self.bench.kill()
        shutil.rmtree(self.path)
        frozen.rename(self.path)
        for name in os.listdir(self.path / "db"):
            if name.endswith(".log"):
                if hole:
                    size = os.path.getsize(self.path / "db" / name)
                    with open(self.path / "db" / name, "r+b") as file:
                        file.write(bytes(min(size, 100)))
                else:
                    os.unlink(self.path / "db" / name)
        survivors = [frame for frame in self.disk.frames if frame.last <= self.disk.synced]
        unsynced = [frame for frame in self.disk.frames if frame.last > self.disk.synced]
        self.disk.frames = survivors + unsynced[:keep]
        self.bench = None
        self.open()
        found = self.store.durable
        # What a start finds is a state that was, and no synced index is missing.
        assert found in self.history
        self.state = dict(self.history[found])
        self.history = {i: state for i, state in self.history.items() if i <= found}

    @invariant()
    def agrees(self) -> None:
        if self.bench is None:
            return
        try:
            for key in ROWS:
                assert self.store.get(key) == self.state.get(key)
        except ReadFailed:
            assert self.trouble.fail_opens

    def teardown(self) -> None:
        if self.bench is not None:
            self.bench.kill()
        shutil.rmtree(self.path, ignore_errors=True)
        core.MERGE_ROWS, core.UNITE, core.SLACK = self.constants


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=20, stateful_step_count=40, deadline=None)
