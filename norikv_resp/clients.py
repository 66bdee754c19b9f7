"""How connections are described and chosen: CLIENT LIST, CLIENT INFO, CLIENT KILL, ACL LOG."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from norikv_resp.context import Context

#: Whether a client is meant.
Filter = Callable[["Context"], bool]

CLIENT_TYPES = (b"normal", b"master", b"replica", b"slave", b"pubsub")


def client_type(ctx: Context) -> bytes:
    """What CLIENT LIST TYPE calls a client: there are no masters and replicas here."""
    return b"pubsub" if ctx.subscribed else b"normal"


def flags(ctx: Context) -> str:
    """The letters that CLIENT LIST shows for a client's state, ``N`` for none."""
    connection = ctx.connection
    tracking = ctx.tracking
    letters = [
        ("O", ctx.monitoring),
        ("P", ctx.subscribed),
        ("x", ctx.queue is not None),
        ("b", connection.waiting_for is not None),
        ("t", tracking is not None),
        ("R", tracking is not None and tracking.broken_redirect),
        ("B", tracking is not None and tracking.bcast),
        ("d", ctx.dirty),
        ("c", connection.closing),
        ("U", connection.is_unix),
        ("e", ctx.no_evict),
        ("T", ctx.no_touch),
    ]
    return "".join(letter for letter, given in letters if given) or "N"


def describe(ctx: Context) -> bytes:
    """A client as a line of CLIENT LIST, without the line's end."""
    connection = ctx.connection
    transport = connection.transport
    now = ctx.server.keyspace.clock.now()
    sock = transport.get_extra_info("socket")
    pending = transport.get_write_buffer_size() if not transport.is_closing() else 0
    buffered = connection.reader.buffered
    queued = sum(sum(map(len, request)) for _, request in ctx.queue or ())
    output = pending + connection.held_bytes
    tracking = ctx.tracking
    fields = (
        f"id={ctx.id} addr={connection.peer} laddr={connection.local} "
        f"fd={sock.fileno() if sock is not None else -1} "
        f"name={_text(ctx.name)} age={(now - connection.created) // 1000} "
        f"idle={(now - connection.active) // 1000} flags={flags(ctx)} db={ctx.keys.number} "
        f"sub={len(ctx.channels)} psub={len(ctx.patterns)} ssub={len(ctx.shard_channels)} "
        f"multi={len(ctx.queue) if ctx.queue is not None else -1} watch={len(ctx.watching)} "
        f"qbuf={buffered} qbuf-free=0 argv-mem=0 multi-mem={queued} rbs=0 rbp=0 obl=0 "
        f"oll={len(connection.held)} omem={output} tot-mem={buffered + queued + output} "
        f"events={'' if connection.paused_reading else 'r'}{'w' if pending else ''} "
        f"cmd={ctx.last_command} user={_text(ctx.user.name)} "
        f"redir={tracking.redirect if tracking is not None else -1} "
        f"resp={3 if ctx.resp3 else 2} lib-name={_text(ctx.info.get('lib-name', b''))} "
        f"lib-ver={_text(ctx.info.get('lib-ver', b''))} io-thread=0"
    )
    return fields.encode("utf-8", "surrogateescape")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
