"""CLIENT PAUSE: clients' commands, or only their writes, wait for a while."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from norikv_resp.command import Request

if TYPE_CHECKING:
    from norikv_resp.connection import Connection
    from norikv_resp.context import Context
    from norikv_resp.server import Server


class Pause:
    """The pause of a server, if one is on, and the connections that wait for its end."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.active = False
        self._until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._everything = False
        self._postponed: list[Connection] = []

    def start(self, milliseconds: int, everything: bool) -> None:
        """Hold back clients' commands, or only their writes, for a while.

        A pause that is on is never shortened nor made milder.
        """
        loop = self.server.loop
        self.active = True
        self._until = max(self._until, loop.time() + milliseconds / 1000)
        self._everything = self._everything or everything
        self.server.refresh()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(self._until, self.end)

    def end(self) -> None:
        """Let held commands run."""
        self.active = self._everything = False
        self._until = 0.0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.server.refresh()
        postponed, self._postponed = self._postponed, []
        for connection in postponed:
            connection.go_on()

    def holds(self, ctx: Context, request: Request) -> bool:
        """Whether this request has to wait until the pause is over."""
        if self._everything:
            return True
        command = self.server.registry.resolve(request)
        if command is None:
            return False
        if command.name == "EXEC" and ctx.queue is not None:
            return any(queued.is_write for queued, _ in ctx.queue)
        return command.is_write and ctx.queue is None

    def postpone(self, connection: Connection) -> None:
        """Run this connection again when the pause is over."""
        self._postponed.append(connection)
