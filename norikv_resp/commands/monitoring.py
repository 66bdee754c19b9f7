"""SLOWLOG, LATENCY, MEMORY and MONITOR: what the server does, and what it costs."""

from __future__ import annotations

import gc
import time
from typing import Any

from norikv_resp import memory
from norikv_resp.command import (
    ADMIN,
    LOADING,
    NOSCRIPT,
    READONLY,
    STALE,
    Bytes,
    Command,
    Int,
    Key,
    Rest,
    command,
    container,
    parse_int,
)
from norikv_resp.commands.helping import help_of
from norikv_resp.context import Context
from norikv_resp.errors import ReplyError, SyntaxProblem
from norikv_resp.protocol import OK, Map, Verbatim

_INSPECT = ADMIN | LOADING | STALE
_LATENCY = ADMIN | NOSCRIPT | LOADING | STALE
_ALL_NODES = "request_policy:all_nodes"
_ALL_SHARDS = "request_policy:all_shards"
_SPECIAL = "response_policy:special"
_VARIES = "nondeterministic_output"


# --------------------------------------------------------------------------
# SLOWLOG

SLOWLOG = container(
    "SLOWLOG",
    since="2.2.12",
    group="server",
    summary="The commands that took long.",
    complexity="depends on the subcommand",
)
SLOWLOG_HELP = help_of(SLOWLOG, since="6.2.0")

SLOWLOG_SHOWN = 10
BAD_SLOWLOG_COUNT = ReplyError(b"ERR count should be greater than or equal to -1")


@command(
    "SLOWLOG GET",
    since="2.2.12",
    group="server",
    flags=_INSPECT,
    summary="Lists the last slow commands, ten unless told, all for -1.",
    complexity="O(N), N the number of entries",
    args=(Bytes("count", optional=True, multiple=True),),
    tips=(_ALL_NODES, _VARIES),
)
def slowlog_get(ctx: Context, count: list[bytes]) -> list[Any]:
    if len(count) > 1:
        raise ReplyError(
            b"ERR unknown subcommand or wrong number of arguments for 'GET'. Try SLOWLOG HELP."
        )
    return [
        [entry.id, entry.at, entry.microseconds, entry.arguments, entry.peer.encode(), entry.name]
        for entry in ctx.server.slowlog.newest(_slowlog_count(count))
    ]


def _slowlog_count(words: list[bytes]) -> int:
    if not words:
        return SLOWLOG_SHOWN
    try:
        count = parse_int(words[0])
    except ReplyError:
        raise BAD_SLOWLOG_COUNT from None
    if count < -1:
        raise BAD_SLOWLOG_COUNT
    return count


@command(
    "SLOWLOG LEN",
    since="2.2.12",
    group="server",
    flags=_INSPECT,
    summary="Counts the slow commands that are kept.",
    complexity="O(1)",
    tips=(_ALL_NODES, "response_policy:agg_sum", _VARIES),
)
def slowlog_len(ctx: Context) -> int:
    return len(ctx.server.slowlog)


@command(
    "SLOWLOG RESET",
    since="2.2.12",
    group="server",
    flags=_INSPECT,
    summary="Forgets the slow commands.",
    complexity="O(N), N the number of entries",
    tips=(_ALL_NODES, "response_policy:all_succeeded"),
)
def slowlog_reset(ctx: Context) -> Any:
    ctx.server.slowlog.clear()
    return OK


# --------------------------------------------------------------------------
# LATENCY

LATENCY = container(
    "LATENCY",
    since="2.8.13",
    group="server",
    summary="Latency spikes, and how long commands take.",
    complexity="depends on the subcommand",
)
LATENCY_HELP = help_of(LATENCY, since="2.8.13")

GRAPH_ROWS = 8


@command(
    "LATENCY LATEST",
    since="2.8.13",
    group="server",
    flags=_LATENCY,
    summary="Tells the last spike of each event: time, milliseconds, most milliseconds ever.",
    complexity="O(1)",
    tips=(_VARIES, _ALL_NODES, _SPECIAL),
)
def latency_latest(ctx: Context) -> list[Any]:
    latency = ctx.server.latency
    return [
        [event.encode(), *history[-1], latency.maximum[event]]
        for event, history in latency.events.items()
    ]


@command(
    "LATENCY HISTORY",
    since="2.8.13",
    group="server",
    flags=_LATENCY,
    summary="Lists the last spikes of one event: time and milliseconds.",
    complexity="O(1)",
    args=(Bytes("event"),),
    tips=(_VARIES, _ALL_NODES, _SPECIAL),
)
def latency_history(ctx: Context, event: bytes) -> list[Any]:
    history = ctx.server.latency.events.get(event.decode("latin-1"), ())
    return [[at, milliseconds] for at, milliseconds in history]


