"""The server's side of the index process, on a loop of its own, with a process that misbehaves."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from norikv_resp.vector_rows import (
    F32,
    HNSW,
    L2,
    attributes_row,
    encode_attributes,
    encode_label,
    encode_vector,
    member_row,
    vector_row,
)
from tests.modules import part

supervisor = part("vector.supervisor")
indexing = part("vector.indexing")
pacing = part("vector.pacing")
scan = part("vector.scan")
views = part("vector.views")
queries = part("vector.queries")
messages = part("vector.indexer.messages")

FAKE = Path(__file__).with_name("fake_index.py")
DIMENSIONS = 4
DEFINITION = messages.Definition(DIMENSIONS, L2, HNSW, F32, 16, 128, 0)


class Rows:
    """A set's rows in a dict, as `Elements` reads them."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        return self.rows.get(key)

    def range(
        self,
        start: bytes = b"",
        stop: bytes | None = None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> list[tuple[bytes, bytes]]:
        keys = sorted(k for k in self.rows if start <= k and (stop is None or k < stop))
        return [(key, self.rows[key]) for key in (keys[::-1] if reverse else keys)[:limit]]


class Setting:
    """A set, the process, and everything between them."""

    #: Every index process that a test has seen.
    started: ClassVar[list[int]] = []

    def __init__(self, *faults: str, deadline: float = 0.3) -> None:
        self.loop = asyncio.get_running_loop()
        self.rows = Rows()
        self.next_label = 1
        self.rollbacks = 0
        self.by_scan = 0
        self.faults = list(faults)
        self.lasting = False
        self.pids: list[int] = []
        self.pacer = pacing.Pacer(self.loop)
        self.scanner = scan.Scanner(
            self.loop, self.pacer, lambda cid: self.rows, lambda: self.rollbacks
        )
        self.process = supervisor.Supervisor(self.loop, self.command, deadline)
        self.indexing = indexing.Indexing(
            self.loop, self.pacer, self.process, lambda cid: self.rows, self
        )
        self.process.listener = self.indexing

    def command(self, fd: int) -> list[str]:
        faults = self.faults
        if not self.lasting:
            self.faults = []  # the next process is a good one
        return [sys.executable, str(FAKE), str(fd), *faults]

    # What the index asks of its surroundings.

    def search_rows(self, view: Any, query: Any, answer: Any) -> None:
        self.by_scan += 1
        self.scanner.search(view.cid, L2, query, self.next_label, answer)

    def next_label_of(self, view: Any) -> int:
        return self.next_label

    def is_future(self, version: tuple[int, int]) -> bool:
        return False

    def checkpoints_found(self, hello: Any) -> None:
        self.pids.append(hello.pid)
        self.started.append(hello.pid)

    def checkpointed(self, view: Any, report: Any) -> None:
        pass

    def now_served(self, view: Any) -> None:
        for query, answer in self.scanner.unanswered(view.cid):
            self.indexing.search(view, query, answer)

    def process_lost(self) -> None:
        pass

    # What commands do.

    def add(self, ident: bytes, *values: float, attributes: bytes | None = None) -> int:
        vector = np.array(values, "<f4")
        label, self.next_label = self.next_label, self.next_label + 1
        old = self.rows.rows.get(member_row(ident))
        self.rows.rows[member_row(ident)] = encode_label(label)
        self.rows.rows[vector_row(label)] = encode_vector(1, label, vector.tobytes(), ident)
        if attributes is not None:
            self.rows.rows[attributes_row(label)] = encode_attributes(attributes)
        view = self.indexing.sets.get(1)
        if view is not None:
            view.added(label, ident, vector.tobytes(), attributes)
            self.indexing.changed(view)
        if old is not None:
            self.forget(int.from_bytes(old, "little"))
        return label

    def remove(self, ident: bytes) -> None:
        self.forget(int.from_bytes(self.rows.rows.pop(member_row(ident)), "little"))

    def forget(self, label: int) -> None:
        del self.rows.rows[vector_row(label)]
        self.rows.rows.pop(attributes_row(label), None)
        view = self.indexing.sets.get(1)
        if view is not None:
            view.removed(label)
            self.indexing.changed(view)

    def fill(self, count: int) -> None:
        for number in range(count):
            self.add(b"e%d" % number, float(number), 0.0, 0.0, 0.0)

    def serve(self) -> Any:
        view = self.indexing.serve(1, DEFINITION, start=True)
        view.count = self.next_label - 1
        return view

    async def search(self, near: float, count: int = 3, **more: Any) -> list[bytes]:
        vector = np.array([near, 0.0, 0.0, 0.0], "<f4")
        query = queries.Query(vector, count, **more)
        view = self.indexing.sets[1]
        answer = queries.Answer(self.loop, queries.as_found)
        if self.indexing.can_search(view, query):
            self.indexing.search(view, query, answer)
        else:
            self.search_rows(view, query, answer)
        return [hit.id for hit in await asyncio.wait_for(answer, 10.0)]

    async def until(self, condition: Callable[[], bool]) -> None:
        deadline = self.loop.time() + 20.0
        while not condition():
            assert self.loop.time() < deadline
            await asyncio.sleep(0.005)

    async def served(self) -> Any:
        view = self.indexing.sets[1]
        await self.until(lambda: view.phase is views.Phase.SERVED)
        return view

    async def close(self) -> None:
        self.pacer.close()
        await self.process.close(2.0)
        await asyncio.sleep(0)


def play(scene: Callable[[Setting], Awaitable[None]], *faults: str, **more: Any) -> None:
    """Run a scene, and see that nothing of it stays behind."""

    async def run() -> None:
        setting = Setting(*faults, **more)
        try:
            await scene(setting)
        finally:
            await setting.close()
        assert not setting.indexing._asked and not setting.process._ending
        for pid in setting.pids:
            with pytest.raises(ProcessLookupError):  # ended, and reaped
                os.kill(pid, 0)

    asyncio.run(run())


def test_a_set_is_fed_and_then_follows_changes() -> None:
    async def scene(at: Setting) -> None:
        at.fill(300)
        at.serve()
        assert await at.search(100.2) == [b"e100", b"e101", b"e99"]  # by the rows
        at.add(b"while-fed", 100.1, 0.0, 0.0, 0.0)
        at.remove(b"e7")
        await at.served()
        by_scan = at.by_scan
        assert await at.search(100.2) == [b"while-fed", b"e100", b"e101"]
        assert await at.search(7.0, 2) == [b"e6", b"e8"]
        at.add(b"new", 50.0, 0.1, 0.0, 0.0)
        assert await at.search(50.0, 2) == [b"e50", b"new"]
        at.add(b"new", 200.0, 0.1, 0.0, 0.0)
        assert await at.search(200.0, 2) == [b"e200", b"new"]
        assert b"new" not in await at.search(50.0, 5)
        at.remove(b"e200")
        assert await at.search(200.0, 1) == [b"new"]
        assert at.by_scan == by_scan

    play(scene)


def test_a_long_search_by_the_rows_ends_once_the_process_has_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def endless(elements: Any, first: int, dimensions: int, limit: int) -> Any:
        return read_vectors(elements, 1, dimensions, 1)

    read_vectors = scan.read_vectors
    monkeypatch.setattr(scan, "read_vectors", endless)

    async def scene(at: Setting) -> None:
        at.fill(300)
        at.serve()
        found = await asyncio.gather(at.search(100.2), at.search(7.0, 1))
        assert found == [[b"e100", b"e101", b"e99"], [b"e7"]]
        assert (at.by_scan, at.scanner.answered) == (2, 0)
        await at.until(lambda: not at.scanner._waiting)

    play(scene)


@pytest.mark.parametrize("fault", ["die-at-search", "garbage", "fail", "stop-at-search"])
def test_a_search_survives_a_process_that(fault: str) -> None:
    async def scene(at: Setting) -> None:
        at.fill(50)
        at.serve()
        await at.served()
        found = await asyncio.gather(*(at.search(float(n), 1) for n in range(20)))
        assert found == [[b"e%d" % n] for n in range(20)]
        assert at.by_scan >= (20 if fault != "stop-at-search" else 1)
        if fault != "fail":
            await at.until(lambda: len(at.pids) == 2)
            await at.served()
            at.by_scan = 0
            assert await at.search(3.0, 1) == [b"e3"]
            assert at.by_scan == 0

    play(scene, fault)


def test_a_process_that_reads_nothing_is_replaced_and_feeding_waits_for_it() -> None:
    async def scene(at: Setting) -> None:
        at.fill(200)
        view = at.serve()
        await at.until(lambda: len(at.pids) == 1)
        for number in range(200):
            at.add(b"x%d" % number, 1000.0, float(number), 0.0, 0.0)
        assert view.fed == 0
        await at.until(lambda: len(at.pids) == 2)
        await at.served()
        assert await at.search(1000.0, 1) == [b"x0"]

    play(scene, "deaf", deadline=0.1)


def test_hits_that_were_removed_meanwhile_are_replaced() -> None:
    async def scene(at: Setting) -> None:
        at.fill(50)
        at.serve()
        await at.served()
        searching = asyncio.ensure_future(at.search(10.0, 3))
        await asyncio.sleep(0)  # it is on its way
        for name in (b"e10", b"e11"):
            at.remove(name)
        assert await searching == [b"e9", b"e8", b"e12"]

    play(scene)


def test_a_process_that_keeps_showing_removed_hits_is_not_believed() -> None:
    async def scene(at: Setting) -> None:
        at.fill(50)
        view = at.serve()
        await at.served()
        view.trusted = False  # as after an attachment from a checkpoint
        for number in range(10, 40):
            at.remove(b"e%d" % number)
        assert await at.search(25.0, 2) == [b"e40", b"e9"]

    play(scene, "stale")


def test_a_checkpoint_that_differs_from_the_rows_is_not_used() -> None:
    async def scene(at: Setting) -> None:
        at.fill(50)
        at.serve()
        await at.served()
        assert at.indexing.discarded == 1
        by_scan = at.by_scan
        assert await at.search(10.0, 1) == [b"e10"]
        assert at.by_scan == by_scan

    play(scene, "checkpoint=20")


def test_a_process_that_dies_of_a_checkpoint_is_told_to_ignore_it() -> None:
    async def scene(at: Setting) -> None:
        at.lasting = True
        at.fill(50)
        at.serve()
        await at.served()
        assert len(at.pids) == indexing.CRASHES + 1

    play(scene, "die-at-attach", "checkpoint=20")


def test_a_failed_commit_is_undone() -> None:
    async def scene(at: Setting) -> None:
        at.fill(50)
        view = at.serve()
        await at.served()
        kept = dict(at.rows.rows)
        label = at.add(b"never", 10.1, 0.0, 0.0, 0.0)
        at.remove(b"e10")
        assert await at.search(10.0, 1) == [b"never"]
        searching = asyncio.ensure_future(at.search(10.0, 1))
        await asyncio.sleep(0)
        at.rows.rows = kept
        at.rollbacks += 1
        at.indexing.restore(view, [(label, False), (11, True)])
        assert await searching == [b"e10"]
        assert b"never" not in await at.search(10.0, 10)

    play(scene)


def test_filtered_searches_are_served_once_attributes_are_fed() -> None:
    filters = part("vector.filters")

    async def scene(at: Setting) -> None:
        at.fill(50)
        red = b'{"colour": "red"}'
        at.add(b"red", 10.0, 1.0, 0.0, 0.0, attributes=red)
        view = at.serve()
        await at.served()
        wanted = filters.parse(b'.colour == "red"')
        assert await at.search(10.0, 3, filter=wanted) == [b"red"]
        assert at.by_scan == 1
        await at.until(lambda: view.attributes_fed == views.ALL)
        assert at.indexing.can_search(view, queries.Query(np.zeros(4, "<f4"), 1, filter=wanted))

    play(scene)


def test_the_loop_is_not_held_up_by_long_work() -> None:
    async def scene(at: Setting) -> None:
        at.fill(3000)
        at.serve()
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        counting = asyncio.ensure_future(count())
        assert await at.search(10.0, 1) == [b"e10"]
        await at.served()
        counting.cancel()
        assert turns > 20

    play(scene)


@pytest.fixture(autouse=True)
def no_process_stays() -> Iterator[None]:
    Setting.started.clear()
    yield
    for pid in Setting.started:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
