"""The index process: started when it is needed, watched, ended when it is silent, started again.

It is disposable. Whatever happens to it, the server hears of it through `Listener` and answers
from its rows until the next one is up.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

from norikv_resp.logs import log

from .indexer.messages import ANSWERS, Busy, Hello, Log, Message, MessageError, Ping, Pong, Reader
from .indexer.messages import encode as encode_message
from .link import Link

#: How the process is started: the number of its end of the socket makes a command line.
CommandLine = Callable[[int], list[str]]

TICK = 0.25
"""Seconds between two looks at the process."""

PING_EVERY = 0.5
"""Seconds of quiet after which the process is asked for a sign of life."""

PATIENCE = 5
"""A process that is silent for this many times the deadline is killed."""

STARTING_SECONDS = 30.0
"""What the first message may take: the interpreter and its libraries are loaded until then."""

BACKOFF_FIRST, BACKOFF_LONGEST = 0.1, 10.0
"""Seconds before a process that has ended is started again: doubled each time."""

STEADY_SECONDS = 30.0
"""A process that has lived so long ended for a new reason: backing off begins anew."""

BUFFER_LIMIT = 256 << 20
"""Bytes that may wait for a process that does not read; beyond, it is killed."""

STOPPED, STARTING, RUNNING, SILENT, WAITING = "stopped", "starting", "running", "silent", "waiting"


class Listener(Protocol):
    """Who works with the index process; called on the loop's thread."""

    def process_ready(self, hello: Hello) -> None:
        """A new process waits for messages. It knows nothing of earlier ones."""

    def process_lost(self) -> None:
        """The process is gone or taken for gone; nothing that it was asked will be answered."""

    def process_silent(self) -> None:
        """No answer within the deadline. It may come yet; who waits should not."""

    def process_answered(self, message: Any) -> None:
        """A message other than those about the process itself."""


