"""PING, ECHO, SELECT, AUTH, HELLO, RESET, QUIT: the connection itself."""

from __future__ import annotations

from typing import Any

from norikv_resp.command import (
    FAST,
    LOADING,
    NOSCRIPT,
    STALE,
    Bytes,
    Flag,
    Int,
    Request,
    Rest,
    command,
    parse_int,
)
from norikv_resp.context import Context
from norikv_resp.errors import NotAnInteger, ReplyError, SyntaxProblem, WrongArity
from norikv_resp.protocol import OK, Map, Simple

#: The level of compatibility that clients switch their features on.
REDIS_VERSION = b"8.8.0"

PONG = Simple(b"PONG")
RESET_DONE = Simple(b"RESET")

WRONG_PASSWORD = ReplyError(b"WRONGPASS invalid username-password pair or user is disabled.")
NO_PASSWORD_SET = ReplyError(
    b"ERR AUTH <password> called without any password configured for the default user. Are you"
    b" sure your configuration is correct?"
)
NO_PROTOCOL = ReplyError(b"NOPROTO unsupported protocol version")
HELLO_NEEDS_AUTH = ReplyError(
    b"NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO"
    b" <proto> AUTH <user> <pass> option can be used to authenticate the client and select the"
    b" RESP protocol version at the same time"
)
BAD_NAME = ReplyError(b"ERR Client names cannot contain spaces, newlines or special characters.")

REDACTED = b"(redacted)"

_BEFORE_LOGIN = NOSCRIPT | LOADING | STALE | FAST | Flag.NO_AUTH | Flag.ALLOW_BUSY


def is_printable(word: bytes) -> bool:
    """Whether CLIENT LIST can show *word* as one of its values."""
    return all(0x21 <= byte <= 0x7E for byte in word)


def _ping_words(request: Request) -> list[bytes | None]:
    if len(request) > 2:
        raise WrongArity("ping")
    return [request[1] if len(request) == 2 else None]


@command(
    "PING",
    since="1.0.0",
    group="connection",
    flags=FAST,
    summary="Answers PONG, or the message.",
    complexity="O(1)",
    args=(Bytes("message", optional=True),),
    parse=_ping_words,
    tips=("request_policy:all_shards", "response_policy:all_succeeded"),
)
def ping(ctx: Context, message: bytes | None) -> Any:
    if ctx.subscribed and not ctx.resp3:
        return [b"pong", message or b""]
    return PONG if message is None else message


@command(
    "ECHO",
    since="1.0.0",
    group="connection",
    flags=LOADING | STALE | FAST,
    summary="Answers the message.",
    complexity="O(1)",
    args=(Bytes("message"),),
)
def echo(ctx: Context, message: bytes) -> bytes:
    return message


@command(
    "SELECT",
    since="1.0.0",
    group="connection",
    flags=LOADING | STALE | FAST,
    summary="Changes the selected database.",
    complexity="O(1)",
    args=(Int("index"),),
)
def select(ctx: Context, index: int) -> Any:
    if not -(2**31) <= index < 2**31:
        raise ReplyError(
            b"ERR value is out of range, value must between -2147483648 and 2147483647"
        )
    ctx.select(index)
    return OK


# --------------------------------------------------------------------------
# Logging in


def _auth_words(request: Request) -> list[Any]:
    if len(request) > 3:
        raise SyntaxProblem
    return [None, request[1]] if len(request) == 2 else request[1:]


@command(
    "AUTH",
    since="1.0.0",
    group="connection",
    flags=_BEFORE_LOGIN,
    summary="Logs the connection in.",
    complexity="O(1)",
    args=(Bytes("username", optional=True), Bytes("password")),
    parse=_auth_words,
    redact=lambda request: [request[0], *[REDACTED] * (len(request) - 1)],
    history=(("6.0.0", "Added ACL style (username and password)."),),
)
def auth(ctx: Context, username: bytes | None, password: bytes) -> Any:
    if username is None:
        if ctx.server.acl.default.nopass:
            raise NO_PASSWORD_SET
        username = b"default"
    _log_in(ctx, username, password, b"AUTH")
    return OK


