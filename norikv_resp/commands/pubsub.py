"""SUBSCRIBE and its kin, PUBLISH, SPUBLISH, PUBSUB."""

from __future__ import annotations

from typing import Any

from norikv_resp.acl_user import Channel, ChannelPattern
from norikv_resp.command import (
    DENYOOM,
    FAST,
    LOADING,
    NOSCRIPT,
    STALE,
    Bytes,
    Flag,
    KeySpec,
    Pattern,
    command,
    container,
)
from norikv_resp.context import Context
from norikv_resp.errors import ReplyError
from norikv_resp.protocol import Push, Simple, encode
from norikv_resp.pubsub import Kind

_SUBSCRIBE = Flag.PUBSUB | NOSCRIPT | LOADING | STALE | DENYOOM
_UNSUBSCRIBE = Flag.PUBSUB | NOSCRIPT | LOADING | STALE
_PUBLISH = Flag.PUBSUB | LOADING | STALE | FAST
_INSPECT = Flag.PUBSUB | LOADING | STALE

# In a cluster, shard channels live where keys of that name would.
_SHARD_CHANNEL = (KeySpec(("not_key",), 1),)
_SHARD_CHANNELS = (KeySpec(("not_key",), 1, -1),)


def _subscribe(ctx: Context, kind: Kind, names: list[bytes]) -> Any:
    confirmations = ctx.server.hub.subscribe(kind, ctx, names)
    ctx.refresh()
    return _in_a_row(ctx, confirmations)


def _unsubscribe(ctx: Context, kind: Kind, names: list[bytes]) -> Any:
    confirmations = ctx.server.hub.unsubscribe(kind, ctx, names)
    ctx.refresh()
    return _in_a_row(ctx, confirmations)


def _in_a_row(ctx: Context, confirmations: list[Push]) -> Any:
    """One reply for several confirmations, which Redis sends one after the other."""
    if len(confirmations) == 1:
        return confirmations[0]
    reply = Simple(b"")
    reply.encoded = b"".join(encode(each, ctx.resp3) for each in confirmations)
    return reply


@command(
    "SUBSCRIBE",
    since="2.0.0",
    group="pubsub",
    flags=_SUBSCRIBE,
    summary="Listens to channels.",
    complexity="O(N), N the number of channels",
    args=(Channel("channel", multiple=True),),
)
def subscribe(ctx: Context, channel: list[bytes]) -> Any:
    return _subscribe(ctx, Kind.CHANNEL, channel)


@command(
    "PSUBSCRIBE",
    since="2.0.0",
    group="pubsub",
    flags=_SUBSCRIBE,
    summary="Listens to all channels that match patterns.",
    complexity="O(N), N the number of patterns",
    args=(ChannelPattern("pattern", multiple=True),),
)
def psubscribe(ctx: Context, pattern: list[bytes]) -> Any:
    return _subscribe(ctx, Kind.PATTERN, pattern)


@command(
    "SSUBSCRIBE",
    since="7.0.0",
    group="pubsub",
    flags=_SUBSCRIBE,
    summary="Listens to shard channels.",
    complexity="O(N), N the number of shard channels",
    args=(Channel("shardchannel", multiple=True),),
    extra_key_specs=_SHARD_CHANNELS,
)
def ssubscribe(ctx: Context, shardchannel: list[bytes]) -> Any:
    return _subscribe(ctx, Kind.SHARD, shardchannel)


@command(
    "UNSUBSCRIBE",
    since="2.0.0",
    group="pubsub",
    flags=_UNSUBSCRIBE,
    summary="Stops listening to channels, to all of them when none is named.",
    complexity="O(N), N the number of channels",
    args=(Bytes("channel", optional=True, multiple=True),),
)
def unsubscribe(ctx: Context, channel: list[bytes]) -> Any:
    return _unsubscribe(ctx, Kind.CHANNEL, channel)


@command(
    "PUNSUBSCRIBE",
    since="2.0.0",
    group="pubsub",
    flags=_UNSUBSCRIBE,
    summary="Stops listening to patterns, to all of them when none is named.",
    complexity="O(N), N the number of patterns",
    args=(Pattern("pattern", optional=True, multiple=True),),
)
def punsubscribe(ctx: Context, pattern: list[bytes]) -> Any:
    return _unsubscribe(ctx, Kind.PATTERN, pattern)


@command(
    "SUNSUBSCRIBE",
    since="7.0.0",
    group="pubsub",
    flags=_UNSUBSCRIBE,
    summary="Stops listening to shard channels, to all of them when none is named.",
    complexity="O(N), N the number of shard channels",
    args=(Bytes("shardchannel", optional=True, multiple=True),),
    extra_key_specs=_SHARD_CHANNELS,
)
def sunsubscribe(ctx: Context, shardchannel: list[bytes]) -> Any:
    return _unsubscribe(ctx, Kind.SHARD, shardchannel)


# --------------------------------------------------------------------------
# Messages


