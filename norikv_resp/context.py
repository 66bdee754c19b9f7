"""What a handler receives: one connection's state and the way to everything else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from norikv_resp.errors import DB_OUT_OF_RANGE, ReplyError

if TYPE_CHECKING:
    from norikv_resp.acl import User
    from norikv_resp.command import Command, Request
    from norikv_resp.config import Config
    from norikv_resp.connection import Connection
    from norikv_resp.database import Database
    from norikv_resp.server import Server
    from norikv_resp.tracking import TrackingState

FastHandler = Callable[["Context", "Request"], "bytes | None"]

REPLY_ON, REPLY_OFF, REPLY_SKIP, REPLY_SKIP_NEXT = "on", "off", "skip", "skip-next"

UNBLOCKED = ReplyError(b"UNBLOCKED client unblocked via CLIENT UNBLOCK")


class Blocked:
    """A command that waits for something which may never come.

    ``future`` becomes its reply; ``on_timeout`` makes the reply for when time is up.
    """

    __slots__ = ("future", "on_timeout", "timer")

    def __init__(
        self, future: asyncio.Future[Any], on_timeout: Callable[[], Any], seconds: float
    ) -> None:
        self.future = future
        self.on_timeout = on_timeout
        self.timer = future.get_loop().call_later(seconds, self.time_out) if seconds else None

    def time_out(self) -> None:
        """Stop waiting and answer as if time were up."""
        self.answer(self.on_timeout())

    def answer(self, reply: Any) -> None:
        """Stop waiting; nothing happens if an answer was already given."""
        if not self.future.done():
            self.future.set_result(reply)


class Context:
    """One connection as commands see it.

    ``fast`` is the table of hot paths while nothing forbids them (see
    ``refresh``), else empty; every method that changes such a thing calls
    ``refresh``.
    """

    __slots__ = (
        "authenticated",
        "blocked",
        "channels",
        "connection",
        "dirty",
        "executing",
        "fast",
        "id",
        "info",
        "keys",
        "last_command",
        "monitoring",
        "name",
        "no_evict",
        "no_touch",
        "patterns",
        "queue",
        "queue_error",
        "reply_mode",
        "resp3",
        "server",
        "shard_channels",
        "tracking",
        "user",
        "watched_alive",
        "watching",
    )

    def __init__(self, server: Server, connection: Connection, ident: int) -> None:
        # For the life of the connection.
        self.server = server
        self.connection = connection
        self.id = ident

        # The session: RESET puts these back.
        self.keys: Database = server.keyspace.databases[0]
        self.resp3 = False
        self.name = b""
        #: lib-name and lib-ver of CLIENT SETINFO.
        self.info: dict[str, bytes] = {}
        self.user: User = server.acl.default
        self.authenticated = server.acl.default.allows_anyone
        self.reply_mode = REPLY_ON
        self.no_evict = False
        self.no_touch = False
        self.monitoring = False
        self.channels: set[bytes] = set()
        self.patterns: set[bytes] = set()
        self.shard_channels: set[bytes] = set()
        self.tracking: TrackingState | None = None

        # A transaction.
        #: The queued commands; None outside MULTI.
        self.queue: list[tuple[Command, Request]] | None = None
        self.queue_error = False
        #: Watched keys as (database number, key), and those of them that existed.
        self.watching: set[tuple[int, bytes]] = set()
        self.watched_alive: set[tuple[int, bytes]] = set()
        self.dirty = False
        #: Whether EXEC (or IDEM) runs a command on behalf of this connection.
        self.executing = False

        # Statistics.
        self.last_command = "NULL"
        #: What the running command waits for, if it may be woken by CLIENT UNBLOCK.
        self.blocked: Blocked | None = None
        self.fast: dict[bytes, FastHandler] = {}
        self.refresh()

    @property
    def config(self) -> Config:
        """The server's options."""
        return self.server.config

    @property
    def now(self) -> int:
        """The batch's time in Unix milliseconds."""
        return self.server.keyspace.now

    @property
    def subscribed(self) -> bool:
        """Whether the connection listens to any channel or pattern."""
        return bool(self.channels or self.patterns or self.shard_channels)

    def select(self, number: int) -> None:
        """Use another database; DB_OUT_OF_RANGE if there is no such."""
        databases = self.server.keyspace.databases
        if not 0 <= number < len(databases):
            raise DB_OUT_OF_RANGE
        self.keys = databases[number]

    def block(self, seconds: float, on_timeout: Callable[[], Any]) -> asyncio.Future[Any]:
        """Wait at most *seconds*, for ever if 0: the handler returns the future.

        Whoever has the answer gives it with ``blocked.answer``. When time is up, or CLIENT
        UNBLOCK asks for that, *on_timeout* makes the reply.
        """
        future: asyncio.Future[Any] = self.server.loop.create_future()
        blocked = self.blocked = Blocked(future, on_timeout, seconds)

        def done(_: asyncio.Future[Any]) -> None:
            if blocked.timer is not None:
                blocked.timer.cancel()
            if self.blocked is blocked:
                self.blocked = None

        future.add_done_callback(done)
        return future

    def brake(self, seconds: float) -> None:
        """Let this client's next requests wait, so that what follows its writes can catch up.

        From the end of the running request on; of several calls the longest counts.
        """
        self.connection.brake(seconds)

    def reset(self) -> None:
        """Make the session what it was after connecting; what CLIENT SETINFO said stays."""
        server = self.server
        self.end_transaction()
        self.detach()
        self.keys = server.keyspace.databases[0]
        self.resp3 = False
        self.name = b""
        self.no_evict = self.no_touch = False
        self.reply_mode = REPLY_ON
        self.user = server.acl.default
        self.authenticated = self.user.allows_anyone
        self.connection.apply_limits()
        self.refresh()

    def detach(self) -> None:
        """Leave whatever the server would tell this connection about."""
        server = self.server
        self.unwatch()
        server.hub.drop(self)
        if self.tracking is not None:
            server.tracking.disable(self)
            self.tracking = None
            server.follow_changes()
        if self.monitoring:
            self.monitoring = False
            server.monitors.discard(self)
            server.refresh()

    def log_in(self, user: User) -> None:
        """Act as *user* from now on."""
        self.user = user
        self.authenticated = True
        self.connection.apply_limits()
        self.refresh()

    def refresh(self) -> None:
        """Decide again whether this connection may use the hot paths."""
        plain = (
            self.authenticated
            and self.user.unrestricted
            and self.queue is None
            and not self.executing
            and self.reply_mode == REPLY_ON
            and (self.resp3 or not self.subscribed)
            and self.tracking is None
            and self.server.plain
        )
        self.fast = self.server.fast_commands if plain else {}

    def key_changed(self) -> None:
        """A watched key has changed: the next EXEC replies nil."""
        self.dirty = True

    def end_transaction(self) -> None:
        """Leave MULTI and forget the watched keys."""
        self.queue = None
        self.queue_error = False
        self.unwatch()
        self.refresh()

    def unwatch(self) -> None:
        """Forget the watched keys."""
        if self.watching:
            self.server.keyspace.unwatch(self.watching, self)
            self.watching.clear()
            self.watched_alive.clear()
        self.dirty = False
