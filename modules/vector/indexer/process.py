"""The index process: one thread of control between a socket and the sets.

Again and again: take the messages that have come, answer the searches among them together, add a
few vectors to one graph. It sleeps only when there is nothing to do, and ends when the server's end
of the socket does.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import logging
import os
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from norikv_resp.vector_rows import B1, COSINE, F32, FLAT, HNSW, IP

from ..filters import FilterError
from . import checkpoint
from .checkpoint import UnusableError
from .generation import UnexpectedLabelError
from .messages import (
    REQUESTS,
    Add,
    Answer,
    Attach,
    Attached,
    Attributes,
    Busy,
    Checkpoint,
    Checkpointed,
    Definition,
    Detach,
    Drop,
    Failed,
    Hello,
    Live,
    Log,
    Lost,
    MessageError,
    Ping,
    Pong,
    Progress,
    Reader,
    Remove,
    Sample,
    Search,
    encode,
)
from .namespace import Namespace, Standing

#: Python makes larger buffers anew, at five times the cost.
_RECEIVE = 1 << 16

#: Received between two rounds of searches and adds, about.
_AT_ONCE = 4 << 20

#: With so much unsent, nothing more is read or answered.
_UNSENT = 64 << 20

#: Seconds between two PROGRESS of a set.
_PROGRESS = 0.25

#: Seconds after which what searches and adds have mapped is given back.
_MAPPED = 1.0

#: Seconds after an answer for which the next search is looked for without sleeping. Being woken
#: takes longer than searching where cores of a virtual machine go to rest.
_AWAKE = 0.001

#: Seconds of silence that BUSY breaks.
_SILENCE = 0.5

_MOST_DIMENSIONS = 1 << 20

#: Bytes of a checkpoint that are loaded in a second at the least.
_LOADED_PER_SECOND = 100 << 20


class ServerGoneError(Exception):
    """The other end of the socket is closed."""


class IndexProcess:
    """The sets under their handles, and the conversation about them."""

    def __init__(self, connection: socket.socket, directory: Path, threads: int) -> None:
        self._channel = _Channel(connection)
        self._directory = directory
        self._threads = threads
        self._sets: dict[int, Namespace] = {}
        #: Handles in the order in which their sets get to add.
        self._turns: deque[int] = deque()
        self._progress: dict[int, _ProgressOf] = {}
        self._map_until: float | None = None
        #: Until when the process stays awake for the next search.
        self._awake_until = 0.0
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            Attach: self._attach,
            Add: self._add,
            Remove: self._remove,
            Attributes: self._attributes,
            Live: self._live,
            Search: self._search,
            Sample: self._sample,
            Checkpoint: self._checkpoint,
            Drop: self._drop,
            Detach: self._detach,
            Ping: self._ping,
        }

    def run(self) -> None:
        """Serve until ServerGoneError. MessageError if what comes is no message."""
        notes, complaints = checkpoint.survey(self._directory)
        self._channel.send(Hello(os.getpid(), notes))
        for complaint in complaints:
            self._log(logging.WARNING, f"checkpoint {complaint}; deleted")
        while True:
            self._wait()
            for message in self._channel.receive():
                self._handlers[type(message)](message)
            for handle in [each for each, found in self._sets.items() if found.is_asked]:
                self._answer(handle, all_=False)
            self._work()
            self._report()
            self._channel.flush()

    # -- the round

    def _wait(self) -> None:
        """Sleep until there is something to do, and see to checkpoints that are written."""
        writers = {
            found.writer.fd: handle
            for handle, found in self._sets.items()
            if found.writer is not None
        }
        for fd in self._channel.wait(writers, self._sleep()):
            self._checkpointed(writers[fd])

    def _sleep(self) -> float | None:
        """How long nothing has to be done, seconds; None: for ever."""
        if time.monotonic() < self._awake_until:
            return 0.0
        if any(found.has_work or found.is_asked for found in self._sets.values()):
            return 0.0
        due = [each.due for each in self._progress.values() if each.is_wanted]
        if self._map_until is not None:
            due.append(self._map_until)
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _work(self) -> None:
        """Give one of the sets that have work its turn."""
        for _ in range(len(self._turns)):
            handle = self._turns[0]
            self._turns.rotate(-1)
            found = self._sets[handle]
            if found.has_work and not found.is_asked:
                self._try(handle, self._work_on, handle)
                return

    def _work_on(self, handle: int) -> None:
        self._reads_vectors()
        found, progress = self._sets[handle], self._progress[handle]
        was_rebuilding = found.is_rebuilding
        progress.added(found.work())
        if found.is_rebuilding and not was_rebuilding:
            progress.due = time.monotonic()  # the shortest rebuilding is reported as well

    def _report(self) -> None:
        now = time.monotonic()
        for handle, progress in self._progress.items():
            if progress.is_wanted and progress.due <= now:
                standing = self._sets[handle].standing
                rate = progress.rate(now)
                self._channel.send(Progress(handle, *standing, _anonymous(), rate))
                progress.reported(standing, now)
                if not progress.is_wanted:
                    _return_freed_memory()
        if self._map_until is not None and self._map_until <= now:
            self._map_until = None
            for found in self._sets.values():
                found.release_pages()

    def _answer(self, handle: int, *, all_: bool) -> None:
        """Answer the searches that wait for a set."""
        self._reads_vectors()
        self._try(handle, self._answer_from, self._sets[handle], all_)

    def _answer_from(self, found: Namespace, all_: bool) -> None:
        answers = list(found.answers(self._pulse, all_=all_))
        self._channel.send(*answers)
        if len(answers) == 1:  # Several clients keep the cores busy; one waits for each wake-up.
            self._awake_until = time.monotonic() + _AWAKE

    def _reads_vectors(self) -> None:
        """See that what is mapped now is given back soon."""
        if self._map_until is None:
            self._map_until = time.monotonic() + _MAPPED

    def _pulse(self) -> None:
        """Called while a long operation runs: says that it is one."""
        if self._channel.silence > _SILENCE:
            self._channel.send(Busy(2 * _SILENCE, b"searching"))
            self._channel.flush()

    def _try(self, handle: int, operation: Callable[..., object], *arguments: Any) -> None:
        """Do something with a set; whatever fails costs the set."""
        try:
            operation(*arguments)
        except (OSError, MemoryError, ValueError, RuntimeError, UnexpectedLabelError) as error:
            self._lose(handle, f"{type(error).__name__}: {error}")

    def _lose(self, handle: int, reason: str) -> None:
        found = self._forget(handle, reason)
        if found is not None:
            checkpoint.delete(self._directory, found.cid)
            self._channel.send(Lost(handle, reason.encode()))

    def _forget(self, handle: int, reason: str) -> Namespace | None:
        """Serve a set no longer."""
        found = self._sets.pop(handle, None)
        if found is None:
            return None
        self._turns.remove(handle)
        del self._progress[handle]
        self._channel.send(*found.failures(reason.encode()))
        found.close()
        return found

    def _log(self, level: int, text: str) -> None:
        self._channel.send(Log(level, text.encode()))

    # -- messages

    def _attach(self, message: Attach) -> None:
        handle, cid, definition, ignore = message
        self._forget(handle, "the set is attached anew")
        if not _is_definition(definition):
            self._channel.send(Lost(handle, b"its definition makes no sense"))
            return
        size = checkpoint.size(self._directory, cid)
        if size and not ignore:
            self._channel.send(Busy(1.0 + size / _LOADED_PER_SECOND, b"loading a checkpoint"))
            self._channel.flush()
        try:
            if ignore:
                raise UnusableError("it is not wanted")
            found, cover = Namespace.load(self._directory, cid, definition, self._threads)
            attached = Attached(
                handle, cover.next_label, found.standing.alive, cover.version, True, b""
            )
        except UnusableError as error:
            try:
                found = Namespace.create(self._directory, cid, definition, self._threads)
            except (OSError, ValueError) as failure:
                self._channel.send(Lost(handle, str(failure).encode()))
                return
            attached = Attached(handle, 1, 0, (0, 0), False, str(error).encode())
        self._sets[handle] = found
        self._turns.append(handle)
        self._progress[handle] = _ProgressOf()
        self._channel.send(attached)

    def _changed(self, handle: int) -> Namespace | None:
        """A set that a message changes, after the searches before the message."""
        found = self._sets.get(handle)
        if found is not None and found.is_asked:
            self._answer(handle, all_=True)
            found = self._sets.get(handle)
        if found is not None:
            self._progress[handle].is_wanted = True
        return found

    def _add(self, message: Add) -> None:
        # Searches before it need not be answered first: they see no later slots.
        found = self._sets.get(message.handle)
        if found is not None and message.labels:
            self._progress[message.handle].is_wanted = True
            self._try(message.handle, found.add, message)

    def _remove(self, message: Remove) -> None:
        found = self._changed(message.handle)
        if found is not None:
            self._try(message.handle, found.remove, message.labels)

    def _attributes(self, message: Attributes) -> None:
        found = self._changed(message.handle)
        if found is not None:
            self._try(message.handle, found.set_attributes, message.labels, message.texts)

    def _live(self, message: Live) -> None:
        found = self._changed(message.handle)
        if found is not None:
            self._try(message.handle, found.live, message.labels, message.final)

    def _search(self, message: Search) -> None:
        found = self._sets.get(message.handle)
        try:
            if found is None:
                raise ValueError("the set is not attached")
            found.ask(message)
        except (ValueError, FilterError) as error:
            self._channel.send(Failed(message.request, str(error).encode()))

    def _sample(self, message: Sample) -> None:
        found = self._sets.get(message.handle)
        if found is None:
            self._channel.send(Failed(message.request, b"the set is not attached"))
            return
        self._channel.send(found.sample(message))

    def _checkpoint(self, message: Checkpoint) -> None:
        handle = message.handle
        found = self._sets.get(handle)
        try:
            if found is None:
                raise UnusableError("the set is not attached")
            self._channel.flush()
            found.start_checkpoint(message, [self._channel.fileno])
        except (UnusableError, OSError) as error:
            self._channel.send(
                Checkpointed(handle, message.next_label, 0, 0.0, str(error).encode())
            )

    def _checkpointed(self, handle: int) -> None:
        asked, size, seconds, reason = self._sets[handle].end_checkpoint()
        self._channel.send(Checkpointed(handle, asked.next_label, size, seconds, reason))

    def _drop(self, message: Drop) -> None:
        for handle in [each for each, found in self._sets.items() if found.cid == message.cid]:
            self._forget(handle, "the set is dropped")
        checkpoint.delete(self._directory, message.cid)

    def _detach(self, message: Detach) -> None:
        self._forget(message.handle, "the set is detached")

    def _ping(self, message: Ping) -> None:
        self._channel.send(Pong(message.number))


class _ProgressOf:
    """When a set's PROGRESS is due, and how many vectors a second its graph gets."""

    def __init__(self) -> None:
        self.is_wanted = True
        self.due = self._since = time.monotonic()
        self._added = 0
        self._last: Standing | None = None

    def added(self, count: int) -> None:
        self._added += count
        self.is_wanted = True

    def rate(self, now: float) -> float:
        seconds = now - self._since
        return self._added / seconds if seconds > 0 else 0.0

    def reported(self, standing: Standing, now: float) -> None:
        # One more follows a change, so that the last one tells of rest.
        self.is_wanted = standing != self._last
        self._last = standing
        self._since, self._added = now, 0
        self.due = now + _PROGRESS


