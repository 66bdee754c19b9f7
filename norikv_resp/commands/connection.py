"""PING, ECHO, SELECT."""

from __future__ import annotations

from typing import Any

from norikv_resp.command import FAST, LOADING, STALE, Bytes, Int, command
from norikv_resp.context import Context
from norikv_resp.protocol import OK, Simple

PONG = Simple(b"PONG")


@command("PING", since="1.0.0", group="connection", flags=FAST, summary="Answers.",
         complexity="O(1)", args=(Bytes("message", optional=True),),
         tips=("request_policy:all_shards", "response_policy:all_succeeded"))
def ping(ctx: Context, message: bytes | None) -> Any:
    return PONG if message is None else message


@command("SELECT", since="1.0.0", group="connection", flags=LOADING | STALE | FAST,
         summary="Changes the selected database.", complexity="O(1)", args=(Int("index"),))
def select(ctx: Context, index: int) -> Any:
    ctx.select(index)
    return OK


from norikv_resp.command import container

CLIENT = container("CLIENT", since="2.4.0", group="connection", acl=("none",))
