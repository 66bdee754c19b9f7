"""The server's end of the socket to the index process: nothing here blocks the loop.

What a turn of the loop sends leaves in one system call at the turn's end; what the socket does
not take waits here, and `Link.buffered` says how much that is.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections import deque
from collections.abc import Callable
from itertools import islice
from time import monotonic

RECEIVE_BYTES = 1 << 16

GATHER = 256
"""Buffers of one sendmsg; the system takes up to 1,024."""


class Link:
    """One connected stream socket. *receive* gets what arrives, *closed* hears of the end."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        receive: Callable[[bytes], None],
        closed: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._receive = receive
        self._closed = closed
        self.is_open = True
        #: Bytes that the socket has not taken yet.
        self.buffered = 0
        self._out: deque[bytes | memoryview] = deque()
        self._flush_scheduled = False
        self._waits_to_write = False
        sock.setblocking(False)
        loop.add_reader(sock, self._on_readable)

    # ---- out

    def send(self, frame: bytes) -> None:
        """Send a frame at the end of this turn of the loop; nothing once the link is closed."""
        if not self.is_open:
            return
        self._out.append(frame)
        self.buffered += len(frame)
        if not self._flush_scheduled and not self._waits_to_write:
            self._flush_scheduled = True
            self._loop.call_soon(self._end_of_turn)

    def _end_of_turn(self) -> None:
        self._flush_scheduled = False
        self._flush()

    def _flush(self) -> None:
        """Hand the socket what it takes now."""
        out = self._out
        while out and self.is_open:
            try:
                sent = self._sock.sendmsg(list(islice(out, GATHER)))
            except BlockingIOError:
                self._await_writable()
                return
            except OSError:
                self._lose()
                return
            self._forget(sent)
        if self._waits_to_write and self.is_open:
            self._waits_to_write = False
            self._loop.remove_writer(self._sock)

    def _forget(self, sent: int) -> None:
        """Drop the first *sent* bytes of what waits."""
        self.buffered -= sent
        out = self._out
        while sent:
            first = out[0]
            if sent < len(first):
                out[0] = memoryview(first)[sent:]
                return
            sent -= len(first)
            out.popleft()

    def _await_writable(self) -> None:
        if not self._waits_to_write:
            self._waits_to_write = True
            self._loop.add_writer(self._sock, self._flush)

    # ---- in

    def _on_readable(self) -> None:
        try:
            data = self._sock.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._receive(data)
        else:
            self._lose()

    def exchange(self, done: Callable[[], bool], seconds: float) -> bool:
        """Send and receive while the loop stands still, until *done*; False if time is up first."""
        deadline = monotonic() + seconds
        poll = select.poll()
        while self.is_open and not done():
            self._flush()
            left = deadline - monotonic()
            if left <= 0 or not self.is_open:
                break
            poll.register(self._sock, select.POLLIN | (select.POLLOUT if self._out else 0))
            if poll.poll(left * 1000):
                self._on_readable()
        return done()

    # ---- the end

    def close(self) -> None:
        """Close the socket without telling anybody."""
        if self.is_open:
            self.is_open = False
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)
            self._sock.close()
            self._out.clear()
            self.buffered = 0

    def _lose(self) -> None:
        if self.is_open:
            self.close()
            self._closed()
