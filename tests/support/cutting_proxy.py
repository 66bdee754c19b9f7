"""A TCP proxy that cuts connections at a chosen byte of a request or of a reply."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Cut:
    """Where to cut: after so many bytes of requests, or of replies, since it was armed.

    The server gets the bytes of the request, time to act on them, and its reply is lost. Of a
    reply the client gets so many bytes.
    """

    request: int | None = None
    reply: int | None = None


class CuttingProxy:
    """``async with CuttingProxy(port) as proxy:`` forwards ``proxy.port`` to *port*.

    ``requested`` and ``replied`` count the bytes since the last `arm`.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()
        self._cut: Cut | None = None
        self._times = 0
        self.requested = 0
        self.replied = 0
        self.cuts = 0
        self.port = 0

    async def __aenter__(self) -> CuttingProxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for link in list(self._links):
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    def arm(self, cut: Cut | None = None, times: int = 1) -> None:
        """Count from zero, and make *cut* that many times, on one connection after the other."""
        self._cut, self._times = cut, times
        self.requested = self.replied = self.cuts = 0

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        try:
            # The server may be down: then the client sees its connection closed.
            with contextlib.suppress(OSError):
                there, back = await asyncio.open_connection("127.0.0.1", self._target)
                try:
                    await self._forward(reader, writer, there, back)
                finally:
                    await _close(back)
        finally:
            await _close(writer)
            self._links.discard(task)

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        there: asyncio.StreamReader,
        back: asyncio.StreamWriter,
    ) -> None:
        """Until either side ends or a cut is made."""
        cut = asyncio.Event()
        ways = [
            asyncio.ensure_future(self._requests(reader, back, cut)),
            asyncio.ensure_future(self._replies(there, writer, cut)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _requests(
        self, reader: asyncio.StreamReader, server: asyncio.StreamWriter, cut: asyncio.Event
    ) -> None:
        while data := await reader.read(65536):
            at = self._cut.request if self._cut is not None else None
            before, self.requested = self.requested, self.requested + len(data)
            if at is not None and self.requested >= at:
                self._made()
                cut.set()
                server.write(data[: max(at - before, 0)])
                await server.drain()
                await asyncio.sleep(0.005)
                return
            server.write(data)
            await server.drain()

    async def _replies(
        self, reader: asyncio.StreamReader, client: asyncio.StreamWriter, cut: asyncio.Event
    ) -> None:
        while data := await reader.read(65536):
            if cut.is_set():
                continue
            at = self._cut.reply if self._cut is not None else None
            before, self.replied = self.replied, self.replied + len(data)
            if at is not None and self.replied >= at:
                self._made()
                client.write(data[: max(at - before, 0)])
                await client.drain()
                return
            client.write(data)
            await client.drain()

    def _made(self) -> None:
        self.cuts += 1
        self.requested = self.replied = 0
        if self.cuts >= self._times:
            self._cut = None


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
