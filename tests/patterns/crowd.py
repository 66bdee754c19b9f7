"""Several processes that use one server at the same time, and may be killed at any moment.

A *member* is a process that runs one coroutine, a function of a test module. What it has been
promised by the server it tells the test at once, so that the test knows it whatever happens to the
member afterwards.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from norikv_resp.client import NoriKVClient, RetryConfig
from tests.support.server import ServerProcess

#: Processes are forked from one that has the imports done.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.patterns.crowd", "norikv_resp.patterns"])

#: Long enough for a server that is killed and started again.
PATIENT = RetryConfig(max_attempts=1000, initial_delay_ms=5, max_delay_ms=50, jitter_ms=5)


def url_of(server: ServerProcess) -> str:
    """Where a client finds *server*."""
    return f"redis://127.0.0.1:{server.port}"


def patient(url: str) -> NoriKVClient:
    """A client that waits for a server that is being restarted."""
    return NoriKVClient.from_url(url, retry=PATIENT)


@dataclass
class Told:
    """What a member's coroutine gets."""

    url: str
    number: int
    arguments: tuple[Any, ...]
    _line: Connection

    def tell(self, what: Any) -> None:
        """Let the test know of something that the server has promised."""
        self._line.send(what)


#: What a member says before it begins, and what it is answered when all have said it.
_READY = "ready"

Member = Callable[[Told], Awaitable[None]]


def _live(member: Member, told: Told, line: Connection) -> None:
    line.send(_READY)
    line.recv()
    run(member(told))


@dataclass
class _Process:
    process: BaseProcess
    line: Connection
    told: list[Any] = field(default_factory=list)
    open: bool = True


class Crowd:
    """``with Crowd(url) as crowd: crowd.join(member, 4); crowd.watch(1.0); crowd.finish()``."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._members: list[_Process] = []

    def join(self, member: Member, count: int = 1, *arguments: Any) -> None:
        """Start *count* processes that run *member*; they begin at the same moment."""
        lines = []
        for _ in range(count):
            mine, theirs = _CONTEXT.Pipe()
            told = Told(self.url, len(self._members), arguments, theirs)
            process = _CONTEXT.Process(target=_live, args=(member, told, theirs), daemon=True)
            process.start()
            theirs.close()
            self._members.append(_Process(process, mine))
            lines.append(mine)
        for line in lines:
            line.recv()
        for line in lines:
            line.send(_READY)

    @property
    def told(self) -> list[Any]:
        """Everything that members, living and dead, have told."""
        return [each for member in self._members for each in member.told]

    def watch(self, seconds: float, until: int | None = None) -> None:
        """Listen for a while, or until *until* things have been told, or nobody is left."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            lines = {member.line: member for member in self._members if member.open}
            if not lines or (until is not None and len(self.told) >= until):
                return
            for line in wait(list(lines), left):
                member = lines[line]  # type: ignore[index]
                try:
                    member.told.append(member.line.recv())
                except (EOFError, OSError):  # it has ended, perhaps in the middle of a word
                    member.open = False

    def kill9(self, count: int = 1) -> None:
        """End the oldest *count* living members without warning."""
        living = [each for each in self._members if each.process.is_alive()]
        for member in living[:count]:
            assert member.process.pid is not None
            os.kill(member.process.pid, signal.SIGKILL)
            member.process.join()

    def finish(self, seconds: float = 40.0) -> list[Any]:
        """Wait for all to end by themselves; what they have told. AssertionError if one failed."""
        self.watch(seconds)
        for member in self._members:
            member.process.join(5.0)
            assert member.process.exitcode in (0, -signal.SIGKILL), "a member failed or hangs"
        return self.told

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self._members:
            member.process.kill()
            member.process.join()
            member.line.close()


def run(coroutine: Awaitable[Any]) -> Any:
    """Run a coroutine of a test."""

    async def main() -> Any:
        return await coroutine

    return asyncio.run(main())
