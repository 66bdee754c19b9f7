"""CLIENT: what connections are, and what one may do to others."""

from __future__ import annotations

from typing import Any

from norikv_resp.clients import CLIENT_TYPES, Filter, client_type, describe
from norikv_resp.command import (
    ADMIN,
    LOADING,
    NOSCRIPT,
    STALE,
    Bytes,
    Int,
    Rest,
    command,
    container,
    parse_int,
)
from norikv_resp.commands.connection import BAD_NAME, is_printable
from norikv_resp.commands.helping import help_of
from norikv_resp.context import (
    REPLY_OFF,
    REPLY_ON,
    REPLY_SKIP_NEXT,
    UNBLOCKED,
    Context,
)
from norikv_resp.errors import ReplyError, SyntaxProblem
from norikv_resp.protocol import NO_REPLY, OK, Verbatim

_ANYONE = NOSCRIPT | LOADING | STALE
_ADMIN = _ANYONE | ADMIN

BAD_ID = ReplyError(b"ERR Invalid client ID")
BAD_KILL_ID = ReplyError(b"ERR client-id should be greater than 0")
BAD_MAXAGE = ReplyError(b"ERR maxage should be greater than 0")
NO_SUCH_CLIENT = ReplyError(b"ERR No such client")
BAD_PAUSE = ReplyError(b"ERR CLIENT PAUSE mode must be WRITE or ALL")
BAD_REASON = ReplyError(b"ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")

CLIENT = container(
    "CLIENT",
    since="2.4.0",
    group="connection",
    acl=("none",),
    summary="Looks at connections and steers them.",
    complexity="depends on the subcommand",
)
CLIENT_HELP = help_of(CLIENT, since="5.0.0")


# --------------------------------------------------------------------------
# Looking


@command(
    "CLIENT ID",
    since="5.0.0",
    group="connection",
    flags=_ANYONE,
    summary="Tells the connection's number, which is never used again.",
    complexity="O(1)",
)
def client_id(ctx: Context) -> int:
    return ctx.id


@command(
    "CLIENT INFO",
    since="6.2.0",
    group="connection",
    flags=_ANYONE,
    summary="Describes this connection.",
    complexity="O(1)",
    tips=("nondeterministic_output",),
)
def client_info(ctx: Context) -> Verbatim:
    return Verbatim(b"txt", describe(ctx) + b"\n")


@command(
    "CLIENT LIST",
    since="2.4.0",
    group="connection",
    flags=_ADMIN,
    summary="Describes the open connections.",
    complexity="O(N), N the number of connections",
    args=(Rest("filter", display="TYPE client-type | ID client-id [client-id ...]"),),
    tips=("nondeterministic_output",),
)
def client_list(ctx: Context, filter: list[bytes]) -> Verbatim:  # noqa: A002
    chosen = _listed(ctx, filter)
    return Verbatim(b"txt", b"".join(describe(each) + b"\n" for each in chosen))


def _listed(ctx: Context, words: list[bytes]) -> list[Context]:
    contexts = ctx.server.contexts
    if not words:
        return list(contexts.values())
    option = words[0].upper()
    if option == b"TYPE" and len(words) == 2:
        wanted = _type(words[1])
        return [each for each in contexts.values() if client_type(each) == wanted]
    if option == b"ID" and len(words) > 1:
        idents = [_ident(word, BAD_ID) for word in words[1:]]
        return [contexts[ident] for ident in idents if ident in contexts]
    raise SyntaxProblem


def _type(word: bytes) -> bytes:
    name = word.lower()
    if name not in CLIENT_TYPES:
        raise ReplyError(b"ERR Unknown client type '%b'" % word)
    return name


def _ident(word: bytes, error: ReplyError) -> int:
    try:
        number = parse_int(word)
    except ReplyError:
        raise error from None
    if number < 1:
        raise error
    return number


# --------------------------------------------------------------------------
# Naming


