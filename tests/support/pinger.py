"""A bystander: a client that pings all the time and remembers how long it had to wait."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from tests.support.server import ServerProcess


class Pinger:
    """``with Pinger(server) as pinger: …``; afterwards `longest` is the longest wait, seconds.

    With a *key* it reads that key instead, so that the keyspace is on its path.
    """

    def __init__(self, server: ServerProcess, key: str | None = None, every: float = 0.01) -> None:
        self.waits: list[float] = []
        self.failure: Exception | None = None
        self._command = ("GET", key) if key is not None else ("PING",)
        self._wire = server.wire(timeout=30.0)
        self._every = every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            while not self._stop.wait(self._every):
                begun = time.perf_counter()
                self._wire.ok(*self._command)
                self.waits.append(time.perf_counter() - begun)
        except Exception as error:
            self.failure = error

    def __enter__(self) -> Pinger:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(35.0)
        self._wire.close()
        if kind is None and self.failure is not None:
            raise AssertionError(f"a bystander was affected: {self.failure!r}")

    @property
    def longest(self) -> float:
        return max(self.waits, default=0.0)
