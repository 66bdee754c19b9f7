"""The wire as bytes: requests encoded, replies parsed without losing their type.

Tests speak RESP through this module rather than through a client library, so that a library's
own conversions can never hide what the server sent.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Argument = str | bytes | int | float


class IncompleteError(Exception):
    """The buffer ends before the reply does."""


class NotRespError(Exception):
    """The bytes are not RESP."""


@dataclass(frozen=True)
class ErrorReply:
    """An error as a value, so that a test can compare it or look inside an EXEC's array."""

    text: str

    @property
    def code(self) -> str:
        return self.text.split(" ", 1)[0]


@dataclass(frozen=True)
class Reply:
    """One parsed reply.

    ``kind`` is the RESP type byte, followed by ``"null"`` for a RESP2 null. ``items`` are the
    direct children of an aggregate (a map has its keys and values alternating); ``data`` is the
    payload of anything else.
    """

    kind: str
    raw: bytes
    data: bytes = b""
    items: tuple[Reply, ...] = ()

    @property
    def is_error(self) -> bool:
        return self.kind in "-!"

    @property
    def value(self) -> Any:
        """The reply as a Python value; errors become `ErrorReply`, simple strings bytes."""
        if self.kind.endswith("null") or self.kind == "_":
            return None
        if self.kind in "-!":
            return ErrorReply(self.data.decode("utf-8", "replace"))
        if self.kind in ":(":
            return int(self.data)
        if self.kind == ",":
            return float(self.data)
        if self.kind == "#":
            return self.data == b"t"
        if self.kind == "=":
            return self.data[4:]
        if self.kind in "%|":
            values = [item.value for item in self.items]
            return dict(zip(values[::2], values[1::2], strict=False))
        if self.kind in "*~>":
            return [item.value for item in self.items]
        return self.data


def parse_reply(buf: bytes | bytearray, start: int = 0) -> Reply:
    """Parse the reply that begins at *start*; its length is ``len(reply.raw)``."""
    end_of_line = buf.find(b"\r\n", start)
    if end_of_line < 0:
        raise IncompleteError
    kind = chr(buf[start])
    head = bytes(buf[start + 1 : end_of_line])
    pos = end_of_line + 2

    if kind in "+-:,#_(":
        return Reply(kind, bytes(buf[start:pos]), data=head)
    if kind not in "$=!*~>%|":
        raise NotRespError(f"unknown type byte {kind!r}")
    try:
        length = int(head)
    except ValueError:
        raise NotRespError(f"bad length {head!r} after {kind!r}") from None
    if length < 0:
        return Reply(kind + "null", bytes(buf[start:pos]))
    if kind in "$=!":
        end = pos + length + 2
        if len(buf) < end:
            raise IncompleteError
        return Reply(kind, bytes(buf[start:end]), data=bytes(buf[pos : end - 2]))

    items = []
    for _ in range(length * 2 if kind in "%|" else length):
        item = parse_reply(buf, pos)
        items.append(item)
        pos += len(item.raw)
    return Reply(kind, bytes(buf[start:pos]), items=tuple(items))


def parse_replies(buf: bytes) -> list[Reply]:
    """Split *buf*, which must hold nothing but whole replies."""
    replies = []
    pos = 0
    while pos < len(buf):
        replies.append(parse_reply(buf, pos))
        pos += len(replies[-1].raw)
    return replies


def as_bytes(arg: Argument) -> bytes:
    return arg if isinstance(arg, bytes) else str(arg).encode()


def encode(*args: Argument) -> bytes:
    """A command as an array of bulk strings."""
    parts = [b"*%d\r\n" % len(args)]
    for arg in args:
        data = as_bytes(arg)
        parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(parts)


class Wire:
    """A blocking client socket that hands out replies one at a time.

    With ``resp=3`` the connection begins with ``HELLO 3``. Waiting longer than *timeout* seconds
    for a reply raises TimeoutError; a connection that ends first raises EOFError.
    """

    def __init__(
        self,
        address: tuple[str, int] | str,
        resp: int = 2,
        timeout: float = 10.0,
        receive_buffer: int | None = None,
    ) -> None:
        self.timeout = timeout
        self._buf = bytearray()
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            if receive_buffer is not None:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self.sock.settimeout(timeout)
            self.sock.connect(address)
            if family == socket.AF_INET:
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if resp == 3:
                reply = self.reply("HELLO", "3")
                if reply.is_error:
                    raise ConnectionError(f"the server refused HELLO 3: {reply.data!r}")
        except BaseException:
            self.sock.close()
            raise

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def reply(self, *args: Argument) -> Reply:
        """Send one command and return its one reply as it came."""
        self.send(encode(*args))
        return self.read_reply()

    def call(self, *args: Argument) -> Any:
        """Send one command and return its reply's value."""
        return self.reply(*args).value

    def ok(self, *args: Argument) -> Any:
        """Like `call`, for commands that must not fail."""
        value = self.call(*args)
        assert not isinstance(value, ErrorReply), f"{args!r}: {value.text}"
        return value

    def pipeline(self, commands: Iterable[tuple[Argument, ...]]) -> list[Any]:
        """Send all commands at once and return the values of their replies."""
        batch = [encode(*command) for command in commands]
        self.send(b"".join(batch))
        return [self.read_reply().value for _ in batch]

    def read_reply(self) -> Reply:
        """The next reply; TimeoutError, EOFError or NotRespError if none comes."""
        deadline = time.monotonic() + self.timeout
        while True:
            if self._buf:
                try:
                    reply = parse_reply(self._buf)
                except IncompleteError:
                    pass
                else:
                    del self._buf[: len(reply.raw)]
                    return reply
            if not self._fill(deadline - time.monotonic()):
                raise TimeoutError(f"no reply within {self.timeout} s")

    def read(self) -> Any:
        return self.read_reply().value

    def pending(self, seconds: float = 0.0) -> bytes:
        """Take whatever has arrived, or arrives within *seconds* of silence."""
        try:
            while self._fill(seconds):
                pass
        except EOFError:
            pass
        data = bytes(self._buf)
        self._buf.clear()
        return data

    def closed_by_server(self) -> bool:
        """Whether the server ends the connection, having sent nothing more."""
        try:
            while not self._buf:
                if not self._fill(self.timeout):
                    return False
        except EOFError:
            return True
        return False

    def drain_until_closed(self, limit: int = 1 << 30) -> bytes:
        """Everything that comes before the server closes; TimeoutError if it does not."""
        try:
            while self._fill(self.timeout):
                if len(self._buf) > limit:
                    raise AssertionError(f"more than {limit} bytes before the close")
        except EOFError:
            data = bytes(self._buf)
            self._buf.clear()
            return data
        raise TimeoutError(f"still open after {self.timeout} s of silence")

    def _fill(self, seconds: float) -> bool:
        """Read once from the socket; False if nothing came within *seconds*."""
        poll = select.poll()  # select.select refuses descriptors above 1,023
        poll.register(self.sock, select.POLLIN)
        if not poll.poll(max(seconds, 0.0) * 1000):
            return False
        try:
            data = self.sock.recv(1 << 18)
        except ConnectionResetError:
            data = b""
        if not data:
            raise EOFError("the server closed the connection")
        self._buf += data
        return True