def _publish(ctx: Context, channel: bytes, message: bytes, *, shard: bool) -> int:
    """Send a message after everything that is staged before it, and its reply with it.

    A reader that is told of a change must find it, and a transaction that fails to commit must
    not have spoken.
    """
    hub = ctx.server.hub
    receivers = hub.receivers(channel, shard=shard)
    if receivers:
        keyspace = ctx.server.keyspace
        index = ctx.server.notifier.standing_index()
        keyspace.need = max(keyspace.need, index)
        hub.defer(index, channel, message, shard=shard)
    return receivers


@command(
    "PUBLISH",
    since="2.0.0",
    group="pubsub",
    flags=_PUBLISH,
    summary="Sends a message to a channel.",
    complexity="O(N+M), N the subscribers of the channel, M all patterns",
    args=(Channel("channel"), Bytes("message")),
)
def publish(ctx: Context, channel: bytes, message: bytes) -> int:
    return _publish(ctx, channel, message, shard=False)


@command(
    "SPUBLISH",
    since="7.0.0",
    group="pubsub",
    flags=_PUBLISH,
    summary="Sends a message to a shard channel.",
    complexity="O(N), N the subscribers of the shard channel",
    args=(Channel("shardchannel"), Bytes("message")),
    extra_key_specs=_SHARD_CHANNEL,
)
def spublish(ctx: Context, shardchannel: bytes, message: bytes) -> int:
    return _publish(ctx, shardchannel, message, shard=True)


# --------------------------------------------------------------------------
# PUBSUB

PUBSUB = container(
    "PUBSUB",
    since="2.8.0",
    group="pubsub",
    summary="Looks at subscriptions.",
    complexity="depends on the subcommand",
    acl=("none",),
)

_HELP = [
    "PUBSUB <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CHANNELS [<pattern>]",
    "    Return the currently active channels matching a <pattern> (default: '*').",
    "NUMPAT",
    "    Return number of subscriptions to patterns.",
    "NUMSUB [<channel> ...]",
    "    Return the number of subscribers for the specified channels, excluding",
    "    pattern subscriptions(default: no channels).",
    "SHARDCHANNELS [<pattern>]",
    "    Return the currently active shard level channels matching a <pattern> (default: '*').",
    "SHARDNUMSUB [<shardchannel> ...]",
    "    Return the number of subscribers for the specified shard level channel(s)",
    "HELP",
    "    Print this help.",
]


def _only_pattern(name: str, patterns: list[bytes]) -> bytes | None:
    """The pattern, if any; two are an error."""
    if len(patterns) > 1:
        raise ReplyError(
            f"ERR unknown subcommand or wrong number of arguments for '{name}'. Try PUBSUB HELP."
        )
    return patterns[0] if patterns else None


@command(
    "PUBSUB CHANNELS",
    since="2.8.0",
    group="pubsub",
    flags=_INSPECT,
    summary="Lists the channels that have subscribers.",
    complexity="O(N), N the number of such channels",
    args=(Pattern("pattern", optional=True, multiple=True),),
)
def pubsub_channels(ctx: Context, pattern: list[bytes]) -> list[bytes]:
    return ctx.server.hub.channels(_only_pattern("CHANNELS", pattern))


@command(
    "PUBSUB SHARDCHANNELS",
    since="7.0.0",
    group="pubsub",
    flags=_INSPECT,
    summary="Lists the shard channels that have subscribers.",
    complexity="O(N), N the number of such channels",
    args=(Pattern("pattern", optional=True, multiple=True),),
)
def pubsub_shardchannels(ctx: Context, pattern: list[bytes]) -> list[bytes]:
    return ctx.server.hub.channels(_only_pattern("SHARDCHANNELS", pattern), shard=True)


@command(
    "PUBSUB NUMSUB",
    since="2.8.0",
    group="pubsub",
    flags=_INSPECT,
    summary="Counts the subscribers of channels, those of patterns left out.",
    complexity="O(N), N the number of channels",
    args=(Bytes("channel", optional=True, multiple=True),),
)
def pubsub_numsub(ctx: Context, channel: list[bytes]) -> list[bytes | int]:
    return ctx.server.hub.numsub(channel)


@command(
    "PUBSUB SHARDNUMSUB",
    since="7.0.0",
    group="pubsub",
    flags=_INSPECT,
    summary="Counts the subscribers of shard channels.",
    complexity="O(N), N the number of shard channels",
    args=(Bytes("shardchannel", optional=True, multiple=True),),
)
def pubsub_shardnumsub(ctx: Context, shardchannel: list[bytes]) -> list[bytes | int]:
    return ctx.server.hub.numsub(shardchannel, shard=True)


@command(
    "PUBSUB NUMPAT",
    since="2.8.0",
    group="pubsub",
    flags=_INSPECT,
    summary="Counts the patterns that have subscribers.",
    complexity="O(1)",
)
def pubsub_numpat(ctx: Context) -> int:
    return ctx.server.hub.numpat()


@command(
    "PUBSUB HELP",
    since="6.2.0",
    group="pubsub",
    flags=LOADING | STALE,
    summary="Tells the subcommands.",
    complexity="O(1)",
    acl=("none",),
)
def pubsub_help(ctx: Context) -> list[Simple]:
    return [Simple(line.encode()) for line in _HELP]