def _log_in(ctx: Context, username: bytes, password: bytes, how: bytes) -> None:
    acl = ctx.server.acl
    user = acl.authenticate(username, password)
    if user is None:
        acl.failed_login(ctx, username, how)
        raise WRONG_PASSWORD
    ctx.log_in(user)


def _hello_redacted(request: Request) -> Request:
    shown = list(request)
    for at in range(2, len(shown)):
        if shown[at].upper() == b"AUTH":
            for place in range(at + 1, min(at + 3, len(shown))):
                shown[place] = REDACTED
            break
    return shown


@command(
    "HELLO",
    since="6.0.0",
    group="connection",
    flags=_BEFORE_LOGIN,
    summary="Chooses the protocol, and tells about the server.",
    complexity="O(1)",
    args=(
        Bytes("protover", optional=True),
        Rest("option", display="AUTH username password | SETNAME clientname"),
    ),
    parse=lambda request: [request[1] if len(request) > 1 else None, request[2:]],
    redact=_hello_redacted,
)
def hello(ctx: Context, protover: bytes | None, option: list[bytes]) -> Map:
    version = _protocol(protover) if protover is not None else 0
    credentials, name = _hello_options(option)
    if credentials is not None:
        _log_in(ctx, *credentials, b"HELLO")
    if not ctx.authenticated:
        raise HELLO_NEEDS_AUTH
    if name is not None:
        ctx.name = name
    if version:
        ctx.resp3 = version == 3
        ctx.refresh()
    return Map(
        [
            (b"server", b"redis"),
            (b"version", REDIS_VERSION),
            (b"proto", 3 if ctx.resp3 else 2),
            (b"id", ctx.id),
            (b"mode", b"standalone"),
            (b"role", b"master"),
            (b"modules", module_list(ctx)),
        ]
    )


def _protocol(word: bytes) -> int:
    try:
        version = parse_int(word)
    except ReplyError:
        raise NotAnInteger("Protocol version") from None
    if version not in (2, 3):
        raise NO_PROTOCOL
    return version


def _hello_options(words: list[bytes]) -> tuple[tuple[bytes, bytes] | None, bytes | None]:
    credentials, name = None, None
    at = 0
    while at < len(words):
        option, left = words[at].upper(), len(words) - at - 1
        if option == b"AUTH" and left >= 2:
            credentials = words[at + 1], words[at + 2]
            at += 3
        elif option == b"SETNAME" and left >= 1:
            name = words[at + 1]
            if not is_printable(name):
                raise BAD_NAME
            at += 2
        else:
            raise ReplyError(b"ERR Syntax error in HELLO option '%b'" % words[at])
    return credentials, name


def module_list(ctx: Context) -> list[Map]:
    """The loaded modules as HELLO and MODULE LIST tell them."""
    return [
        Map(
            [
                (b"name", module.name.encode()),
                (b"ver", 1),
                (b"path", module.path.encode()),
                (b"args", [word.encode() for word in module.arguments]),
            ]
        )
        for module in ctx.server.modules.values()
    ]


# --------------------------------------------------------------------------
# Leaving


@command(
    "RESET",
    since="6.2.0",
    group="connection",
    flags=_BEFORE_LOGIN | Flag.UNQUEUED,
    summary="Makes the connection what it was when it was opened.",
    complexity="O(1)",
)
def reset(ctx: Context) -> Simple:
    ctx.reset()
    return RESET_DONE


@command(
    "QUIT",
    since="1.0.0",
    group="connection",
    flags=_BEFORE_LOGIN | Flag.UNQUEUED,
    summary="Closes the connection once everything before is answered.",
    complexity="O(1)",
    args=(Rest("ignored"),),
)
def quit_(ctx: Context, ignored: list[bytes]) -> Any:
    ctx.connection.closing_after_replies()
    return OK
