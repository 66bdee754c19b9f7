"""The server: listeners, signals, the ordered start and stop, and what connects the parts."""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import signal
import sys
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from norikv_resp.acl import AccessControl
from norikv_resp.bundled import module_names
from norikv_resp.clients import describe
from norikv_resp.command import Registry
from norikv_resp.commands import FAMILIES
from norikv_resp.config import Config, StartupError
from norikv_resp.connection import Connection
from norikv_resp.context import Context, FastHandler
from norikv_resp.cursors import Cursors
from norikv_resp.database import Database
from norikv_resp.datadir import open_data
from norikv_resp.delivery import Delivery
from norikv_resp.dispatch import Dispatcher
from norikv_resp.errors import CommitFailed
from norikv_resp.expiry import Sweeper
from norikv_resp.hooks import Hooks
from norikv_resp.idempotency import Idempotency
from norikv_resp.keyspace import Keyspace
from norikv_resp.listeners import Listeners
from norikv_resp.live_options import LiveOptions
from norikv_resp.loader import (
    LoadedModule,
    bundled_module,
    load_core,
    load_module,
)
from norikv_resp.logs import log
from norikv_resp.notify import Notifier
from norikv_resp.open_files import clients_at_start
from norikv_resp.pause import Pause
from norikv_resp.pubsub import Hub
from norikv_resp.stats import Latency, Slowlog, Stats
from norikv_resp.store import Store, StoreError
from norikv_resp.tracking import Tracking

if TYPE_CHECKING:
    from norikv_resp.commitlog import CommitError

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

#: Hot paths are not timed one by one; they take far less than this many microseconds. A slow log
#: threshold below it switches them off.
UNTIMED_ABOVE = 1000

#: When Python looks for cycles: seldom, since what commands make is freed by reference counts and
#: every look walks over tens of thousands of cached records.
COLLECT_AFTER = (50_000, 20, 50)

PROTECTED = (
    b"DENIED norikv-resp is running in protected mode because no password is set for the default "
    b"user. Connect from this host, or set requirepass, bind or protected-mode in the "
    b"configuration."
)
TOO_MANY_CLIENTS = b"ERR max number of clients reached"