@command(
    "LATENCY RESET",
    since="2.8.13",
    group="server",
    flags=_LATENCY,
    summary="Forgets the spikes of some events, of all when none is named.",
    complexity="O(N), N the number of events",
    args=(Rest("event"),),
    tips=(_ALL_NODES, "response_policy:agg_sum"),
)
def latency_reset(ctx: Context, event: list[bytes]) -> int:
    return ctx.server.latency.reset([name.decode("latin-1") for name in event])


@command(
    "LATENCY GRAPH",
    since="2.8.13",
    group="server",
    flags=_LATENCY,
    summary="Draws the last spikes of one event.",
    complexity="O(1)",
    args=(Bytes("event"),),
    tips=(_VARIES, _ALL_NODES, _SPECIAL),
)
def latency_graph(ctx: Context, event: bytes) -> Verbatim:
    name = event.decode("latin-1")
    history = ctx.server.latency.events.get(name)
    if not history:
        raise ReplyError(b"ERR No samples available for event '%b'" % event)
    values = [milliseconds for _, milliseconds in history]
    low, high = min(values), max(values)
    most = ctx.server.latency.maximum[name]
    lines = [f"{name} - high {high} ms, low {low} ms (all time high {most} ms)", "-" * 80]
    lines += _bars(values, low, high)
    seconds = int(time.time()) - history[0][0]
    lines.append(f"{len(values)} samples, the first {seconds} seconds ago")
    return Verbatim(b"txt", "\n".join(lines).encode() + b"\n")


def _bars(values: list[int], low: int, high: int) -> list[str]:
    """The last 80 values as columns of ``#``."""
    shown = values[-80:]
    scale = GRAPH_ROWS / max(high - low, 1)
    heights = [max(1, round((value - low) * scale)) for value in shown]
    return [
        "".join("#" if height >= row else " " for height in heights).rstrip()
        for row in range(GRAPH_ROWS, 0, -1)
    ]


@command(
    "LATENCY DOCTOR",
    since="2.8.13",
    group="server",
    flags=_LATENCY,
    summary="Tells in words what the spikes may come from.",
    complexity="O(1)",
    tips=(_VARIES, _ALL_NODES, _SPECIAL),
)
def latency_doctor(ctx: Context) -> Verbatim:
    config, latency = ctx.config, ctx.server.latency
    lines = []
    if not config.latency_monitor_threshold:
        lines.append(
            "Spikes are not recorded: CONFIG SET latency-monitor-threshold <milliseconds>."
        )
    elif not latency.events:
        lines.append("No spike was recorded.")
    for event, history in latency.events.items():
        values = [milliseconds for _, milliseconds in history]
        lines.append(
            f"{event}: {len(values)} spikes, {sum(values) / len(values):.0f} ms on average, "
            f"{latency.maximum[event]} ms at most."
        )
    figures = ctx.server.store.stats()
    sync = figures.get("log_sync_usec_p99", 0)
    lines.append(f"One sync of the commit log in a hundred takes {sync} microseconds or more.")
    if latency.events:
        lines.append("SLOWLOG GET names the commands; INFO norikv shows what the disk does.")
    return Verbatim(b"txt", "\n".join(lines).encode() + b"\n")


@command(
    "LATENCY HISTOGRAM",
    since="7.0.0",
    group="server",
    flags=_LATENCY,
    summary="Counts the calls of commands by microseconds, in powers of two; timed calls only.",
    complexity="O(N), N the number of commands",
    args=(Rest("command"),),
    tips=(_VARIES, _ALL_NODES, _SPECIAL),
)
def latency_histogram(ctx: Context, command: list[bytes]) -> Map:
    registry = ctx.server.registry
    if command:
        names = [word.decode("latin-1").upper().replace("|", " ") for word in command]
        chosen = []
        for name in names:
            found = registry.commands.get(name)
            if found is not None:
                chosen += [found, *found.subcommands.values()]
    else:
        chosen = list(registry)
    return Map([(each.full_name.encode(), _histogram(each)) for each in chosen if each.timed])


def _histogram(each: Command) -> Map:
    total = 0
    buckets = []
    for bits, count in sorted(each.durations.items()):
        total += count
        buckets.append((1 << bits, total))
    return Map([(b"calls", each.calls), (b"histogram_usec", Map(buckets))])


# --------------------------------------------------------------------------
# MEMORY

MEMORY = container(
    "MEMORY",
    since="4.0.0",
    group="server",
    summary="What keys and the server take.",
    complexity="depends on the subcommand",
)
MEMORY_HELP = help_of(MEMORY, since="4.0.0")


