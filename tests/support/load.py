"""Many clients in one thread, for tests that load a server and lose it on purpose."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import hiredis

from tests.support.resp import Argument, ErrorReply, encode


class ConnectionLostError(Exception):
    """The connection ended; ``replies`` are those of the commands answered before that."""

    def __init__(self, replies: list[Any] | None = None) -> None:
        super().__init__("connection lost")
        self.replies = replies if replies is not None else []


class LoadClient:
    """One RESP2 connection on asyncio. Not to be shared between tasks."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._parser = hiredis.Reader()

    async def connect(self) -> None:
        """One attempt; ConnectionLostError when nobody answers."""
        self.close()
        self._parser = hiredis.Reader()
        try:
            self._reader, self._writer = await asyncio.open_connection(*self.address, limit=1 << 20)
        except OSError:
            raise ConnectionLostError from None

    async def connect_when_up(self, seconds: float = 40.0) -> None:
        """Attempts until the server answers a PING, as an application's client would."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                await self.connect()
                if await self.call("PING") == b"PONG":
                    return
            except ConnectionLostError:
                pass
            if time.monotonic() > deadline:
                raise AssertionError(f"no server within {seconds} s")
            await asyncio.sleep(0.03)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    async def call(self, *args: Argument) -> Any:
        return (await self.pipeline([args]))[0]

    async def pipeline(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Send all at once; the replies' values, or ConnectionLostError with those that came."""
        replies: list[Any] = []
        if self._reader is None or self._writer is None:
            raise ConnectionLostError
        try:
            self._writer.write(b"".join(encode(*command) for command in commands))
            while len(replies) < len(commands):
                reply = self._parser.gets()
                if reply is False:
                    data = await self._reader.read(1 << 18)
                    if not data:
                        raise ConnectionLostError(replies)
                    self._parser.feed(data)
                else:
                    replies.append(_value(reply))
        except OSError:
            raise ConnectionLostError(replies) from None
        return replies


def _value(reply: Any) -> Any:
    if isinstance(reply, hiredis.ReplyError):
        return ErrorReply(str(reply))
    if isinstance(reply, list):
        return [_value(item) for item in reply]
    return reply
