"""MULTI and what belongs to it: WATCH, CHECK, and IDEM, which makes commands run at most once."""

from __future__ import annotations

from typing import Any

from norikv_resp.command import (
    FAST,
    LOADING,
    NOSCRIPT,
    READONLY,
    STALE,
    WRITE,
    Bytes,
    Command,
    Flag,
    Key,
    Request,
    Rest,
    Version,
    command,
    parse_int,
    parse_version,
)
from norikv_resp.context import Context
from norikv_resp.errors import EXEC_ABORTED, ReplyError, SyntaxProblem, WritesRefused
from norikv_resp.idempotency import IDEM_NESTED, IDEM_READ, fingerprint
from norikv_resp.protocol import NULL_ARRAY, OK

_ALWAYS = LOADING | STALE | FAST | Flag.ALLOW_BUSY
EXEC_WITHOUT_MULTI = ReplyError(b"ERR EXEC without MULTI")


@command(
    "MULTI",
    since="1.2.0",
    group="transactions",
    flags=NOSCRIPT | _ALWAYS | Flag.UNQUEUED,
    summary="Starts a transaction.",
    complexity="O(1)",
)
def multi(ctx: Context) -> Any:
    if ctx.queue is not None:
        raise ReplyError(b"ERR MULTI calls can not be nested")
    ctx.queue = []
    ctx.refresh()
    return OK


@command(
    "DISCARD",
    since="2.0.0",
    group="transactions",
    flags=NOSCRIPT | _ALWAYS | Flag.UNQUEUED,
    summary="Discards a transaction.",
    complexity="O(N), N the number of queued commands",
)
def discard(ctx: Context) -> Any:
    if ctx.queue is None:
        raise ReplyError(b"ERR DISCARD without MULTI")
    ctx.end_transaction()
    return OK


@command(
    "WATCH",
    since="2.2.0",
    group="transactions",
    flags=NOSCRIPT | _ALWAYS | Flag.UNQUEUED,
    summary="Watches keys: the next EXEC replies nil if one of them has changed.",
    complexity="O(1) for every key",
    args=(Key(multiple=True, does=()),),
)
def watch(ctx: Context, key: list[bytes]) -> Any:
    if ctx.queue is not None:
        raise ReplyError(b"ERR WATCH inside MULTI is not allowed")
    keyspace = ctx.server.keyspace
    for each in key:
        place = (ctx.keys.number, each)
        if place not in ctx.watching:
            ctx.watching.add(place)
            keyspace.watch(ctx.keys, each, ctx)
            if ctx.keys.get(each) is not None:
                ctx.watched_alive.add(place)
    return OK


@command(
    "UNWATCH",
    since="2.2.0",
    group="transactions",
    flags=NOSCRIPT | _ALWAYS,
    summary="Forgets the watched keys of a connection.",
    complexity="O(1)",
)
def unwatch(ctx: Context) -> Any:
    ctx.unwatch()
    return OK


@command(
    "EXEC",
    since="1.2.0",
    group="transactions",
    flags=NOSCRIPT | LOADING | STALE | Flag.SKIP_SLOWLOG | Flag.UNQUEUED,
    summary="Executes the commands of a transaction.",
    complexity="that of the commands in the transaction",
)
def exec_(ctx: Context) -> Any:
    return run_transaction(ctx, None, None)


def run_transaction(ctx: Context, token: bytes | None, ttl: int | None) -> Any:
    """EXEC, at most once under *token* or under the one that was queued by ``IDEM token``."""
    if ctx.queue is None:
        raise EXEC_WITHOUT_MULTI
    queue, aborted = ctx.queue, ctx.queue_error
    changed = _watched_changed(ctx)
    ctx.end_transaction()
    if aborted:
        raise EXEC_ABORTED
    writes = any(_inner(ctx, queued, request).is_write for queued, request in queue)
    refusal = ctx.server.keyspace.store.refusal
    if writes and refusal is not None:
        raise WritesRefused(refusal)
    if token is None:
        token, ttl = _queued_token(queue)
    if writes and not ctx.executing:
        ctx.server.keyspace.index += 1
    if token is None:
        return _run_queue(ctx, queue, changed)
    return ctx.server.idempotency.run(
        ctx.keys,
        None,
        token,
        ttl,
        fingerprint("EXEC", _queue_words(queue)),
        lambda: _run_queue(ctx, queue, changed),
    )


def _watched_changed(ctx: Context) -> bool:
    if ctx.dirty:
        return True
    databases = ctx.server.keyspace.databases
    return any(databases[number].get(key) is None for number, key in ctx.watched_alive)


