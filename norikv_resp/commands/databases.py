"""Commands on whole databases: DBSIZE, FLUSHDB, FLUSHALL, SWAPDB; and WAIT."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from norikv_resp.command import (
    FAST,
    READONLY,
    WRITE,
    Arg,
    Flag,
    Int,
    OneOf,
    Token,
    command,
    parse_int,
)
from norikv_resp.commands.keys import database
from norikv_resp.context import Context
from norikv_resp.errors import ReplyError
from norikv_resp.protocol import OK

#: Expired keys that DBSIZE counts at once; of more it lets the sweeper reclaim some first.
COUNTED_AT_ONCE = 5000
STEPS_BETWEEN_LOOKS = 50

_TO_ALL = ("request_policy:all_shards", "response_policy:all_succeeded")
_HOW = OneOf("flush-type", Token("ASYNC"), Token("SYNC"))


@dataclass(frozen=True)
class DatabaseIndex(Arg):
    """A database number, with an error of its own."""

    type = "integer"

    def convert(self, data: bytes) -> int:
        try:
            return parse_int(data)
        except ReplyError:
            which = self.name.partition("-")[0]
            raise ReplyError(f"ERR invalid {which} DB index") from None


@command(
    "DBSIZE",
    since="1.0.0",
    group="server",
    flags=READONLY | FAST,
    summary="Counts the keys of the selected database.",
    complexity="O(1), and O(N) for N expired keys that wait to be reclaimed",
    acl=("keyspace", "read"),
    tips=("request_policy:all_shards", "response_policy:agg_sum"),
)
def dbsize(ctx: Context) -> Any:
    sweeper = ctx.server.sweeper
    if not ctx.executing and sweeper.backlog_exceeds(COUNTED_AT_ONCE):
        return _count_later(ctx)
    return _count(ctx)


def _count(ctx: Context) -> int:
    ctx.server.keyspace.depend_on_all()
    return ctx.keys.keys - ctx.server.sweeper.due(ctx.keys)


async def _count_later(ctx: Context) -> int:
    """Many keys have expired just now: help the sweeper, between others' commands, then count."""
    keyspace, sweeper = ctx.server.keyspace, ctx.server.sweeper
    while sweeper.backlog_exceeds(COUNTED_AT_ONCE) and keyspace.store.refusal is None:
        for _ in range(STEPS_BETWEEN_LOOKS):
            if not sweeper.turn(0):
                break
            await asyncio.sleep(keyspace.store.slowdown)
        keyspace.begin_batch()
    return _count(ctx)


@command(
    "FLUSHDB",
    since="1.0.0",
    group="server",
    flags=WRITE | Flag.KEYLESS,
    summary="Removes all keys of the selected database.",
    complexity="O(1), what the keys occupy is reclaimed in the background",
    args=(_HOW,),
    acl=("keyspace", "write", "dangerous"),
    tips=_TO_ALL,
)
def flushdb(ctx: Context, flush_type: tuple[bytes, bool] | None) -> Any:
    ctx.server.keyspace.flush([ctx.keys])
    ctx.server.everything_changed()
    return OK


@command(
    "FLUSHALL",
    since="1.0.0",
    group="server",
    flags=WRITE | Flag.KEYLESS,
    summary="Removes all keys of all databases.",
    complexity="O(1) for each database, what the keys occupy is reclaimed in the background",
    args=(_HOW,),
    acl=("keyspace", "write", "dangerous"),
    tips=_TO_ALL,
)
def flushall(ctx: Context, flush_type: tuple[bytes, bool] | None) -> Any:
    keyspace = ctx.server.keyspace
    keyspace.flush(keyspace.databases)
    ctx.server.everything_changed()
    return OK


@command(
    "SWAPDB",
    since="4.0.0",
    group="server",
    flags=WRITE | FAST | Flag.KEYLESS,
    summary="Exchanges the contents of two databases.",
    complexity="O(N), N the number of watched keys",
    args=(DatabaseIndex("first-index"), DatabaseIndex("second-index")),
    acl=("keyspace", "write", "dangerous"),
)
def swapdb(ctx: Context, first_index: int, second_index: int) -> Any:
    first, second = database(ctx, first_index), database(ctx, second_index)
    if first is not second:
        ctx.server.keyspace.swap(first, second)
        ctx.server.everything_changed()
    return OK


@command(
    "WAIT",
    since="3.0.0",
    group="generic",
    flags=Flag.BLOCKING,
    summary="Tells how many replicas have the writes so far: there are none, so it does not wait.",
    complexity="O(1)",
    args=(Int("numreplicas"), Int("timeout", what="timeout")),
    acl=("connection",),
    tips=("request_policy:all_shards", "response_policy:agg_min"),
)
def wait(ctx: Context, numreplicas: int, timeout: int) -> int:
    if timeout < 0:
        raise ReplyError(b"ERR timeout is negative")
    return 0