class Server:
    """One running server. Everything that commands share hangs off it."""

    def __init__(self, config: Config, loop: asyncio.AbstractEventLoop) -> None:
        # For the life of the server.
        self.config = config
        self.loop = loop
        #: 40 hexadecimal digits that no other start has.
        self.run_id = secrets.token_hex(20)
        self.stats = Stats()
        self.slowlog = Slowlog(config)
        self.latency = Latency()
        self.registry = Registry()
        self.fast_commands: dict[bytes, FastHandler] = {}
        self.modules: dict[str, LoadedModule] = {}
        self.hooks = Hooks()
        self._load_families()
        self.acl = AccessControl(self.registry, config)
        self.acl.describe_client = describe
        self.cursors = Cursors()
        self.hub: Hub[Context] = Hub()
        self.delivery = Delivery(self)
        self.hub.wake = self.delivery.wake
        self.tracking = Tracking(self._context_of, config.tracking_table_max_keys)
        self.dispatcher = Dispatcher(self, self.registry)
        self.live = LiveOptions(self)
        self.pause = Pause(self)

        # Opened by ``open``.
        self.keyspace: Keyspace
        self.idempotency: Idempotency
        self.notifier: Notifier
        self.sweeper: Sweeper

        # Clients.
        self.contexts: dict[int, Context] = {}
        self._next_id = 1
        self.max_clients = config.maxclients
        self.monitors: set[Context] = set()
        #: Connections with held replies.
        self.holders: list[Connection] = []
        #: The client whose command runs, for tracking's NOLOOP; 0 for none.
        self.writer = 0
        #: Whether nothing keeps connections as such from the hot paths; see ``refresh``.
        self.plain = True

        #: Whether the sweeper runs; DEBUG SET-ACTIVE-EXPIRE.
        self.sweeping = True

        # The loop turn.
        #: Whether this turn has staged something and ends with a frame.
        self.seal_scheduled = False

        # Life and death.
        self.listeners = Listeners(config, loop, lambda: Connection(self))
        self.stopping = asyncio.Event()
        self._stop_requests = 0
        self._settle_at_stop = True
        #: Work that no connection waits for; kept so that it is not collected.
        self._background: set[asyncio.Task[None]] = set()
        self._timers: list[asyncio.TimerHandle] = []

    # ---- the start

    def _load_families(self) -> None:
        load_core(self.registry, FAMILIES)
        for name in module_names(self.config.bundled_modules):
            self._load(bundled_module(name), [])
        for line in self.config.loadmodule:
            path, *arguments = line
            self._load(Path(path), list(arguments))

    def _load(self, path: Path, arguments: list[str]) -> None:
        loaded = load_module(self.registry, path, arguments, self.fast_commands, self.hooks)
        self.modules[loaded.name] = loaded

    def open(self) -> None:
        """Open the data and take over the options; StoreError or StartupError if that fails."""
        config = self.config
        self.max_clients = clients_at_start(config)
        store = open_data(config, self.loop)
        self.keyspace = Keyspace(store, config.databases, config.cache_size)
        store.listener = self
        self.idempotency = Idempotency(
            config.idempotency_window * 1000, config.idempotency_max_records
        )
        self.idempotency.load(self.keyspace)
        self.notifier = Notifier(self.hub, self.keyspace)
        self.sweeper = Sweeper(self)
        self.live.follow()
        self._tell_modules()

    def _tell_modules(self) -> None:
        """The data is open; StartupError if a module cannot work with it."""
        try:
            for hook in self.hooks.opened:
                hook(self)
        except Exception as error:  # a module is foreign code
            self.keyspace.store.close()
            log.debug("a module's hook has failed", exc_info=error)
            raise StartupError(f"a module cannot start: {type(error).__name__}: {error}") from error

    @property
    def store(self) -> Store:
        """The data."""
        return self.keyspace.store

    def start_timers(self) -> None:
        """Begin the periodic work."""
        self._every(0.1, self._tick)
        self._every(1.0, self._look_after_clients)
        self._sweep()

    def _every(self, seconds: float, work: Any) -> None:
        def again() -> None:
            try:
                work()
            except Exception:
                log.exception("periodic work failed")
            self._timers[slot] = self.loop.call_later(seconds, again)

        slot = len(self._timers)
        self._timers.append(self.loop.call_later(seconds, again))

    def _tick(self) -> None:
        self.stats.sample(self.commands_run())
        self.keyspace.clock.follow()
        self.keyspace.store.tick(self.loop.time())
        if self.tracking.active:
            # Reads alone fill its table; nothing else would bring it back under its bound.
            self.delivery.send(self.keyspace.store.durable)

    def _sweep(self) -> None:
        """Reclaim what has expired or was deleted, more often while there is more."""
        if not self.stopping.is_set():
            interval = 1 / min(max(self.config.hz, 1), 500)
            pause = self.sweeper.turn(interval) if self.sweeping else interval
            self.loop.call_later(pause, self._sweep)

    def commands_run(self) -> int:
        """Commands since the start or CONFIG RESETSTAT. O(number of commands)."""
        return sum(command.calls for command in self.registry)

    def run_in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Run what no client waits for."""
        task = self.loop.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    # ---- durable points

    def is_synced(self) -> bool:
        """Whether everything written so far is on disk."""
        return self.keyspace.store.all_synced

    def call_when_synced(self, tell: Callable[[bool], None]) -> None:
        """Have everything written so far synced soon; *tell* hears whether it is on disk."""
        keyspace = self.keyspace
        last = keyspace.index if keyspace.store.open else keyspace.sealed
        keyspace.store.when_synced(last, tell)

    async def wait_until_synced(self) -> bool:
        """Whether everything written before the call has come to the disk."""
        done: asyncio.Future[bool] = self.loop.create_future()

        def tell(synced: bool) -> None:
            if not done.done():
                done.set_result(synced)

        self.call_when_synced(tell)
        return await done

    # ---- the loop turn

    def schedule_seal(self) -> None:
        """Something is staged: at the end of this loop turn it becomes a frame."""
        if not self.seal_scheduled:
            self.seal_scheduled = True
            self.loop.call_soon(self._seal)

    def _seal(self) -> None:
        self.seal_scheduled = False
        self.keyspace.seal()

    # ---- the store's calls (StoreListener)

    def on_commit(self, last: int) -> None:
        """Everything up to index *last* is committed: let its replies and messages go."""
        holders, self.holders = self.holders, []
        self.holders += [holder for holder in holders if not holder.release(last)]
        self.delivery.send(last)
        self.hooks.on_commit(last)

    def on_rollback(self, rows: Iterable[bytes], error: CommitError) -> None:
        """A commit has failed: its changes and all on top of them are gone."""
        log.error("commit failed: %s", error)
        self.keyspace.rolled_back(rows)
        self.idempotency.load(self.keyspace)
        self.hooks.on_rollback()
        durable = self.keyspace.store.durable
        failure = CommitFailed(error.cause, error.outcome)
        holders, self.holders = self.holders, []
        for holder in holders:
            holder.fail(durable, failure)
        self.hub.discard(durable)
        self.notifier.give_up()
        self.delivery.send(self.keyspace.index)

    def collection_reclaimed(self, cid: int) -> None:
        """The sweeper has removed the last row of a collection."""
        self.hooks.on_reclaimed(cid)

    # ---- events

    def follow_changes(self) -> None:
        """Tracking was switched on or off somewhere."""
        self.keyspace.observer = self._changed if self.tracking.active else None

    def everything_changed(self) -> None:
        """Whole databases were emptied or exchanged: clients' copies of all keys are void."""
        if self.tracking.active:
            self.tracking.touch_all(self.keyspace.index)

    def _changed(self, database: Database, key: bytes) -> None:
        self.tracking.touch(key, self.keyspace.index, self.writer)

    # ---- clients

    def admit(self, connection: Connection) -> bytes | None:
        """Why a new connection is refused; None if it is welcome."""
        if len(self.contexts) >= self.max_clients:
            self.stats.rejected_connections += 1
            return TOO_MANY_CLIENTS
        if self.config.protected_mode and self.acl.default.nopass:
            peer = connection.transport.get_extra_info("peername")
            if isinstance(peer, tuple) and not _is_loopback(peer[0]):
                self.stats.rejected_connections += 1
                return PROTECTED
        return None

    def register(self, connection: Connection) -> Context:
        """A new client with an id of its own."""
        context = Context(self, connection, self._next_id)
        self.contexts[self._next_id] = context
        self._next_id += 1
        self.stats.connections += 1
        return context

    def unregister(self, connection: Connection) -> None:
        """The client is gone: forget all that it held."""
        context = connection.context
        self.stats.bytes_in += connection.bytes_in
        self.stats.bytes_out += connection.bytes_out
        self.contexts.pop(context.id, None)
        context.detach()

    def _context_of(self, ident: int) -> Context | None:
        return self.contexts.get(ident)

    def refresh(self) -> None:
        """Something that concerns all hot paths has changed."""
        self.plain = (
            not self.monitors
            and not self.pause.active
            and self.live.slow_threshold >= UNTIMED_ABOVE
            and self.live.latency_threshold == sys.maxsize
        )
        for context in self.contexts.values():
            context.refresh()

    def _look_after_clients(self) -> None:
        """Close idle clients and those that have let too much output pile up."""
        timeout = self.config.timeout
        now = self.keyspace.clock.now()
        for context in list(self.contexts.values()):
            connection = context.connection
            if (
                timeout
                and now - connection.active > timeout * 1000
                and connection.waiting_for is None
                and not context.subscribed
                and not context.monitoring
            ):
                log.debug("closing idle client %s", connection.peer)
                connection.abort()
            else:
                self.check_output_limit(connection)

    def check_output_limit(self, connection: Connection) -> None:
        """Apply client-output-buffer-limit: hard at once, soft after its seconds."""
        context = connection.context
        kind = "pubsub" if context.subscribed else "normal"
        hard, soft, seconds = self.config.client_output_buffer_limit[kind]
        size = connection.transport.get_write_buffer_size() + connection.held_bytes
        if soft and size > soft:
            connection.over_soft_since = connection.over_soft_since or self.loop.time()
        else:
            connection.over_soft_since = 0.0
        over_soft = connection.over_soft_since
        if (hard and size > hard) or (over_soft and self.loop.time() - over_soft > seconds):
            self.stats.output_limit_disconnections += 1
            log.warning(
                "closing client %s: %d bytes of output exceed its limit", connection.peer, size
            )
            connection.abort()

    # ---- the stop

    def request_stop(self, settle: bool = True) -> None:
        """SIGTERM, SIGINT or SHUTDOWN; the second request hurries.

        Without *settle* the next start has more to replay.
        """
        self._stop_requests += 1
        self._settle_at_stop = settle
        self.stopping.set()

    async def stop(self) -> None:
        """Accept no more, finish what was staged, tell clients, settle, close."""
        log.info("stopping: no new clients")
        self.listeners.close()
        for timer in self._timers:
            timer.cancel()
        self.keyspace.seal()
        await self._drain()
        for context in list(self.contexts.values()):
            context.connection.closing_after_replies()
            context.connection.transport.close()
        await asyncio.sleep(0)
        self.listeners.remove_unix_socket()
        await self.hooks.on_stop()
        # Closing blocks the loop: from here on a signal is heard by the interpreter itself.
        for signum in _STOP_SIGNALS:
            self.loop.remove_signal_handler(signum)
            signal.signal(signum, self._leave)
        self.keyspace.store.close(settle=self._settle_at_stop and self._stop_requests < 2)
        log.info("bye")

    def _leave(self, *_: object) -> None:
        """A second signal while records settle: everything is in the commit log already."""
        log.warning("second signal: leaving now, the next start replays the log")
        if self.config.pidfile and os.path.exists(self.config.pidfile):
            os.unlink(self.config.pidfile)
        os._exit(0)

    async def _drain(self) -> None:
        """Wait until everything staged is committed, for at most five seconds."""
        deadline = self.loop.time() + 5
        while self.holders and self.loop.time() < deadline and self._stop_requests < 2:
            await asyncio.sleep(0.005)


