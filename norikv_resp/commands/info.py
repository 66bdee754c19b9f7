"""INFO and TIME: the server's figures, under Redis's names where Redis has them."""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from norikv_resp import __version__, memory
from norikv_resp.command import FAST, LOADING, STALE, Command, Rest, command
from norikv_resp.commands.connection import REDIS_VERSION
from norikv_resp.context import Context
from norikv_resp.hooks import Figures
from norikv_resp.protocol import Verbatim

Fields = Iterable[tuple[str, Any]]


@command(
    "TIME",
    since="2.6.0",
    group="server",
    flags=LOADING | STALE | FAST,
    summary="Tells the time by which keys expire: Unix seconds and microseconds.",
    complexity="O(1)",
    tips=("nondeterministic_output",),
)
def time_(ctx: Context) -> list[bytes]:
    now = ctx.server.keyspace.clock.microseconds()
    return [b"%d" % (now // 1_000_000), b"%d" % (now % 1_000_000)]


# --------------------------------------------------------------------------
# Sections


def _server(ctx: Context) -> Fields:
    server, config = ctx.server, ctx.config
    uptime = int(time.time() - server.stats.started)
    yield "redis_version", REDIS_VERSION.decode()
    yield "norikv_version", __version__
    yield "redis_mode", "standalone"
    yield "os", f"{platform.system()} {platform.release()} {platform.machine()}"
    yield "arch_bits", 64 if sys.maxsize > 2**32 else 32
    yield "python_version", platform.python_version()
    yield "event_loop", type(server.loop).__module__
    yield "process_id", os.getpid()
    yield "run_id", ctx.server.run_id
    yield "tcp_port", config.port
    yield "server_time_usec", time.time_ns() // 1000
    yield "uptime_in_seconds", uptime
    yield "uptime_in_days", uptime // 86400
    yield "hz", config.hz
    yield "configured_hz", config.hz
    yield "executable", sys.executable
    yield "config_file", config.path or ""
    for number, address in enumerate(server.listeners.addresses()):
        yield (
            f"listener{number}",
            f"name=tcp,addr={address}" if ":" in address else (f"name=unix,addr={address}"),
        )


def _clients(ctx: Context) -> Fields:
    server = ctx.server
    contexts = server.contexts.values()
    yield "connected_clients", len(server.contexts)
    yield "cluster_connections", 0
    yield "maxclients", server.max_clients
    yield "blocked_clients", sum(each.connection.waiting_for is not None for each in contexts)
    yield "tracking_clients", server.tracking.stats()["tracking_clients"]
    yield "pubsub_clients", sum(each.subscribed for each in contexts)
    yield "watching_clients", sum(bool(each.watching) for each in contexts)
    yield "total_watched_keys", len(server.keyspace.watched)
    yield "paused", int(server.pause.active)
    yield (
        "client_biggest_input_buf",
        max((each.connection.reader.buffered for each in contexts), default=0),
    )


def _memory(ctx: Context) -> Fields:
    server = ctx.server
    used = memory.process()
    figures = server.store.stats()
    yield from _size("used_memory", used.anonymous)
    yield from _size("used_memory_rss", used.resident)
    yield from _size("used_memory_peak", used.peak)
    yield "used_memory_dataset", server.keyspace.cache_bytes + int(figures["overlay_bytes"])
    yield from _size("maxmemory", ctx.config.maxmemory)
    yield "maxmemory_policy", ctx.config.maxmemory_policy
    yield "mem_fragmentation_ratio", f"{used.resident / max(used.anonymous, 1):.2f}"
    yield "mem_allocator", "python"
    yield "cache_bytes", server.keyspace.cache_bytes
    yield "cache_limit", server.keyspace.cache_size
    yield "overlay_bytes", figures["overlay_bytes"]
    yield "overlay_limit", figures["overlay_limit"]


def _size(name: str, size: int) -> Fields:
    yield name, size
    yield f"{name}_human", human(size)


def human(size: int) -> str:
    """A size with a unit, as Redis writes it."""
    if size < 1024:
        return f"{size}B"
    power = min((size.bit_length() - 1) // 10, 5)
    return f"{size / 1024**power:.2f}{'BKMGTP'[power]}"


def _persistence(ctx: Context) -> Fields:
    server = ctx.server
    figures = server.store.stats()
    yield "loading", 0
    yield "async_loading", 0
    yield "rdb_changes_since_last_save", figures["unsynced_records"]
    yield "rdb_bgsave_in_progress", 0
    yield "rdb_last_save_time", int(server.stats.last_save)
    yield "rdb_last_bgsave_status", "ok" if not figures.get("log_failure") else "err"
    yield "aof_enabled", 1
    yield "aof_rewrite_in_progress", 0
    yield "aof_rewrite_scheduled", 0
    yield "aof_last_bgrewrite_status", "ok"
    yield "aof_last_write_status", "ok" if not figures.get("log_failure") else "err"
    yield "aof_pending_bio_fsync", int(bool(figures["unsynced_records"]))


def _stats(ctx: Context) -> Fields:
    server = ctx.server
    stats = server.stats
    rates = stats.rates()
    yield "total_connections_received", stats.connections
    yield "total_commands_processed", server.commands_run()
    yield "instantaneous_ops_per_sec", round(rates[0])
    yield "total_net_input_bytes", stats.bytes_in
    yield "total_net_output_bytes", stats.bytes_out
    yield "instantaneous_input_kbps", f"{rates[1] / 1024:.2f}"
    yield "instantaneous_output_kbps", f"{rates[2] / 1024:.2f}"
    yield "rejected_connections", stats.rejected_connections
    yield "expired_keys", stats.expired_keys
    yield "evicted_keys", 0
    yield "keyspace_hits", server.keyspace.hits
    yield "keyspace_misses", server.keyspace.misses
    yield "evicted_clients", 0
    for name, count in server.hub.stats().items():
        if name != "pubsub_clients":
            yield name, count
    yield "total_error_replies", stats.error_replies
    yield "protocol_errors", stats.protocol_errors
    yield "client_output_buffer_limit_disconnections", stats.output_limit_disconnections
    for name, count in server.tracking.stats().items():
        if name != "tracking_clients":
            yield name, count
    for reason, count in server.acl.denials.items():
        yield ("acl_access_denied_" + ("cmd" if reason == "command" else reason)), count


def _replication(ctx: Context) -> Fields:
    yield "role", "master"
    yield "connected_slaves", 0
    yield "master_failover_state", "no-failover"
    yield "master_replid", ctx.server.run_id
    yield "master_replid2", "0" * 40
    yield "master_repl_offset", ctx.server.store.durable
    yield "second_repl_offset", -1
    yield "repl_backlog_active", 0
    yield "repl_backlog_size", ctx.config.repl_backlog_size
    yield "repl_backlog_first_byte_offset", 0
    yield "repl_backlog_histlen", 0


def _cpu(ctx: Context) -> Fields:
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    yield "used_cpu_sys", f"{own.ru_stime:.6f}"
    yield "used_cpu_user", f"{own.ru_utime:.6f}"
    yield "used_cpu_sys_children", f"{children.ru_stime:.6f}"
    yield "used_cpu_user_children", f"{children.ru_utime:.6f}"


def _modules(ctx: Context) -> Fields:
    for module in ctx.server.modules.values():
        yield "module", f"name={module.name},ver=1,api=1,filters=0,usedby=[],using=[],options=[]"


def _called(ctx: Context) -> list[Command]:
    return [
        each
        for each in ctx.server.registry
        if each.handler is not None and (each.calls or each.rejected)
    ]


def _commandstats(ctx: Context) -> Fields:
    for each in _called(ctx):
        mean = each.microseconds / each.timed if each.timed else 0.0
        yield (
            f"cmdstat_{each.full_name}",
            (
                f"calls={each.calls},usec={round(mean * each.calls)},usec_per_call={mean:.2f},"
                f"rejected_calls={each.rejected},failed_calls={each.failed}"
            ),
        )


def _latencystats(ctx: Context) -> Fields:
    if not ctx.config.latency_tracking:
        return
    percentiles = ctx.config.latency_tracking_info_percentiles
    for each in _called(ctx):
        if each.timed:
            shown = ",".join(f"p{p}={_percentile(each, float(p)):.3f}" for p in percentiles)
            yield f"latency_percentiles_usec_{each.full_name}", shown


def _percentile(each: Command, percent: float) -> float:
    """The microseconds below which this part of the timed calls stayed, to a power of two."""
    wanted = percent / 100 * each.timed
    seen = 0
    for bits, count in sorted(each.durations.items()):
        seen += count
        if seen >= wanted:
            return float(1 << bits)
    return 0.0


def _errorstats(ctx: Context) -> Fields:
    for code, count in ctx.server.stats.errors.items():
        yield f"errorstat_{code}", f"count={count}"


def _cluster(ctx: Context) -> Fields:
    yield "cluster_enabled", 0


def _keyspace(ctx: Context) -> Fields:
    for database in ctx.server.keyspace.databases:
        keys = database.keys - ctx.server.sweeper.due(database)
        if keys > 0:
            yield (
                f"db{database.number}",
                (f"keys={keys},expires={database.expires},avg_ttl=0,subexpiry=0"),
            )


def _norikv(ctx: Context) -> Fields:
    server = ctx.server
    keyspace, idempotency = server.keyspace, server.idempotency
    yield "norikv_version", __version__
    yield "durability", ctx.config.appendfsync
    figures = dict(server.store.stats())
    figures.pop("policy", None)
    yield from _printed(figures)
    yield "cache_bytes", keyspace.cache_bytes
    yield "cache_limit", keyspace.cache_size
    yield "idempotency_records", idempotency.records
    yield "idempotency_max_records", idempotency.max_records
    yield "idempotency_replayed", idempotency.replayed
    yield "idempotency_mismatched", idempotency.mismatched
    yield "idempotency_expired", server.stats.expired_idempotency
    yield "reclaimed_rows", server.stats.reclaimed_rows
    yield "scan_cursors", len(server.cursors)
    yield "scan_cursors_limit", ctx.config.scan_cursors


_Section = Callable[[Context], Fields]

#: By the name that INFO takes: the heading, what it shows, and whether a bare INFO shows it.
SECTIONS: dict[str, tuple[str, _Section, bool]] = {
    "server": ("Server", _server, True),
    "clients": ("Clients", _clients, True),
    "memory": ("Memory", _memory, True),
    "persistence": ("Persistence", _persistence, True),
    "stats": ("Stats", _stats, True),
    "replication": ("Replication", _replication, True),
    "cpu": ("CPU", _cpu, True),
    "modules": ("Modules", _modules, True),
    "commandstats": ("Commandstats", _commandstats, False),
    "errorstats": ("Errorstats", _errorstats, True),
    "latencystats": ("Latencystats", _latencystats, False),
    "cluster": ("Cluster", _cluster, True),
    "keyspace": ("Keyspace", _keyspace, True),
    "norikv": ("NoriKV", _norikv, True),
}


def _sections(ctx: Context) -> dict[str, tuple[str, _Section, bool]]:
    """The server's sections and those of modules."""
    found = dict(SECTIONS)
    for title, figures in ctx.server.hooks.sections.items():
        found[title.lower()] = (title, _section_of(figures), True)
    return found


def _section_of(figures: Callable[[], Figures]) -> _Section:
    return lambda ctx: _printed(figures())


def _printed(figures: Figures) -> Fields:
    for name, value in figures.items():
        yield name, f"{value:.6g}" if isinstance(value, float) else value


def _chosen(ctx: Context, words: list[bytes]) -> Iterable[tuple[str, _Section]]:
    named = {word.decode("latin-1").lower() for word in words} or {"default"}
    everything = bool(named & {"all", "everything"})
    default = "default" in named
    for name, (heading, fields, shown) in _sections(ctx).items():
        if everything or name in named or (default and shown):
            yield heading, fields


@command(
    "INFO",
    since="1.0.0",
    group="server",
    flags=LOADING | STALE,
    summary="Shows figures of the server, all or by section: server, clients, memory,"
    " persistence, stats, replication, cpu, modules, commandstats, errorstats, latencystats,"
    " cluster, keyspace, norikv; also default, all, everything.",
    complexity="O(1), clients and keyspace O(N)",
    args=(Rest("section"),),
    acl=("dangerous",),
    tips=("nondeterministic_output", "request_policy:all_shards", "response_policy:special"),
)
def info(ctx: Context, section: list[bytes]) -> Verbatim:
    blocks = []
    for heading, fields in _chosen(ctx, section):
        lines = "".join(f"{key}:{value}\r\n" for key, value in fields(ctx))
        blocks.append(f"# {heading}\r\n{lines}")
    return Verbatim(b"txt", "\r\n".join(blocks).encode("utf-8", "surrogateescape"))