@command(
    "MEMORY USAGE",
    since="4.0.0",
    group="server",
    flags=READONLY,
    summary="Tells how many bytes a key's records have, estimated from samples for collections.",
    complexity="O(N), N the number of samples",
    args=(Key(does=()), Int("count", token="SAMPLES", optional=True)),
    acl=("read",),
)
def memory_usage(ctx: Context, key: bytes, count: int | None) -> int | None:
    if count is not None and count < 0:
        raise SyntaxProblem
    record = ctx.keys.get(key)
    if record is None:
        return None
    samples = memory.SAMPLES if count is None else count
    server = ctx.server
    return memory.usage(server.store, key, record, samples, server.hooks.value_types)


@command(
    "MEMORY STATS",
    since="4.0.0",
    group="server",
    summary="Tells what the server's memory is used for, in bytes.",
    complexity="O(1)",
    tips=(_VARIES, _ALL_SHARDS, _SPECIAL),
)
def memory_stats(ctx: Context) -> Map:
    server = ctx.server
    used = memory.process()
    figures = server.store.stats()
    keys = sum(database.keys for database in server.keyspace.databases)
    clients = sum(
        context.connection.reader.buffered + context.connection.held_bytes
        for context in server.contexts.values()
    )
    return Map(
        [
            (b"peak.allocated", used.peak),
            (b"total.allocated", used.anonymous),
            (b"total.resident", used.resident),
            (b"clients.normal", clients),
            (b"cache.bytes", server.keyspace.cache_bytes),
            (b"cache.limit", server.keyspace.cache_size),
            (b"overlay.bytes", figures["overlay_bytes"]),
            (b"overlay.limit", figures["overlay_limit"]),
            (b"leveldb.write_buffer", server.config.leveldb_write_buffer),
            (b"leveldb.block_cache", server.config.leveldb_block_cache),
            (b"keys.count", keys),
            (b"slowlog.entries", len(server.slowlog)),
            (b"scan.cursors", len(server.cursors)),
            (b"tracking.keys", server.tracking.stats()["tracking_total_keys"]),
        ]
    )


@command(
    "MEMORY DOCTOR",
    since="4.0.0",
    group="server",
    summary="Tells in words how memory is used.",
    complexity="O(1)",
    tips=(_VARIES, _ALL_SHARDS, _SPECIAL),
)
def memory_doctor(ctx: Context) -> Verbatim:
    server = ctx.server
    used, figures = memory.process(), server.store.stats()
    own, resident = _megabytes(used.anonymous), _megabytes(used.resident)
    cache, most = _megabytes(server.keyspace.cache_bytes), _megabytes(server.keyspace.cache_size)
    waiting, bound = _megabytes(figures["overlay_bytes"]), _megabytes(figures["overlay_limit"])
    lines = [
        f"The process holds {own} of its own; with mapped tables {resident} are resident.",
        f"Decoded records take {cache} (cache-size {most}).",
        f"Changes that wait for LevelDB take {waiting} (overlay-size {bound}).",
    ]
    if server.store.slowdown:
        lines.append("Writers are slowed, because the disk does not keep up.")
    if server.store.refusal:
        lines.append(f"Writes are refused: {server.store.refusal}.")
    return Verbatim(b"txt", "\n".join(lines).encode() + b"\n")


def _megabytes(size: int | float | str) -> str:
    return f"{int(size) / (1 << 20):.1f} MB"


@command(
    "MEMORY PURGE",
    since="4.0.0",
    group="server",
    summary="Drops the cache of decoded records and collects garbage.",
    complexity="O(N), N the number of cached records",
    tips=(_ALL_SHARDS, "response_policy:all_succeeded"),
)
def memory_purge(ctx: Context) -> Any:
    ctx.server.keyspace.make_room()
    ctx.server.keyspace.make_room()
    gc.collect()
    return OK


@command(
    "MEMORY MALLOC-STATS",
    since="4.0.0",
    group="server",
    summary="Shows LevelDB's levels; Python's allocator keeps no such figures.",
    complexity="O(1)",
    tips=(_VARIES, _ALL_SHARDS, _SPECIAL),
)
def memory_malloc_stats(ctx: Context) -> Verbatim:
    return Verbatim(b"txt", ctx.server.store.leveldb_stats().encode())


# --------------------------------------------------------------------------
# MONITOR


@command(
    "MONITOR",
    since="1.0.0",
    group="server",
    flags=ADMIN | NOSCRIPT | LOADING | STALE,
    summary="Shows every command of every client as it runs. It slows all of them.",
    complexity="O(1)",
)
def monitor(ctx: Context) -> Any:
    if ctx.executing:
        raise ReplyError(b"ERR MONITOR isn't allowed for DENY BLOCKING client")
    if not ctx.monitoring:
        ctx.monitoring = True
        ctx.server.monitors.add(ctx)
        ctx.server.refresh()
    return OK
