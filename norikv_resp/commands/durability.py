"""SAVE, BGSAVE, WAITAOF and their like: points up to which everything is on disk. SHUTDOWN."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from norikv_resp.command import (
    ADMIN,
    FAST,
    LOADING,
    NOSCRIPT,
    STALE,
    Arg,
    Bytes,
    Flag,
    Int,
    Token,
    command,
    parse_int,
)
from norikv_resp.context import Context
from norikv_resp.errors import ReplyError, SyntaxProblem
from norikv_resp.logs import log
from norikv_resp.protocol import NO_REPLY, OK, Simple

_SAVING = ADMIN | NOSCRIPT | Flag.NO_ASYNC_LOADING

SAVING = Simple(b"Background saving started")
REWRITING = Simple(b"Background append only file rewriting started")
NO_SHUTDOWN = ReplyError(b"ERR No shutdown in progress.")


async def _durable_point(ctx: Context) -> Any:
    """OK once everything written so far is on disk."""
    synced = await ctx.server.wait_until_synced()
    if not synced:
        raise ReplyError(b"ERR the commit log could not be synced, see the server's log")
    ctx.server.stats.last_save = time.time()
    return OK


@command(
    "SAVE",
    since="1.0.0",
    group="server",
    flags=_SAVING | Flag.NO_MULTI,
    summary="Waits until everything written so far is on disk. Other clients are served.",
    complexity="one sync of the commit log",
)
def save(ctx: Context) -> Any:
    return _durable_point(ctx)


def _in_background(ctx: Context) -> None:
    async def work() -> None:
        try:
            await _durable_point(ctx)
        except ReplyError as error:
            log.error("background saving failed: %s", error)

    ctx.server.run_in_background(work())


@command(
    "BGSAVE",
    since="1.0.0",
    group="server",
    flags=_SAVING,
    summary="Begins to bring everything written so far to disk; LASTSAVE tells when it is there.",
    complexity="one sync of the commit log",
    args=(Token("SCHEDULE"),),
    history=(("3.2.2", "Added the `SCHEDULE` option."),),
)
def bgsave(ctx: Context, schedule: bool) -> Simple:
    _in_background(ctx)
    return SAVING


@command(
    "BGREWRITEAOF",
    since="1.0.0",
    group="server",
    flags=_SAVING,
    summary="The same as BGSAVE: the commit log is shortened without being asked.",
    complexity="one sync of the commit log",
)
def bgrewriteaof(ctx: Context) -> Simple:
    _in_background(ctx)
    return REWRITING


@command(
    "LASTSAVE",
    since="1.0.0",
    group="server",
    flags=LOADING | STALE | FAST,
    summary="Tells the Unix time of the last SAVE or BGSAVE, at first that of the start.",
    complexity="O(1)",
    acl=("admin", "dangerous"),
    tips=("nondeterministic_output",),
)
def lastsave(ctx: Context) -> int:
    return int(ctx.server.stats.last_save)


# --------------------------------------------------------------------------
# WAITAOF


@dataclass(frozen=True)
class Within(Int):
    """An integer between two bounds, with Redis's error for others."""

    low: int = 0
    high: int = 0

    def convert(self, data: bytes) -> int:
        number = parse_int(data)
        if not self.low <= number <= self.high:
            raise ReplyError(
                f"ERR value is out of range, value must between {self.low} and {self.high}"
            )
        return number


@dataclass(frozen=True)
class Positive(Arg):
    """An integer that is not negative."""

    type = "integer"

    def convert(self, data: bytes) -> int:
        number = parse_int(data)
        if number < 0:
            raise ReplyError(b"ERR value is out of range, must be positive")
        return number


@command(
    "WAITAOF",
    since="7.2.0",
    group="generic",
    flags=Flag.BLOCKING,
    summary="Waits until this server has what was written so far on disk; there are no replicas.",
    complexity="one sync of the commit log",
    args=(
        Within("numlocal", low=0, high=1),
        Positive("numreplicas"),
        Int("timeout", what="timeout"),
    ),
    acl=("connection",),
    tips=("request_policy:all_shards", "response_policy:agg_min"),
    reply="an array: 1 when it is on this disk, 0 when time was up; and the number of replicas",
)
def waitaof(ctx: Context, numlocal: int, numreplicas: int, timeout: int) -> Any:
    if timeout < 0:
        raise ReplyError(b"ERR timeout is negative")
    if not numlocal or ctx.server.is_synced() or ctx.executing:
        return [int(numlocal and ctx.server.is_synced()), 0]
    blocked = ctx.block(timeout / 1000, lambda: [0, 0])
    waiting = ctx.blocked
    assert waiting is not None
    ctx.server.call_when_synced(lambda synced: waiting.answer([int(synced), 0]))
    return blocked


# --------------------------------------------------------------------------
# SHUTDOWN


@command(
    "SHUTDOWN",
    since="1.0.0",
    group="server",
    flags=ADMIN | NOSCRIPT | LOADING | STALE | Flag.NO_MULTI | Flag.ALLOW_BUSY,
    summary="Stops the server. Everything acknowledged stays, also with NOSAVE, which only leaves"
    " more for the next start to replay.",
    complexity="O(N), N the changes that wait to be settled in LevelDB",
    args=(
        Bytes(
            "save-selector",
            optional=True,
            multiple=True,
            display="[NOSAVE | SAVE] [NOW] [FORCE] | ABORT",
        ),
    ),
)
def shutdown(ctx: Context, save_selector: list[bytes]) -> Any:
    words = {word.upper() for word in save_selector}
    if not words <= {b"NOSAVE", b"SAVE", b"NOW", b"FORCE", b"ABORT"}:
        raise SyntaxProblem
    if {b"NOSAVE", b"SAVE"} <= words or (b"ABORT" in words and len(words) > 1):
        raise SyntaxProblem
    if b"ABORT" in words:
        raise NO_SHUTDOWN
    log.warning("a client has asked for the stop: %s", ctx.connection.peer)
    ctx.server.request_stop(settle=b"NOSAVE" not in words)
    return NO_REPLY
