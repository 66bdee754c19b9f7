"""CONFIG: the options of the running server."""

from __future__ import annotations

from typing import Any

from norikv_resp.command import (
    ADMIN,
    LOADING,
    NOSCRIPT,
    STALE,
    Block,
    Bytes,
    Pattern,
    Request,
    command,
    container,
)
from norikv_resp.commands.connection import REDACTED
from norikv_resp.commands.helping import help_of
from norikv_resp.context import Context
from norikv_resp.errors import SyntaxProblem
from norikv_resp.logs import log
from norikv_resp.option_types import Secret
from norikv_resp.options import BY_NAME
from norikv_resp.protocol import OK, Map

_FLAGS = ADMIN | NOSCRIPT | LOADING | STALE
_EVERYWHERE = ("request_policy:all_nodes", "response_policy:all_succeeded")

CONFIG = container(
    "CONFIG",
    since="2.0.0",
    group="server",
    summary="Looks at the options of the running server and changes them.",
    complexity="depends on the subcommand",
)
CONFIG_HELP = help_of(CONFIG, since="5.0.0")


@command(
    "CONFIG GET",
    since="2.0.0",
    group="server",
    flags=_FLAGS,
    summary="Tells the values of options, by name or pattern.",
    complexity="O(N), N the number of options",
    args=(Pattern("parameter", multiple=True),),
)
def config_get(ctx: Context, parameter: list[bytes]) -> Map:
    return Map(ctx.config.get(*parameter))


def _pairs(request: Request) -> list[Any]:
    words = request[2:]
    if len(words) % 2:
        raise SyntaxProblem
    return [list(zip(words[::2], words[1::2], strict=True))]


def _without_secrets(request: Request) -> Request:
    shown = list(request)
    for at in range(2, len(shown) - 1, 2):
        if isinstance(BY_NAME.get(shown[at].lower()), Secret):
            shown[at + 1] = REDACTED
    return shown


@command(
    "CONFIG SET",
    since="2.0.0",
    group="server",
    flags=_FLAGS,
    summary="Changes options, all of them or none.",
    complexity="O(N), N the number of options given",
    args=(Block("data", Bytes("parameter"), Bytes("value")),),
    parse=_pairs,
    redact=_without_secrets,
    tips=_EVERYWHERE,
)
def config_set(ctx: Context, data: list[tuple[bytes, bytes]]) -> Any:
    ctx.config.set(data)
    return OK


@command(
    "CONFIG REWRITE",
    since="2.8.0",
    group="server",
    flags=_FLAGS,
    summary="Brings the configuration file up to date; comments and order stay.",
    complexity="O(N), N the number of options",
    tips=_EVERYWHERE,
)
def config_rewrite(ctx: Context) -> Any:
    ctx.config.rewrite()
    log.info("the configuration file was rewritten by CONFIG REWRITE")
    return OK


@command(
    "CONFIG RESETSTAT",
    since="2.0.0",
    group="server",
    flags=_FLAGS,
    summary="Sets the counters of INFO to zero.",
    complexity="O(N), N the number of commands",
    tips=_EVERYWHERE,
)
def config_resetstat(ctx: Context) -> Any:
    server = ctx.server
    server.stats.reset()
    server.keyspace.hits = server.keyspace.misses = 0
    server.acl.denials = dict.fromkeys(server.acl.denials, 0)
    server.idempotency.replayed = server.idempotency.mismatched = 0
    for each in server.registry:
        each.reset_statistics()
    return OK