class Supervisor:
    """Keeps one index process running; one per server.

    state: what INFO shows: stopped (not needed yet), starting, running, silent (no answer within
        the deadline), waiting (to be started again).
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        command: CommandLine,
        deadline: float,
    ) -> None:
        # For the life of the server.
        self._loop = loop
        self._command = command
        #: Set before the first `need`.
        self.listener: Listener
        #: Seconds without an answer after which the process counts as silent.
        self.deadline = deadline
        self.state = STOPPED
        self.starts = 0
        self._backoff = BACKOFF_FIRST
        self._closed = False

        # The running process.
        self._process: subprocess.Popen[bytes] | None = None
        self.link: Link | None = None
        self._reader = Reader(ANSWERS)
        self._started_at = 0.0
        #: Since when an answer is owed; None while everything is answered.
        self._owed_since: float | None = None
        self._pinged = self._ponged = 0
        self._heard_at = 0.0
        #: Until when the process has said that it will be busy.
        self._busy_until = 0.0

        self._timer: asyncio.TimerHandle | None = None
        #: Processes that were told to end and are not reaped yet.
        self._ending: list[subprocess.Popen[bytes]] = []

    @property
    def pid(self) -> int:
        """The number of the running process, 0 for none."""
        return self._process.pid if self._process is not None else 0

    @property
    def restarts(self) -> int:
        """How often a process had to be replaced."""
        return max(self.starts - 1, 0)

    @property
    def ready(self) -> bool:
        """Whether messages reach a process that answers in time."""
        return self.state == RUNNING

    # ---- starting

    def need(self) -> None:
        """Start the process unless it runs or is about to."""
        if self.state == STOPPED and not self._closed:
            self._start()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                self._command(theirs.fileno()),
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C in the terminal is for the server alone
            )
        except OSError as error:
            log.error("the index process cannot be started: %s", error)
            ours.close()
            self._start_later()
            return
        finally:
            theirs.close()
        self.starts += 1
        self.state = STARTING
        self._started_at = self._heard_at = monotonic()
        self._owed_since = self._started_at
        self._busy_until = self._started_at + STARTING_SECONDS
        self._pinged = self._ponged = 0
        self._reader = Reader(ANSWERS)
        self.link = Link(self._loop, ours, self._received, self._link_closed)
        self._tick_later(TICK)

    def _start_later(self) -> None:
        self.state = WAITING
        self._tick_later(self._backoff)
        self._backoff = min(2 * self._backoff, BACKOFF_LONGEST)

    # ---- messages

    def send(self, message: Message) -> None:
        """Send a message; it is lost, as all before it, if there is no process."""
        if self.link is not None:
            self.link.send(encode_message(message))

    def ask(self, message: Message) -> None:
        """Send a message that will be answered, in time unless the process is silent."""
        if self.link is not None:
            self.link.send(encode_message(message))
            if self._owed_since is None:
                self._owed_since = monotonic()

    @property
    def buffered(self) -> int:
        """Bytes that wait for the process to read."""
        return self.link.buffered if self.link is not None else 0

    def exchange(self, done: Callable[[], bool], seconds: float) -> bool:
        """Let messages pass, the loop standing still, until *done*; False if time is up first."""
        return self.link is not None and self.link.exchange(done, seconds)

    def _received(self, data: bytes) -> None:
        self._heard_at = monotonic()
        if self.state == SILENT:
            self.state = RUNNING
            log.warning("the index process answers again")
        try:
            for message in self._reader.feed(data):
                self._take(message)
                if self.link is None:
                    return
            # Whatever comes shows that it works; a ping that is still owed is asked for anew.
            self._owed_since = self._heard_at if self._pinged > self._ponged else None
        except MessageError as error:
            log.error("the index process sends what is no message: %s", error)
            self._replace()

    def _take(self, message: Any) -> None:
        kind = type(message)
        if kind is Pong:
            self._ponged = message.number
        elif kind is Busy:
            self._busy_until = monotonic() + message.seconds
        elif kind is Log:
            log.log(message.level, "index process: %s", message.text.decode(errors="replace"))
        elif kind is Hello:
            self.state = RUNNING
            self._busy_until = 0.0
            self._owed_since = None
            log.info("index process %d is ready", self.pid)
            self.listener.process_ready(message)
        else:
            self.listener.process_answered(message)

    # ---- watching

    def _tick_later(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._reap()
        if self._closed:
            return
        if self.state == WAITING:
            self._start()
            return
        if self._process is not None and self._process.poll() is not None:
            self._link_closed()
            return
        if self.link is not None:
            self._judge(monotonic())
        if self.link is not None or self._ending:
            self._tick_later(TICK)

    def _judge(self, now: float) -> None:
        """Ping a quiet process; take note of a silent one, and in the end replace it."""
        if self._owed_since is None:
            if now - self._heard_at >= PING_EVERY:
                self._pinged += 1
                self.ask(Ping(self._pinged))
            return
        silent = now - max(self._owed_since, self._busy_until)
        if silent > PATIENCE * self.deadline or self.buffered > BUFFER_LIMIT:
            log.error("the index process does not answer: killing it")
            self._replace()
        elif silent > self.deadline and self.state == RUNNING:
            self.state = SILENT
            log.warning("no answer from the index process for %.1f s", silent)
            self.listener.process_silent()

    # ---- ending

    def _link_closed(self) -> None:
        """The process has closed its end, or has ended."""
        log.warning("the index process has ended, the next one starts in %.1f s", self._backoff)
        self._replace()

    def _replace(self) -> None:
        """Be rid of the process, and start the next one later."""
        lived = monotonic() - self._started_at
        was_running = self.state in (RUNNING, SILENT)
        self._discard()
        if lived > STEADY_SECONDS:
            self._backoff = BACKOFF_FIRST
        self._start_later()
        if was_running:
            self.listener.process_lost()

    def _discard(self) -> None:
        if self.link is not None:
            self.link.close()
            self.link = None
        if self._process is not None:
            self._process.kill()
            self._ending.append(self._process)
            self._process = None
        self._reap()

    def _reap(self) -> None:
        """Collect the exit status of processes that were told to end."""
        for process in self._ending:
            if (status := process.poll()) is not None:
                log.info("index process %d: exit status %d", process.pid, status)
        self._ending = [process for process in self._ending if process.returncode is None]

    async def close(self, seconds: float) -> None:
        """End the process: it gets *seconds* to do so itself once its socket is closed."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        process, self._process = self._process, None
        if self.link is not None:
            self.link.close()
            self.link = None
        self.state = STOPPED
        if process is not None:
            deadline = monotonic() + seconds
            process.send_signal(signal.SIGCONT)
            while process.poll() is None and monotonic() < deadline:
                await asyncio.sleep(0.005)
            process.kill()
            self._ending.append(process)
        for each in self._ending:
            each.wait()
        self._ending.clear()
