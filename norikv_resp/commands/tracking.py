"""CLIENT TRACKING and its kin: client-side caching."""

from __future__ import annotations

from typing import Any

from norikv_resp.command import LOADING, NOSCRIPT, STALE, Bytes, Rest, command, parse_int
from norikv_resp.context import Context
from norikv_resp.errors import ReplyError, SyntaxProblem
from norikv_resp.protocol import OK, Map, SetReply
from norikv_resp.tracking import NOT_TRACKING, Options

_FLAGS = NOSCRIPT | LOADING | STALE

TWO_REDIRECTS = ReplyError(b"ERR A client can only redirect to a single other client")
NO_SUCH_CLIENT = ReplyError(b"ERR The client ID you want redirect to does not exist")


@command(
    "CLIENT TRACKING",
    since="6.0.0",
    group="connection",
    flags=_FLAGS,
    summary="Turns invalidation messages for cached keys on or off.",
    complexity="O(1), with BCAST O(N), N the number of prefixes",
    args=(Bytes("status"), Rest("option")),
)
def client_tracking(ctx: Context, status: bytes, option: list[bytes]) -> Any:
    options = _options(ctx, option)
    tracking = ctx.server.tracking
    word = status.lower()
    if word == b"on":
        ctx.tracking = tracking.enable(ctx, options)
    elif word == b"off":
        tracking.disable(ctx)
        ctx.tracking = None
    else:
        raise SyntaxProblem
    ctx.server.follow_changes()
    ctx.refresh()
    return OK


def _options(ctx: Context, words: list[bytes]) -> Options:
    """What follows ON or OFF. ReplyError as Redis words it, in its order."""
    redirect = 0
    prefixes = []
    given = set()
    remaining = iter(words)
    for word in remaining:
        name = word.lower()
        if name in (b"bcast", b"optin", b"optout", b"noloop"):
            given.add(name)
            continue
        value = next(remaining, None)
        if value is None:
            raise SyntaxProblem
        if name == b"redirect":
            if redirect:
                raise TWO_REDIRECTS
            redirect = parse_int(value)
            if redirect not in ctx.server.contexts:
                raise NO_SUCH_CLIENT
        elif name == b"prefix":
            prefixes.append(value)
        else:
            raise SyntaxProblem
    return Options(
        redirect=redirect,
        bcast=b"bcast" in given,
        optin=b"optin" in given,
        optout=b"optout" in given,
        noloop=b"noloop" in given,
        prefixes=prefixes,
    )


@command(
    "CLIENT CACHING",
    since="6.0.0",
    group="connection",
    flags=_FLAGS,
    summary="Says whether the keys of the next command are tracked.",
    complexity="O(1)",
    args=(Bytes("mode"),),
)
def client_caching(ctx: Context, mode: bytes) -> Any:
    if ctx.tracking is None:
        raise NOT_TRACKING
    word = mode.lower()
    if word not in (b"yes", b"no"):
        raise SyntaxProblem
    ctx.tracking.set_caching(word == b"yes")
    return OK


@command(
    "CLIENT TRACKINGINFO",
    since="6.2.0",
    group="connection",
    flags=_FLAGS,
    summary="Tells how the connection tracks.",
    complexity="O(1)",
)
def client_trackinginfo(ctx: Context) -> Map:
    state = ctx.tracking
    return Map(
        [
            (b"flags", SetReply([b"off"] if state is None else state.flags())),
            (b"redirect", _redirect(ctx)),
            (b"prefixes", [] if state is None else list(state.prefixes)),
        ]
    )


@command(
    "CLIENT GETREDIR",
    since="6.0.0",
    group="connection",
    flags=_FLAGS,
    summary="Tells the client to which invalidations are redirected.",
    complexity="O(1)",
)
def client_getredir(ctx: Context) -> int:
    return _redirect(ctx)


def _redirect(ctx: Context) -> int:
    """The client that gets the invalidations: 0 for this one, -1 while tracking is off."""
    return -1 if ctx.tracking is None else ctx.tracking.redirect