def _run_queue(ctx: Context, queue: list[tuple[Command, Request]], changed: bool) -> Any:
    if changed or not _checks_hold(ctx, queue):
        return NULL_ARRAY
    server = ctx.server
    outer, ctx.executing = ctx.executing, True
    ctx.refresh()
    try:
        return [server.dispatcher.call_queued(ctx, queued, request) for queued, request in queue]
    finally:
        ctx.executing = outer
        ctx.refresh()


def _checks_hold(ctx: Context, queue: list[tuple[Command, Request]]) -> bool:
    """Judge every queued CHECK against the state before the transaction."""
    keys = ctx.keys
    databases = ctx.server.keyspace.databases
    for queued, request in queue:
        if queued.name == "SELECT":
            number = parse_int(request[1])
            if 0 <= number < len(databases):
                keys = databases[number]
        elif queued.name == "CHECK":
            record = keys.get(request[1])
            version = keys.version(record) if record is not None else (0, 0)
            if version != parse_version(request[2]):
                return False
    return True


def _judge_check(request: Request) -> None:
    parse_version(request[2])


@command(
    "CHECK",
    group="transactions",
    flags=READONLY | FAST,
    summary="Compares a key's version. In MULTI: EXEC replies nil if any queued CHECK fails.",
    complexity="O(1)",
    args=(Key(), Version()),
    check_queued=_judge_check,
)
def check(ctx: Context, key: bytes, version: tuple[int, int]) -> int:
    if ctx.executing:
        return 1  # EXEC judged it before the transaction; a failed one would have ended it
    record = ctx.keys.get(key)
    found = ctx.keys.version(record) if record is not None else (0, 0)
    return int(found == version)


# --------------------------------------------------------------------------
# IDEM


def _split_idem(request: Request) -> tuple[bytes, int | None, Request]:
    """``(token, ttl, inner request)`` of an IDEM command; the inner one may be empty."""
    token, rest = request[1], request[2:]
    if len(rest) > 1 and rest[0].upper() == b"TTL":
        ttl = parse_int(rest[1])
        if ttl <= 0:
            raise ReplyError(b"ERR invalid expire time in 'idem' command")
        return token, ttl, rest[2:]
    if rest and rest[0].upper() == b"TTL":
        raise SyntaxProblem
    return token, None, rest


def _judge_idem(request: Request) -> None:
    _split_idem(request)


def _carried(request: Request) -> Request:
    return _split_idem(request)[2]


@command(
    "IDEM",
    group="transactions",
    flags=WRITE | Flag.KEYLESS | Flag.MOVABLEKEYS,
    summary="Runs a write command, or with EXEC the transaction, at most once under a token.",
    complexity="that of the command, and O(N) for the size of its reply",
    args=(Bytes("token"), Rest("command")),
    acl=("transaction",),
    wraps=_carried,
    check_queued=_judge_idem,
)
def idem(ctx: Context, token: bytes, command: list[bytes]) -> Any:
    token, ttl, inner = _split_idem([b"IDEM", token, *command])
    if not inner:
        if ctx.executing:
            return OK  # EXEC has read the token from the queue
        raise ReplyError(b"ERR IDEM without a command is only for use inside MULTI")
    dispatcher = ctx.server.dispatcher
    carried = dispatcher.resolve(inner)
    if carried.name == "EXEC":
        return run_transaction(ctx, token, ttl)
    if carried.wraps is not None or (carried.parser.idem and carried.parser.idem_at(inner)):
        raise IDEM_NESTED
    if not carried.is_write:
        raise IDEM_READ
    return dispatcher.once(ctx, carried, inner, token, ttl)


def _queued_token(queue: list[tuple[Command, Request]]) -> tuple[bytes | None, int | None]:
    """The token of an ``IDEM token`` that was queued alone."""
    for queued, request in queue:
        if queued.wraps is not None:
            token, ttl, inner = _split_idem(request)
            if not inner:
                return token, ttl
    return None, None


def _queue_words(queue: list[tuple[Command, Request]]) -> list[bytes]:
    """What tells one transaction from another: its commands without the token's own entry."""
    words: list[bytes] = []
    for queued, request in queue:
        if queued.wraps is None or _carried(request):
            words += [queued.name.encode(), b"%d" % len(request), *request[queued.words :]]
    return words


def _inner(ctx: Context, queued: Command, request: Request) -> Command:
    return ctx.server.dispatcher.unwrap(queued, request)[0]
