"""Processes that attack a pattern together, some of which do not live to tell.

A worker is a coroutine function registered with `worker`; ``python -m tests.patterns.workers NAME
URL OPTIONS`` runs one. It says "ready", waits for a line on standard input so that all begin
together, and reports by lines of JSON, each written at once: what a killed worker has reported
counts.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from norikv_resp.client import ClientConfig, NoriKVClient, RetryConfig
from tests.support.cutting_proxy import Cut, CuttingProxy
from tests.support.server import ROOT

Report = Callable[..., None]
Worker = Callable[[NoriKVClient, dict[str, Any], Report], Awaitable[None]]

#: Seconds that any worker may take; only a defect takes so long.
PATIENCE = 50.0

WORKERS: dict[str, Worker] = {}


def worker(function: Worker) -> Worker:
    """Register a worker under its function's name."""
    WORKERS[function.__name__] = function
    return function


def stubborn(url: str) -> NoriKVClient:
    """A client that goes on trying while a server is killed and started again."""
    retry = RetryConfig(max_attempts=10_000, max_delay_ms=100, deadline_ms=40_000)
    return NoriKVClient(ClientConfig(nodes=[url], timeout_ms=3000, retry=retry))


class Crew:
    """Several processes of one worker. ``with Crew("count", url, 3, key="k") as crew: …``"""

    def __init__(self, name: str, url: str, size: int, **options: Any) -> None:
        self.processes = [
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.patterns.workers", name, url),
                    json.dumps({"number": number, **options}),
                ],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(size)
        ]
        self.reports: list[list[Any]] = [[] for _ in self.processes]
        self._readers = [
            threading.Thread(target=self._read, args=(process, reports))
            for process, reports in zip(self.processes, self.reports, strict=True)
        ]
        self._ready = threading.Semaphore(0)

    def _read(self, process: subprocess.Popen[str], reports: list[Any]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if line == "ready\n":
                self._ready.release()
            elif line.endswith("\n"):
                reports.append(json.loads(line))

    def __enter__(self) -> Crew:
        for reader in self._readers:
            reader.start()
        for _ in self.processes:
            assert self._ready.acquire(timeout=PATIENCE), "a worker does not get ready"
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        for reader in self._readers:
            reader.join()
        for process in self.processes:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.close()
            process.stdout.close()

    def wait_for(self, count: int, number: int | None = None) -> None:
        """Until *count* reports have come, from all workers together or from one."""
        deadline = time.monotonic() + PATIENCE
        while sum(map(len, self.reports if number is None else [self.reports[number]])) < count:
            assert time.monotonic() < deadline, f"only {self.reports}"
            time.sleep(0.005)

    def kill(self, number: int) -> None:
        """End a worker without warning."""
        self.processes[number].kill()
        self.processes[number].wait()

    def pause(self, number: int) -> None:
        self.processes[number].send_signal(signal.SIGSTOP)

    def resume(self, number: int) -> None:
        self.processes[number].send_signal(signal.SIGCONT)

    def finish(self) -> list[list[Any]]:
        """Wait until all have ended by themselves, or were killed; their reports."""
        for number, process in enumerate(self.processes):
            status = process.wait(PATIENCE)
            assert status in (0, -signal.SIGKILL), f"worker {number} ended with {status}"
        for reader in self._readers:
            reader.join()
        return self.reports


@contextmanager
def shaky(port: int, every: int = 4000) -> Iterator[str]:
    """The URL of a proxy that cuts a connection once in about *every* bytes, either way."""
    loop = asyncio.new_event_loop()
    over = asyncio.Event()
    found: list[str] = []
    up = threading.Event()

    async def run() -> None:
        async with CuttingProxy(port) as proxy:
            found.append(f"redis://127.0.0.1:{proxy.port}")
            up.set()
            while not over.is_set():
                where = random.randrange(every // 2, every * 3 // 2)
                proxy.arm(random.choice([Cut(request=where), Cut(reply=where)]))
                while not proxy.cuts and not over.is_set():
                    await asyncio.sleep(0.002)

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    assert up.wait(PATIENCE)
    try:
        yield found[0]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


async def main(name: str, url: str, options: dict[str, Any]) -> None:
    """What a worker's process does."""

    def report(*facts: Any) -> None:
        print(json.dumps(facts), flush=True)

    async with stubborn(url) as client:
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        await WORKERS[name](client, options, report)
