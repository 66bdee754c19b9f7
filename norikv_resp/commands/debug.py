"""DEBUG: a few harmless subcommands for tests and tools, behind enable-debug-command."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from norikv_resp.command import (
    ADMIN,
    LOADING,
    NOSCRIPT,
    STALE,
    Bytes,
    Rest,
    command,
    parse_float,
)
from norikv_resp.commands.objects import encoding_name
from norikv_resp.context import Context
from norikv_resp.errors import NO_SUCH_KEY, ReplyError
from norikv_resp.logs import log
from norikv_resp.memory import SAMPLES, usage
from norikv_resp.protocol import NULL_ARRAY, OK, Map, Push, SetReply, Simple, Verbatim

NOT_ALLOWED = ReplyError(
    b'ERR DEBUG command not allowed. If the enable-debug-command option is set to "local", you can'
    b" run it from a local connection, otherwise you need to set this option in the configuration"
    b" file, and then restart the server."
)

_HELP = (
    b"DEBUG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    b"ERROR <message>",
    b"    Reply with this error.",
    b"JMAP",
    b"    Do nothing.",
    b"LOG <message>",
    b"    Write the message to the server's log.",
    b"OBJECT <key>",
    b"    Tell about the inside of a value.",
    b"PROTOCOL <type>",
    b"    Reply with a value of this type: string, integer, double, null, array, set, map,",
    b"    verbatim, true, false, push.",
    b"RELOAD | LOADAOF",
    b"    Wait until everything written so far is on disk; nothing has to be loaded again.",
    b"SET-ACTIVE-EXPIRE <0|1>",
    b"    Stop or start the reclaiming of expired keys; they stay invisible.",
    b"SLEEP <seconds>",
    b"    Stop the whole server for a while.",
    b"STRINGMATCH-LEN <length> <pattern>",
    b"    Do nothing.",
    b"HELP",
    b"    Print this help.",
)

_SAMPLES: dict[bytes, Any] = {
    b"string": b"Hello World",
    b"integer": 12345,
    b"double": 3.141,
    b"null": None,
    b"array": [0, 1, 2],
    b"set": SetReply([0, 1, 2]),
    b"map": Map([(0, False), (1, True), (2, False)]),
    b"verbatim": Verbatim(b"txt", b"This is a verbatim\nstring"),
    b"true": True,
    b"false": False,
    b"push": Push([b"server-cpu-usage", 42]),
    b"nullarray": NULL_ARRAY,
}


def _object(ctx: Context, words: list[bytes]) -> Any:
    record = ctx.keys.get(words[0])
    if record is None:
        raise NO_SUCH_KEY
    encoding = encoding_name(ctx.keys, words[0], record)
    server = ctx.server
    size = usage(server.store, words[0], record, SAMPLES, server.hooks.value_types)
    return Simple(
        b"Value at:%d-%d refcount:1 encoding:%b serializedlength:%d lru:0 lru_seconds_idle:0"
        % (record.term, record.index, encoding, size)
    )


def _sleep(ctx: Context, words: list[bytes]) -> Any:
    time.sleep(max(parse_float(words[0]), 0.0))
    return OK


def _set_active_expire(ctx: Context, words: list[bytes]) -> Any:
    ctx.server.sweeping = words[0] != b"0"
    return OK


def _log(ctx: Context, words: list[bytes]) -> Any:
    log.warning("DEBUG LOG: %s", words[0].decode("utf-8", "replace"))
    return OK


def _error(ctx: Context, words: list[bytes]) -> Any:
    raise ReplyError(words[0])


def _protocol(ctx: Context, words: list[bytes]) -> Any:
    name = words[0].lower()
    if name not in _SAMPLES:
        raise ReplyError(
            b"ERR Wrong protocol type name. Please use one of the following: " + b"|".join(_SAMPLES)
        )
    return _SAMPLES[name]


async def _reload(ctx: Context) -> Any:
    await ctx.server.wait_until_synced()
    return OK


_Sub = Callable[[Context, list[bytes]], Any]

#: By name: how many words follow, or None for any number, and what to do.
_SUBCOMMANDS: dict[bytes, tuple[int | None, _Sub]] = {
    b"ERROR": (1, _error),
    b"HELP": (0, lambda ctx, words: [Simple(line) for line in _HELP]),
    b"JMAP": (0, lambda ctx, words: OK),
    b"LOADAOF": (0, lambda ctx, words: _reload(ctx)),
    b"LOG": (1, _log),
    b"OBJECT": (1, _object),
    b"PROTOCOL": (1, _protocol),
    b"RELOAD": (None, lambda ctx, words: _reload(ctx)),
    b"SET-ACTIVE-EXPIRE": (1, _set_active_expire),
    b"SLEEP": (1, _sleep),
    b"STRINGMATCH-LEN": (2, lambda ctx, words: OK),
}


@command(
    "DEBUG",
    since="1.0.0",
    group="server",
    flags=ADMIN | NOSCRIPT | LOADING | STALE,
    summary="For tests: a few harmless subcommands of Redis's DEBUG, off unless"
    " enable-debug-command allows them.",
    complexity="depends on the subcommand",
    args=(Bytes("subcommand"), Rest("arg")),
)
def debug(ctx: Context, subcommand: bytes, arg: list[bytes]) -> Any:
    allowed = ctx.config.enable_debug_command
    if allowed == "no" or (allowed == "local" and not ctx.connection.is_local):
        raise NOT_ALLOWED
    words, run = _SUBCOMMANDS.get(subcommand.upper(), (-1, None))
    if run is None or (words is not None and words != len(arg)):
        raise ReplyError(
            b"ERR unknown subcommand or wrong number of arguments for '%b'. Try DEBUG HELP."
            % subcommand[:128]
        )
    return run(ctx, arg)
