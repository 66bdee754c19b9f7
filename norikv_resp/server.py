"""The server: listeners, signals, the ordered start and stop, and what connects the parts."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from norikv_resp import notify
from norikv_resp.acl import AccessControl
from norikv_resp.bundled import module_names
from norikv_resp.clients import describe
from norikv_resp.command import Registry, Request
from norikv_resp.commands import FAMILIES
from norikv_resp.config import Config, StartupError
from norikv_resp.connection import Connection
from norikv_resp.context import Context, FastHandler
from norikv_resp.cursors import Cursors
from norikv_resp.datadir import open_data
from norikv_resp.dispatch import Dispatcher
from norikv_resp.errors import CommitFailed
from norikv_resp.expiry import Sweeper
from norikv_resp.idempotency import Idempotency
from norikv_resp.keyspace import Database, Keyspace
from norikv_resp.loader import (
    LoadedModule,
    bundled_module,
    load_core,
    load_module,
)
from norikv_resp.logs import log
from norikv_resp.notify import Notifier
from norikv_resp.option_types import Option, OptionError
from norikv_resp.protocol import Simple, encode
from norikv_resp.pubsub import Hub
from norikv_resp.stats import Latency, Slowlog, Stats
from norikv_resp.store import Policy, Store, StoreError
from norikv_resp.tracking import Tracking

if TYPE_CHECKING:
    from norikv_resp.commitlog import CommitError

T = TypeVar("T")

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

#: Descriptors for everything that is neither a client nor LevelDB's.
RESERVED_FILES = 64

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
        self._load_families()
        self.acl = AccessControl(self.registry, config)
        self.acl.describe_client = describe
        self.cursors = Cursors()
        self.hub: Hub[Context] = Hub()
        self.hub.wake = self._wake_messages
        self.tracking = Tracking(self._context_of, config.tracking_table_max_keys)
        self.dispatcher = Dispatcher(self, self.registry)

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

        #: Whether the sweeper runs; DEBUG SET-ACTIVE-EXPIRE.
        self.sweeping = True

        # CLIENT PAUSE.
        self.paused = False
        self._pause_until = 0.0
        self._pause_all = False
        self._postponed: list[Connection] = []

        # The loop turn.
        self._seal_scheduled = False
        self._messages_scheduled = False

        # Settings that hot paths read, kept by ``_follow_options``.
        self.turn_commands = 0
        self.query_buffer_limit = 0
        self.slow_threshold = 0
        self.latency_threshold = 0
        self.plain = True

        # Life and death.
        self._listeners: list[asyncio.Server] = []
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
        loaded = load_module(self.registry, path, arguments, self.fast_commands)
        self.modules[loaded.name] = loaded

    def open(self) -> None:
        """Open the data and take over the options; StoreError or StartupError if that fails."""
        config = self.config
        self._fit_to_open_files()
        store = open_data(config, self.loop)
        self.keyspace = Keyspace(store, config.databases, config.cache_size)
        store.listener = self
        self.idempotency = Idempotency(
            config.idempotency_window * 1000, config.idempotency_max_records
        )
        self.idempotency.load(self.keyspace)
        self.notifier = Notifier(self.hub, self.keyspace)
        self.sweeper = Sweeper(self)
        self._follow_options()

    @property
    def store(self) -> Store:
        """The data."""
        return self.keyspace.store

    @property
    def clock(self) -> Any:
        """The server's monotone clock."""
        return self.keyspace.clock

    def _fit_to_open_files(self, strictly: bool = False) -> None:
        """Raise the soft limit on open files, and take fewer clients if it is not enough.

        *strictly*: OptionError instead of fewer clients.
        """
        need = self.config.maxclients + self.config.leveldb_max_open_files + RESERVED_FILES
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < need:
            reachable = need if hard == resource.RLIM_INFINITY else min(need, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (reachable, hard))
            soft = reachable
        if soft < need and strictly:
            raise OptionError(
                "The operating system is not able to handle the specified number of clients, try"
                f" with {max(soft - self.config.leveldb_max_open_files - RESERVED_FILES, 0)}"
            )
        if soft < need:
            fitting = soft - self.config.leveldb_max_open_files - RESERVED_FILES
            if fitting < 1:
                raise StartupError(
                    f"the limit on open files ({soft}) is too low: raise it (ulimit -n) or lower "
                    "leveldb-max-open-files"
                )
            log.warning(
                "maxclients is %d instead of %d: the limit on open files is %d (ulimit -n)",
                fitting,
                self.config.maxclients,
                soft,
            )
            self.max_clients = fitting

    def _follow_options(self) -> None:
        """Take over the options that something else keeps a copy of, now and when they change."""
        keyspace, idempotency = self.keyspace, self.idempotency
        self._keep(Config.commands_per_turn, self, "turn_commands")
        self._keep(Config.client_query_buffer_limit, self, "query_buffer_limit")
        self._keep(Config.cache_size, keyspace, "cache_size")
        self._keep(Config.idempotency_window, idempotency, "window_ms", lambda value: value * 1000)
        self._keep(Config.idempotency_max_records, idempotency, "max_records")
        self._keep(Config.tracking_table_max_keys, self.tracking, "max_keys")
        self._follow(Config.slowlog_log_slower_than, self._slower_than)
        self._follow(Config.latency_monitor_threshold, self._latency_from)
        self._follow(Config.proto_max_bulk_len, self._limit_requests)
        self._follow(Config.max_multibulk_elements, self._limit_requests)
        self._follow(Config.notify_keyspace_events, self._select_events)
        self._follow(Config.appendfsync, self._sync_by)
        # The limit on open files may have lowered what the start-up configuration asked for.
        self.config.on_change(Config.maxclients, self._allow_clients)
        self.config.on_change(Config.slowlog_max_len, lambda _: self.slowlog.trim())
        self._limit_store(Config.overlay_size, "overlay_limit")
        self._limit_store(Config.commit_log_budget, "log_budget")
        self._limit_store(Config.min_free_disk, "min_free_disk")

    def _follow(self, option: Option[T], follow: Callable[[T], None]) -> None:
        follow(getattr(self.config, option.attribute))
        self.config.on_change(option, follow)

    def _keep(
        self,
        option: Option[T],
        owner: object,
        name: str,
        convert: Callable[[T], object] = lambda value: value,
    ) -> None:
        self._follow(option, lambda value: setattr(owner, name, convert(value)))

    def _limit_store(self, option: Option[int], name: str) -> None:
        store = self.keyspace.store
        self.config.on_change(option, lambda size: store.set_limit(name, size))

    def _slower_than(self, microseconds: int) -> None:
        self.slow_threshold = microseconds if microseconds >= 0 else sys.maxsize
        self.refresh()

    def _latency_from(self, milliseconds: int) -> None:
        self.latency_threshold = milliseconds * 1000 or sys.maxsize
        self.refresh()

    def _limit_requests(self, _: int) -> None:
        for context in self.contexts.values():
            context.connection.apply_limits()

    def _select_events(self, flags: str) -> None:
        self.notifier.configure(notify.parse(flags))

    def _sync_by(self, policy: str) -> None:
        self.keyspace.store.set_policy(cast(Policy, policy))

    def _allow_clients(self, count: int) -> None:
        self._fit_to_open_files(strictly=True)
        self.max_clients = count

    async def listen(self) -> None:
        """Accept clients; StartupError if an address cannot be had."""
        config = self.config
        if config.port:
            for word in config.bind or ("*",):
                await self._listen_tcp(word.removeprefix("-"), optional=word.startswith("-"))
        if config.unixsocket:
            await self._listen_unix(config.unixsocket, config.unixsocketperm)

    async def _listen_tcp(self, host: str, optional: bool) -> None:
        address = {"*": "0.0.0.0", "::*": "::"}.get(host, host)
        try:
            listener = await self.loop.create_server(
                lambda: Connection(self),
                address,
                self.config.port,
                backlog=self.config.tcp_backlog,
                reuse_address=True,
            )
        except OSError as error:
            if optional:
                log.debug("not listening on %s: %s", host, error)
                return
            reason = error.strerror or str(error)
            raise StartupError(
                f"can't listen on {host} port {self.config.port}: {reason}"
            ) from None
        self._listeners.append(listener)

    async def _listen_unix(self, path: str, mode: int) -> None:
        try:
            if os.path.exists(path):
                os.unlink(path)
            listener = await self.loop.create_unix_server(lambda: Connection(self), path)
            if mode:
                os.chmod(path, mode)
        except OSError as error:
            raise StartupError(f"can't listen on {path}: {error.strerror or error}") from None
        self._listeners.append(listener)

    def addresses(self) -> list[str]:
        """Where clients are accepted, for people."""
        return [
            _address(sock.getsockname())
            for listener in self._listeners
            for sock in listener.sockets
        ]

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
            self._send_messages(self.keyspace.store.durable)

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
        if not self._seal_scheduled:
            self._seal_scheduled = True
            self.loop.call_soon(self._seal)

    def _seal(self) -> None:
        self._seal_scheduled = False
        self.keyspace.seal()

    # ---- the store's calls (StoreListener)

    def on_commit(self, last: int) -> None:
        """Everything up to index *last* is committed: let its replies and messages go."""
        holders, self.holders = self.holders, []
        self.holders += [holder for holder in holders if not holder.release(last)]
        self._send_messages(last)

    def on_rollback(self, rows: Iterable[bytes], error: CommitError) -> None:
        """A commit has failed: its changes and all on top of them are gone."""
        log.error("commit failed: %s (%s)", error, error.outcome)
        self.keyspace.rolled_back(rows)
        self.idempotency.load(self.keyspace)
        durable = self.keyspace.store.durable
        failure = CommitFailed(str(error), error.outcome)
        holders, self.holders = self.holders, []
        for holder in holders:
            holder.fail(durable, failure)
        self.hub.discard(durable)
        self.notifier.give_up()
        self._send_messages(self.keyspace.index)

    def _send_messages(self, committed: int) -> None:
        outgoing: dict[Context, list[bytes]] = {}
        for message, subscribers in self.hub.release(committed):
            # Encoded once for each protocol.
            encoded: dict[bool, bytes] = {}
            for subscriber in subscribers:
                data = encoded.get(subscriber.resp3)
                if data is None:
                    data = encoded[subscriber.resp3] = encode(message, subscriber.resp3)
                outgoing.setdefault(subscriber, []).append(data)
        for subscriber, parts in outgoing.items():
            subscriber.connection.push_encoded(b"".join(parts))
        if self.tracking.active:
            for client, message in self.tracking.flush(committed):
                self.contexts[client.id].connection.push(message)

    def _wake_messages(self) -> None:
        """A message is waiting: look at the end of this loop turn whether it may leave."""
        if not self._messages_scheduled:
            self._messages_scheduled = True
            self.loop.call_soon(self._send_ready_messages)

    def _send_ready_messages(self) -> None:
        self._messages_scheduled = False
        self._send_messages(self.keyspace.store.durable)

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
        context.unwatch()
        self.hub.drop(context)
        if context.tracking is not None:
            self.tracking.disable(context)
            self.follow_changes()
        if context in self.monitors:
            self.monitors.discard(context)
            self.refresh()

    def _context_of(self, ident: int) -> Context | None:
        return self.contexts.get(ident)

    def tune_socket(self, sock: Any) -> None:
        """No Nagle delay, and probes for peers that have vanished."""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        interval = self.config.tcp_keepalive
        if interval:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if hasattr(socket, "TCP_KEEPIDLE"):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, interval)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(interval // 3, 1))
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)

    def refresh(self) -> None:
        """Something that concerns all hot paths has changed."""
        self.plain = (
            not self.monitors
            and not self.paused
            and self.slow_threshold >= UNTIMED_ABOVE
            and self.latency_threshold == sys.maxsize
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

    def feed_monitors(self, ctx: Context, request: Request) -> None:
        """Show a command to the clients that MONITOR."""
        now = self.keyspace.now
        quoted = b" ".join(_quote(word) for word in request)
        where = f"{ctx.keys.number} {ctx.connection.peer}".encode()
        line = b"%d.%06d [%b] %b" % (now // 1000, now % 1000 * 1000, where, quoted)
        for monitor in list(self.monitors):
            monitor.connection.push(Simple(line))

    # ---- CLIENT PAUSE

    def pause(self, milliseconds: int, everything: bool) -> None:
        """Hold back clients' commands, or only their writes, for a while."""
        self.paused = True
        until = self.loop.time() + milliseconds / 1000
        self._pause_until = max(self._pause_until, until)
        self._pause_all = self._pause_all or everything
        self.refresh()
        self.loop.call_at(self._pause_until, self._pause_over)

    def _pause_over(self) -> None:
        if self.paused and self.loop.time() >= self._pause_until:
            self.unpause()

    def unpause(self) -> None:
        """Let held commands run."""
        self.paused = self._pause_all = False
        self._pause_until = 0.0
        self.refresh()
        postponed, self._postponed = self._postponed, []
        for connection in postponed:
            connection.go_on()

    def pauses(self, ctx: Context, request: Request) -> bool:
        """Whether this request has to wait until the pause is over."""
        if self._pause_all:
            return True
        command = self.registry.resolve(request)
        if command is None:
            return False
        if command.name == "EXEC" and ctx.queue is not None:
            return any(queued.is_write for queued, _ in ctx.queue)
        return command.is_write and ctx.queue is None

    def postpone(self, connection: Connection) -> None:
        """Run this connection again when the pause is over."""
        self._postponed.append(connection)

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
        for listener in self._listeners:
            listener.close()
        for timer in self._timers:
            timer.cancel()
        self.keyspace.seal()
        await self._drain()
        for context in list(self.contexts.values()):
            context.connection.closing_after_replies()
            context.connection.transport.close()
        await asyncio.sleep(0)
        if self.config.unixsocket and os.path.exists(self.config.unixsocket):
            os.unlink(self.config.unixsocket)
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


def _address(name: Any) -> str:
    if isinstance(name, tuple):
        return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
    return str(name)


def _is_loopback(host: str) -> bool:
    return host.startswith("127.") or host in ("::1", "::ffff:127.0.0.1")


_ESCAPES = {
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\a": "\\a",
    "\b": "\\b",
    '"': '\\"',
    "\\": "\\\\",
}


def _quote(word: bytes) -> bytes:
    """A word as MONITOR shows it."""
    shown = (
        _ESCAPES.get(char) or (char if " " <= char <= "~" else f"\\x{ord(char):02x}")
        for char in word.decode("latin-1")
    )
    return f'"{"".join(shown)}"'.encode()


async def serve(config: Config, started: Callable[[Sequence[str]], None]) -> int:
    """Run a server until it is asked to stop; the exit status."""
    loop = asyncio.get_running_loop()
    server = Server(config, loop)
    try:
        server.open()
    except StoreError as error:
        raise StartupError(str(error)) from None
    try:
        await server.listen()
    except StartupError:
        server.keyspace.store.close()
        raise
    for signum in _STOP_SIGNALS:
        loop.add_signal_handler(signum, server.request_stop)
    server.start_timers()
    spare_the_collector()
    started(server.addresses())
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