@command(
    "CLIENT SETNAME",
    since="2.6.9",
    group="connection",
    flags=_ANYONE,
    summary="Names the connection; an empty name takes it away.",
    complexity="O(1)",
    args=(Bytes("connection-name"),),
    tips=("request_policy:all_nodes", "response_policy:all_succeeded"),
)
def client_setname(ctx: Context, connection_name: bytes) -> Any:
    if not is_printable(connection_name):
        raise BAD_NAME
    ctx.name = connection_name
    return OK


@command(
    "CLIENT GETNAME",
    since="2.6.9",
    group="connection",
    flags=_ANYONE,
    summary="Tells the connection's name.",
    complexity="O(1)",
)
def client_getname(ctx: Context) -> bytes | None:
    return ctx.name or None


@command(
    "CLIENT SETINFO",
    since="7.2.0",
    group="connection",
    flags=_ANYONE,
    summary="Tells the server the client library's name or version.",
    complexity="O(1)",
    args=(Bytes("attr", display="LIB-NAME | LIB-VER"), Bytes("value")),
    tips=("request_policy:all_nodes", "response_policy:all_succeeded"),
)
def client_setinfo(ctx: Context, attr: bytes, value: bytes) -> Any:
    name = attr.upper()
    if name not in (b"LIB-NAME", b"LIB-VER"):
        raise ReplyError(b"ERR Unrecognized option '%b'" % attr)
    if not is_printable(value):
        raise ReplyError(b"ERR %b cannot contain spaces, newlines or special characters." % name)
    ctx.info[name.decode().lower()] = value
    return OK


# --------------------------------------------------------------------------
# Switches of the connection


def _on_off(word: bytes) -> bool:
    choice = word.lower()
    if choice not in (b"on", b"off"):
        raise SyntaxProblem
    return choice == b"on"


@command(
    "CLIENT NO-EVICT",
    since="7.0.0",
    group="connection",
    flags=_ADMIN,
    summary="Has no effect: connections are never evicted.",
    complexity="O(1)",
    args=(Bytes("enabled", display="ON | OFF"),),
)
def client_no_evict(ctx: Context, enabled: bytes) -> Any:
    ctx.no_evict = _on_off(enabled)
    return OK


@command(
    "CLIENT NO-TOUCH",
    since="7.2.0",
    group="connection",
    flags=_ANYONE,
    summary="Has no effect: when keys were read is not kept.",
    complexity="O(1)",
    args=(Bytes("enabled", display="ON | OFF"),),
)
def client_no_touch(ctx: Context, enabled: bytes) -> Any:
    ctx.no_touch = _on_off(enabled)
    return OK


@command(
    "CLIENT REPLY",
    since="3.2.0",
    group="connection",
    flags=_ANYONE,
    summary="Turns replies off and on, or skips the next one.",
    complexity="O(1)",
    args=(Bytes("action", display="ON | OFF | SKIP"),),
)
def client_reply(ctx: Context, action: bytes) -> Any:
    choice = action.lower()
    if choice not in (b"on", b"off", b"skip"):
        raise SyntaxProblem
    if choice == b"on":
        ctx.reply_mode = REPLY_ON
    elif choice == b"off":
        ctx.reply_mode = REPLY_OFF
    elif ctx.reply_mode != REPLY_OFF:
        ctx.reply_mode = REPLY_SKIP_NEXT
    ctx.refresh()
    return OK if choice == b"on" else NO_REPLY


# --------------------------------------------------------------------------
# Other connections


@command(
    "CLIENT KILL",
    since="2.4.0",
    group="connection",
    flags=_ADMIN,
    summary="Closes connections.",
    complexity="O(N), N the number of connections",
    args=(
        Rest(
            "filter",
            optional=False,
            display="ip:port | ID client-id | TYPE client-type | USER username | ADDR ip:port"
            " | LADDR ip:port | SKIPME yes/no | MAXAGE seconds",
        ),
    ),
)
def client_kill(ctx: Context, filter: list[bytes]) -> Any:  # noqa: A002
    if len(filter) == 1:
        address = filter[0].decode("latin-1")
        for each in list(ctx.server.contexts.values()):
            if each.connection.peer == address:
                _close(ctx, each)
                return OK
        raise NO_SUCH_CLIENT
    filters, skips_me = _kill_filters(ctx, filter)
    condemned = [
        each
        for each in ctx.server.contexts.values()
        if not (skips_me and each is ctx) and all(meant(each) for meant in filters)
    ]
    for each in condemned:
        _close(ctx, each)
    return len(condemned)