class _Channel:
    """Messages over a socket that is never waited for in the middle of anything."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._reader = Reader(REQUESTS)
        self._out = bytearray()
        self._is_readable = False
        self._said = time.monotonic()
        self.fileno = connection.fileno()

    @property
    def silence(self) -> float:
        """Seconds since something was sent."""
        return time.monotonic() - self._said

    def send(self, *messages: Answer) -> None:
        """Keep messages until `flush`."""
        for message in messages:
            self._out += encode(message)

    def flush(self) -> None:
        """Hand over what the socket takes."""
        while self._out:
            try:
                sent = self._socket.send(self._out)
            except BlockingIOError:
                return
            except OSError as error:
                raise ServerGoneError from error
            del self._out[:sent]
            self._said = time.monotonic()

    def wait(self, others: dict[int, Any], seconds: float | None) -> list[int]:
        """Sleep until the socket or one of `others` is ready; those of `others` that are."""
        poll = select.poll()
        crowded = len(self._out) > _UNSENT
        events = (0 if crowded else select.POLLIN) | (select.POLLOUT if self._out else 0)
        poll.register(self.fileno, events)
        for fd in others:
            poll.register(fd, select.POLLIN)
        ready = poll.poll(None if seconds is None or crowded else seconds * 1000)
        self._is_readable = False
        for fd, event in ready:
            if fd == self.fileno:
                self._is_readable = bool(event & ~select.POLLOUT)
                if event & select.POLLOUT:
                    self.flush()
        return [fd for fd, _ in ready if fd != self.fileno]

    def receive(self) -> Any:
        """The messages that have come. ServerGoneError at the end."""
        size = 0
        while self._is_readable and size < _AT_ONCE:
            try:
                data = self._socket.recv(_RECEIVE)
            except BlockingIOError:
                return
            except OSError as error:
                raise ServerGoneError from error
            if not data:
                raise ServerGoneError
            size += len(data)
            yield from self._reader.feed(data)
            self._is_readable = len(data) == _RECEIVE


def _is_definition(definition: Definition) -> bool:
    return (
        0 < definition.dimensions <= _MOST_DIMENSIONS
        and COSINE <= definition.metric <= IP
        and HNSW <= definition.kind <= FLAT
        and F32 <= definition.quantisation <= B1
    )


def _anonymous() -> int:
    """Bytes of anonymous memory that are resident; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", "rb") as file:
            _, resident, shared = file.read().split()[:3]
    except OSError:
        return 0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def _return_freed_memory() -> None:
    """Give back what glibc keeps between the parts of graphs, about a tenth of them."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _lock(directory: Path, connection: socket.socket) -> int:
    """Wait until no other index process, nor a fork of one, uses the directory."""
    fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if _is_closed(connection):
                raise ServerGoneError from None
            time.sleep(0.02)
            continue
        return fd


def _is_closed(connection: socket.socket) -> bool:
    try:
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


def main(fd: int, directory: Path, threads: int) -> int:
    """Serve the socket `fd`; the exit status."""
    # Stopping is the server's decision: a Ctrl-C reaches the whole group of processes.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    connection = socket.socket(fileno=fd)
    os.set_inheritable(fd, False)
    gc.freeze()
    try:
        _lock(directory, connection)
        IndexProcess(connection, directory, threads).run()
    except ServerGoneError:
        return 0
    except MessageError as error:
        text = f"the index process ends: {error}"
        connection.setblocking(True)
        connection.sendall(encode(Log(logging.CRITICAL, text.encode())))
        print(text, file=sys.stderr)
        return 1
    return 0
