"""Workers: order, outcomes, and who hears of them on which thread."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from norikv_resp.worker import InlineWorker, ThreadWorker, Worker
from tests.support.workers import ManualWorker

MAKERS = [InlineWorker, ManualWorker, lambda: ThreadWorker("test", None)]


class Heard:
    """Collects outcomes; each of the first `more` submits one job more."""

    def __init__(self, worker: Worker, more: int = 0) -> None:
        self.worker = worker
        self.more = more
        self.outcomes: list[Any] = []
        self.threads: set[int] = set()

    def submit(self, number: int) -> None:
        def job() -> int:
            if number % 3 == 0:
                raise OSError(number)
            return number

        self.worker.submit(job, self.done)

    def done(self, result: Any, error: Exception | None, seconds: float) -> None:
        assert seconds >= 0.0
        self.outcomes.append(result if error is None else str(error))
        self.threads.add(threading.get_ident())
        if self.more:
            self.more -= 1
            self.submit(100)


@pytest.mark.parametrize("make", MAKERS)
def test_outcomes_come_in_order_and_drain_waits_for_what_they_submit(make: Any) -> None:
    heard = Heard(make(), more=3)
    for number in range(1, 5):
        heard.submit(number)
    heard.worker.drain()
    assert sorted(map(str, heard.outcomes)) == ["1", "100", "100", "100", "2", "3", "4"]
    assert [outcome for outcome in heard.outcomes if outcome != 100] == [1, 2, "3", 4]
    assert heard.threads == {threading.get_ident()}
    heard.submit(5)
    heard.worker.close()
    assert heard.outcomes[-1] == 5


def test_without_a_loop_a_thread_reports_when_asked() -> None:
    worker = ThreadWorker("test", None)
    heard = Heard(worker)
    ran = threading.Event()
    heard.submit(1)
    worker.submit(ran.set, heard.done)
    worker.submit(lambda: None, heard.done)
    assert ran.wait(10.0)
    assert heard.outcomes == []
    worker.deliver()
    assert heard.outcomes[0] == 1
    worker.close()
    assert heard.outcomes == [1, None, None]


def test_with_a_loop_a_thread_reports_on_it_and_after_its_end_when_drained() -> None:
    async def run() -> Heard:
        loop = asyncio.get_running_loop()
        heard = Heard(ThreadWorker("test", loop.call_soon_threadsafe))
        reported = asyncio.Event()
        heard.submit(1)
        heard.worker.submit(lambda: None, lambda *_: reported.set())
        await asyncio.wait_for(reported.wait(), 10.0)
        assert heard.outcomes == [1]
        return heard

    heard = asyncio.run(run())
    for number in (2, 3):
        heard.submit(number)
    heard.worker.close()
    assert heard.outcomes == [1, 2, "3"]
    assert heard.threads == {threading.get_ident()}