def _is_loopback(host: str) -> bool:
    return host.startswith("127.") or host in ("::1", "::ffff:127.0.0.1")


async def serve(config: Config, started: Callable[[Sequence[str]], None]) -> int:
    """Run a server until it is asked to stop; the exit status."""
    loop = asyncio.get_running_loop()
    server = Server(config, loop)
    try:
        server.open()
    except StoreError as error:
        raise StartupError(str(error)) from None
    try:
        await server.listeners.open()
    except StartupError:
        server.keyspace.store.close()
        raise
    for signum in _STOP_SIGNALS:
        loop.add_signal_handler(signum, server.request_stop)
    server.start_timers()
    spare_the_collector()
    started(server.listeners.addresses())
    await server.stopping.wait()
    await server.stop()
    return 0


def spare_the_collector() -> None:
    """Leave what lives as long as the process out of the search for cycles, and search less."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


def run(config: Config, started: Callable[[Sequence[str]], None]) -> int:
    """Run a server in this process until SIGTERM, SIGINT or SHUTDOWN; the exit status.

    *started* is called with the addresses once clients are accepted. StartupError before that.
    """
    sys.setswitchinterval(0.0005)
    try:
        import uvloop
    except ImportError:
        return asyncio.run(serve(config, started))
    return uvloop.run(serve(config, started))
