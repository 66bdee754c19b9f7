"""From a request to a reply: look-up, gates, MULTI, the call, statistics.

``Dispatcher.execute`` is the whole path of a command that has no hot path of
its own. Gates are functions that raise; their order is the order in which
Redis judges.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from norikv_resp import monitor
from norikv_resp.command import Command, Flag, Registry, Request
from norikv_resp.encoding import CorruptRecord
from norikv_resp.errors import (
    INTERNAL,
    NOT_AUTHENTICATED,
    ReplyError,
    UnknownCommand,
    UnknownSubcommand,
    WritesRefused,
    WrongArity,
)
from norikv_resp.idempotency import fingerprint
from norikv_resp.logs import log
from norikv_resp.protocol import Simple
from norikv_resp.store import ReadFailed

if TYPE_CHECKING:
    from norikv_resp.context import Context
    from norikv_resp.server import Server

QUEUED = Simple(b"QUEUED")
_SUBSCRIBED_ALLOWED = frozenset(
    verb + "SUBSCRIBE" for verb in ("", "P", "S", "UN", "PUN", "SUN")
) | {"PING", "QUIT", "RESET"}
#: First words of HTTP requests: a browser that is made to talk to this port must get nowhere.
_WEB = (b"POST", b"HOST:")
SUBSCRIBED = (
    "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are "
    "allowed in this context"
)


class Dispatcher:
    """Runs commands for all connections; one per server."""

    def __init__(self, server: Server, registry: Registry) -> None:
        self.server = server
        self.registry = registry

    # ---- look-up

    def resolve(self, request: Request) -> Command:
        """The command that a request names, with an arity that fits; ReplyError otherwise."""
        command = self.registry.find(request[0])
        if command is None:
            raise UnknownCommand(request)
        if command.subcommands and len(request) > 1:
            sub = command.subcommands.get(request[1].upper())
            if sub is None:
                raise UnknownSubcommand(command.full_name, request[1])
            command = sub
        if not command.arity_fits(len(request)):
            raise WrongArity(command.full_name)
        return command

    def unwrap(self, command: Command, request: Request) -> tuple[Command, Request]:
        """The command that IDEM (or another wrapper) carries, down to one that is none."""
        if command.wraps is None:
            return command, request
        inner = command.wraps(request)
        if not inner:
            return command, request
        return self.resolve(inner), inner

    # ---- gates

    def admit(self, ctx: Context, command: Command, request: Request) -> Command:
        """Raise what forbids this command to this connection now; the innermost command."""
        if not ctx.authenticated and not command.flags & Flag.NO_AUTH:
            raise NOT_AUTHENTICATED
        inner, inner_request = self.unwrap(command, request)
        if not ctx.user.unrestricted:
            self.server.acl.authorize(ctx, inner, inner_request)
        if not ctx.resp3 and ctx.subscribed and command.name not in _SUBSCRIBED_ALLOWED:
            raise ReplyError(SUBSCRIBED.format(command.full_name))
        refusal = self.server.keyspace.store.refusal
        if refusal is not None and inner.is_write:
            raise WritesRefused(refusal)
        if ctx.queue is not None and inner.flags & Flag.NO_MULTI:
            raise ReplyError("ERR Command not allowed inside a transaction")
        return inner

    # ---- execution

    def execute(self, ctx: Context, request: Request) -> Any:
        """The reply of one request: a value, a ReplyError as a value, or an awaitable of either.

        Never raises but for a defect that the log then shows.
        """
        command: Command | None = None
        try:
            command = self.resolve(request)
            carried = self.admit(ctx, command, request)
            if ctx.queue is not None and not carried.flags & Flag.UNQUEUED:
                if command.check_queued is not None:
                    command.check_queued(request)
                ctx.queue.append((command, request))
                return QUEUED
        except ReplyError as error:
            if command is not None:
                command.rejected += 1
            elif request[0].upper() in _WEB:
                log.warning("closing %s: it speaks HTTP", ctx.connection.peer)
                ctx.connection.abort()
            return self.rejected(ctx, request, error)
        return self.call(ctx, command, request)

    def rejected(self, ctx: Context, request: Request, error: ReplyError) -> ReplyError:
        """An error before the call: it aborts an open transaction."""
        self.server.stats.error(error)
        name = request[0].upper()
        if name == b"EXEC":
            ctx.end_transaction()
            reason = error.text.partition(b" ")[2]
            return ReplyError(b"EXECABORT Transaction discarded because of: " + reason)
        if ctx.queue is not None:
            ctx.queue_error = True
        return error.with_traceback(None)

    def call(self, ctx: Context, command: Command, request: Request) -> Any:
        """Run an admitted command and account for it. Returns as ``execute`` does."""
        server = self.server
        ctx.last_command = command.full_name
        if server.monitors and not command.flags & (Flag.SKIP_MONITOR | Flag.ADMIN):
            monitor.show(server.monitors, ctx, shown(command, request))
        started = time.perf_counter_ns()
        reply = self.run(ctx, command, request)
        if ctx.tracking is not None:
            server.tracking.executed(ctx, command, request)
        elapsed = (time.perf_counter_ns() - started) // 1000
        command.calls += 1
        command.timed += 1
        command.microseconds += elapsed
        command.durations[elapsed.bit_length()] += 1
        if isinstance(reply, ReplyError):
            command.failed += 1
            server.stats.error(reply)
        if elapsed >= server.live.slow_threshold and not command.flags & Flag.SKIP_SLOWLOG:
            server.slowlog.add(ctx, shown(command, request), elapsed)
        if elapsed >= server.live.latency_threshold:
            server.latency.add("fast-command" if command.flags & Flag.FAST else "command", elapsed)
        return reply

    def call_queued(self, ctx: Context, command: Command, request: Request) -> Any:
        """Run a command that MULTI queued, if its user's rules still allow it."""
        if not ctx.user.unrestricted:
            try:
                self.server.acl.authorize(ctx, *self.unwrap(command, request))
            except ReplyError as error:
                command.rejected += 1
                self.server.stats.error(error)
                return error
        return self.call(ctx, command, request)

    def run(self, ctx: Context, command: Command, request: Request) -> Any:
        """The handler's reply, with what it raises as a value.

        A write command gets the next index; inside EXEC and IDEM the outer
        command's index serves all.
        """
        keyspace = self.server.keyspace
        try:
            if command.is_write and not ctx.executing:
                keyspace.index += 1
            if command.parser.idem and (at := command.parser.idem_at(request)):
                return self._run_once(ctx, command, request, at)
            return command.run(ctx, request)
        except ReplyError as error:
            # Constants are raised again and again: each time would lengthen their traceback.
            return error.with_traceback(None)
        except CorruptRecord as error:
            log.critical("damaged record met by %s: %s", command.full_name, error)
            return ReplyError(b"ERR the stored record is damaged: run norikv-resp check")
        except ReadFailed as error:
            log.error("%s: %s", command.full_name, error)
            return ReplyError(f"ERR the data cannot be read: {error}")
        except Exception:
            log.exception("defect in %s", command.full_name)
            return INTERNAL

    def _run_once(self, ctx: Context, command: Command, request: Request, at: int) -> Any:
        """A command with an IDEM option of its own."""
        token = request[at + 1]
        plain = request[:at] + request[at + 2 :]
        return self.once(ctx, command, plain, token, None)

    def once(
        self, ctx: Context, command: Command, request: Request, token: bytes, ttl: int | None
    ) -> Any:
        """Run *command* at most once under *token*; *request* is without the token."""
        keys = command.keys(request)
        outer, ctx.executing = ctx.executing, True
        try:
            return self.server.idempotency.run(
                ctx.keys,
                keys[0][0] if keys else None,
                token,
                ttl,
                fingerprint(command.name, request[command.words :]),
                lambda: command.run(ctx, request),
            )
        finally:
            ctx.executing = outer


def shown(command: Command, request: Request) -> Request:
    """The request without its secrets."""
    return request if command.redact is None else command.redact(request)


def is_waiting(reply: Any) -> bool:
    """Whether a reply is still to come."""
    return hasattr(type(reply), "__await__")