def _close(ctx: Context, other: Context) -> None:
    """Close a connection: the one that asks after its reply, others at once."""
    if other is ctx:
        other.connection.closing_after_replies()
    else:
        other.connection.abort()


def _kill_filters(ctx: Context, words: list[bytes]) -> tuple[list[Filter], bool]:
    if len(words) % 2:
        raise SyntaxProblem
    filters: list[Filter] = []
    skips_me = True
    for option, value in zip(words[::2], words[1::2], strict=True):
        name = option.upper()
        if name == b"SKIPME":
            if value.lower() not in (b"yes", b"no"):
                raise SyntaxProblem
            skips_me = value.lower() == b"yes"
        else:
            filters.append(_kill_filter(ctx, name, value))
    return filters, skips_me


def _kill_filter(ctx: Context, name: bytes, value: bytes) -> Filter:
    text = value.decode("latin-1")
    if name == b"ID":
        ident = _ident(value, BAD_KILL_ID)
        return lambda each: each.id == ident
    if name == b"TYPE":
        wanted = _type(value)
        return lambda each: client_type(each) == wanted
    if name == b"ADDR":
        return lambda each: each.connection.peer == text
    if name == b"LADDR":
        return lambda each: each.connection.local == text
    if name == b"USER":
        user = ctx.server.acl.get(value)
        if user is None:
            raise ReplyError(b"ERR No such user '%b'" % value)
        return lambda each: each.user is user and each.authenticated
    if name == b"MAXAGE":
        oldest = ctx.now - 1000 * _ident(value, BAD_MAXAGE)
        return lambda each: each.connection.created <= oldest
    raise SyntaxProblem


@command(
    "CLIENT PAUSE",
    since="3.0.0",
    group="connection",
    flags=_ADMIN,
    summary="Holds back the commands of all connections, or only writes, for a while.",
    complexity="O(1)",
    args=(
        Int("timeout", what="timeout"),
        Bytes("mode", optional=True, display="WRITE | ALL"),
    ),
)
def client_pause(ctx: Context, timeout: int, mode: bytes | None) -> Any:
    choice = b"all" if mode is None else mode.lower()
    if choice not in (b"write", b"all"):
        raise BAD_PAUSE
    if timeout < 0:
        raise ReplyError(b"ERR timeout is negative")
    ctx.server.pause.start(timeout, choice == b"all")
    return OK


@command(
    "CLIENT UNPAUSE",
    since="6.2.0",
    group="connection",
    flags=_ADMIN,
    summary="Lets held back commands run.",
    complexity="O(N), N the number of connections",
)
def client_unpause(ctx: Context) -> Any:
    ctx.server.pause.end()
    return OK


@command(
    "CLIENT UNBLOCK",
    since="5.0.0",
    group="connection",
    flags=_ADMIN,
    summary="Ends the waiting of a connection's blocking command.",
    complexity="O(1)",
    args=(Int("client-id"), Bytes("reason", optional=True, display="TIMEOUT | ERROR")),
)
def client_unblock(ctx: Context, client_id: int, reason: bytes | None) -> int:
    choice = b"timeout" if reason is None else reason.lower()
    if choice not in (b"timeout", b"error"):
        raise BAD_REASON
    other = ctx.server.contexts.get(client_id)
    if other is None or other.blocked is None:
        return 0
    if choice == b"error":
        other.blocked.answer(UNBLOCKED)
    else:
        other.blocked.time_out()
    return 1
