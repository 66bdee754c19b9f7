"""Options that something keeps a copy of: taken over at the start and when CONFIG SET changes them.

Most options are read from ``Config`` where they matter. Those here are read
so often that a plain attribute pays, belong to a part that knows no
configuration, or need an action when they change.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, cast

from norikv_resp import notify
from norikv_resp.config import Config
from norikv_resp.open_files import make_room_for
from norikv_resp.option_types import Option
from norikv_resp.store import Policy

if TYPE_CHECKING:
    from norikv_resp.server import Server

T = TypeVar("T")


class LiveOptions:
    """The settings that running commands look at, and who else follows an option."""

    def __init__(self, server: Server) -> None:
        self.server = server
        #: Requests that a connection runs before others get their turn.
        self.turn_commands = 0
        self.query_buffer_limit = 0
        #: Microseconds from which on a command is slow, or takes note of its latency;
        #: ``sys.maxsize`` for never.
        self.slow_threshold = sys.maxsize
        self.latency_threshold = sys.maxsize

    def follow(self) -> None:
        """Take all of them over, now and when they change. The data must be open."""
        server = self.server
        keyspace, idempotency = server.keyspace, server.idempotency
        self._keep(Config.commands_per_turn, self, "turn_commands")
        self._keep(Config.client_query_buffer_limit, self, "query_buffer_limit")
        self._keep(Config.cache_size, keyspace, "cache_size")
        self._keep(Config.idempotency_window, idempotency, "window_ms", lambda value: value * 1000)
        self._keep(Config.idempotency_max_records, idempotency, "max_records")
        self._keep(Config.tracking_table_max_keys, server.tracking, "max_keys")
        self._follow(Config.slowlog_log_slower_than, self._slower_than)
        self._follow(Config.latency_monitor_threshold, self._latency_from)
        self._follow(Config.proto_max_bulk_len, self._limit_requests)
        self._follow(Config.max_multibulk_elements, self._limit_requests)
        self._follow(Config.notify_keyspace_events, self._select_events)
        self._follow(Config.appendfsync, self._sync_by)
        # The limit on open files may have lowered what the start-up configuration asked for.
        server.config.on_change(Config.maxclients, self._allow_clients)
        server.config.on_change(Config.slowlog_max_len, lambda _: server.slowlog.trim())
        self._limit_store(Config.overlay_size, "overlay_limit")
        self._limit_store(Config.commit_log_budget, "log_budget")
        self._limit_store(Config.min_free_disk, "min_free_disk")

    def _follow(self, option: Option[T], follow: Callable[[T], None]) -> None:
        follow(getattr(self.server.config, option.attribute))
        self.server.config.on_change(option, follow)

    def _keep(
        self,
        option: Option[T],
        owner: object,
        name: str,
        convert: Callable[[T], object] = lambda value: value,
    ) -> None:
        self._follow(option, lambda value: setattr(owner, name, convert(value)))

    def _limit_store(self, option: Option[int], name: str) -> None:
        store = self.server.store
        self.server.config.on_change(option, lambda size: store.set_limit(name, size))

    def _slower_than(self, microseconds: int) -> None:
        self.slow_threshold = microseconds if microseconds >= 0 else sys.maxsize
        self.server.refresh()

    def _latency_from(self, milliseconds: int) -> None:
        self.latency_threshold = milliseconds * 1000 or sys.maxsize
        self.server.refresh()

    def _limit_requests(self, _: int) -> None:
        for context in self.server.contexts.values():
            context.connection.apply_limits()

    def _select_events(self, flags: str) -> None:
        self.server.notifier.configure(notify.parse(flags))

    def _sync_by(self, policy: str) -> None:
        self.server.store.set_policy(cast(Policy, policy))

    def _allow_clients(self, count: int) -> None:
        make_room_for(self.server.config)
        self.server.max_clients = count
