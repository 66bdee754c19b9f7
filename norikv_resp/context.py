"""What a handler receives: one connection's state and the way to everything else."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from norikv_resp.errors import DB_OUT_OF_RANGE

if TYPE_CHECKING:
    from norikv_resp.acl import User
    from norikv_resp.command import Command, Request
    from norikv_resp.config import Config
    from norikv_resp.connection import Connection
    from norikv_resp.keyspace import Database
    from norikv_resp.server import Server
    from norikv_resp.tracking import TrackingState

FastHandler = Callable[["Context", "Request"], "bytes | None"]

REPLY_ON, REPLY_OFF, REPLY_SKIP, REPLY_SKIP_NEXT = "on", "off", "skip", "skip-next"


class Context:
    """One connection as commands see it.

    ``fast`` is the table of hot paths while nothing forbids them (see
    ``refresh``), else empty; every method that changes such a thing calls
    ``refresh``.
    """

    __slots__ = (
        "authenticated",
        "blocked_since",
        "channels",
        "connection",
        "dirty",
        "executing",
        "fast",
        "id",
        "info",
        "keys",
        "last_command",
        "last_write",
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
        #: The index of this connection's last write, for WAITAOF.
        self.last_write = 0
        self.blocked_since = 0.0
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
