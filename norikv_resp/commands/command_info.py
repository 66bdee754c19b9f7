"""COMMAND: the command table, as declared."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from norikv_resp.command import (
    CATEGORIES,
    LOADING,
    STALE,
    Bytes,
    Command,
    Flag,
    KeySpec,
    Request,
    Rest,
    command,
)
from norikv_resp.command_syntax import docs
from norikv_resp.commands.helping import help_of
from norikv_resp.context import Context
from norikv_resp.errors import ReplyError, SyntaxProblem
from norikv_resp.glob import compile_glob
from norikv_resp.protocol import Map, SetReply, Simple, encode

_FLAGS = LOADING | STALE
_UNORDERED = ("nondeterministic_output_order",)

NO_KEYS = ReplyError(b"ERR The command has no key arguments")
NO_COMMAND = ReplyError(b"ERR Invalid command specified")
BAD_COUNT = ReplyError(b"ERR Invalid number of arguments specified for command")
BAD_ARGUMENTS = ReplyError(b"ERR Invalid arguments specified for command")


@command(
    "COMMAND",
    since="2.8.13",
    group="server",
    flags=_FLAGS,
    summary="Describes all commands.",
    complexity="O(N), N the number of commands",
    min_arity=1,
    acl=("connection",),
    tips=_UNORDERED,
)
def command_(ctx: Context) -> Any:
    return _of_all(ctx, "info", lambda commands: [describe(each) for each in commands])


def _of_all(ctx: Context, what: str, make: Callable[[Iterable[Command]], Any]) -> Any:
    """A reply about all commands, encoded once: that takes tens of milliseconds."""
    replies = ctx.server.registry.replies
    place = what, ctx.resp3
    if place not in replies:
        value = make(ctx.server.registry.top_level())
        ready = Simple(b"")
        ready.encoded = encode(value, ctx.resp3)
        replies[place] = ready
    return replies[place]


COMMAND: Command = command_.__dict__["_commands"][0]
COMMAND_HELP = help_of(COMMAND, since="5.0.0", acl=("connection",))


# --------------------------------------------------------------------------
# COMMAND INFO


def describe(declared: Command) -> list[Any]:
    """A command as COMMAND INFO tells it."""
    first, last, step = declared.legacy_range
    return [
        declared.full_name.encode(),
        declared.arity,
        SetReply([Simple(name.encode()) for name in declared.flag_names]),
        first,
        last,
        step,
        SetReply([Simple(b"@" + name.encode()) for name in declared.categories]),
        SetReply([tip.encode() for tip in declared.tips]),
        SetReply([_key_spec(spec) for spec in declared.key_specs]),
        SetReply([describe(sub) for sub in declared.subcommands.values()]),
    ]


def _key_spec(spec: KeySpec) -> Map:
    if spec.keyword:
        begin = _typed(b"keyword", keyword=spec.keyword.encode(), startfrom=spec.index)
    else:
        begin = _typed(b"index", index=spec.index)
    if spec.counted:
        find = _typed(b"keynum", keynumidx=0, firstkey=1, keystep=spec.step)
    else:
        find = _typed(b"range", lastkey=spec.last, keystep=spec.step, limit=0)
    flags = SetReply([Simple(flag.encode()) for flag in spec.flags])
    return Map([(b"flags", flags), (b"begin_search", begin), (b"find_keys", find)])


def _typed(kind: bytes, **fields: Any) -> Map:
    spec = Map([(name.encode(), value) for name, value in fields.items()])
    return Map([(b"type", kind), (b"spec", spec)])


@command(
    "COMMAND INFO",
    since="2.8.13",
    group="server",
    flags=_FLAGS,
    summary="Describes commands, all when none is named.",
    complexity="O(N), N the number of commands",
    args=(Rest("command-name"),),
    acl=("connection",),
    tips=_UNORDERED,
)
def command_info(ctx: Context, command_name: list[bytes]) -> Any:
    if not command_name:
        return command_(ctx)
    found = [_named(ctx, name) for name in command_name]
    return [None if each is None else describe(each) for each in found]


def _named(ctx: Context, name: bytes) -> Command | None:
    """The command or, as ``config|get``, subcommand of that name."""
    return ctx.server.registry.commands.get(name.decode("latin-1").upper().replace("|", " "))


@command(
    "COMMAND COUNT",
    since="2.8.13",
    group="server",
    flags=_FLAGS,
    summary="Counts the commands.",
    complexity="O(N), N the number of commands",
    acl=("connection",),
)
def command_count(ctx: Context) -> int:
    return sum(1 for _ in ctx.server.registry.top_level())


@command(
    "COMMAND DOCS",
    since="7.0.0",
    group="server",
    flags=_FLAGS,
    summary="Tells the syntax of commands and what they do, of all when none is named.",
    complexity="O(N), N the number of commands",
    args=(Rest("command-name"),),
    acl=("connection",),
    tips=_UNORDERED,
)
def command_docs(ctx: Context, command_name: list[bytes]) -> Any:
    if not command_name:
        return _of_all(ctx, "docs", _docs)
    found = [_named(ctx, name) for name in command_name]
    return _docs(each for each in found if each is not None)


def _docs(commands: Iterable[Command]) -> Map:
    return Map([(each.full_name.encode(), docs(each)) for each in commands])


@command(
    "COMMAND LIST",
    since="7.0.0",
    group="server",
    flags=_FLAGS,
    summary="Lists the names of commands.",
    complexity="O(N), N the number of commands",
    args=(
        Rest(
            "filter",
            display="FILTERBY MODULE name | FILTERBY ACLCAT name | FILTERBY PATTERN pattern",
        ),
    ),
    acl=("connection",),
    tips=_UNORDERED,
)
def command_list(ctx: Context, filter: list[bytes]) -> list[bytes]:  # noqa: A002
    commands = list(ctx.server.registry)
    if not filter:
        return [each.full_name.encode() for each in commands if each.words == 1]
    if len(filter) != 3 or filter[0].upper() != b"FILTERBY":
        raise SyntaxProblem
    kind, value = filter[1].upper(), filter[2]
    text = value.decode("latin-1")
    if kind == b"MODULE":
        chosen = [each for each in commands if each.module and each.module == text]
    elif kind == b"ACLCAT":
        category = text.lower()
        chosen = [
            each for each in commands if category in CATEGORIES and category in each.categories
        ]
    elif kind == b"PATTERN":
        matches = compile_glob(value, nocase=True)
        chosen = [each for each in commands if matches(each.full_name.encode())]
    else:
        raise SyntaxProblem
    return [each.full_name.encode() for each in chosen]


# --------------------------------------------------------------------------
# COMMAND GETKEYS


def _keys(ctx: Context, request: Request) -> list[tuple[bytes, tuple[str, ...]]]:
    """The keys of a request; ReplyError as COMMAND GETKEYS words it."""
    found = ctx.server.registry.resolve(request)
    if found is None:
        raise NO_COMMAND
    if not found.arity_fits(len(request)):
        raise BAD_COUNT
    found, request = ctx.server.dispatcher.unwrap(found, request)
    if not found.key_specs and found.dynamic_keys is None:
        raise NO_KEYS
    try:
        return found.keys(request)
    except ReplyError:
        if found.flags & Flag.NO_MANDATORY_KEYS:
            return []
        raise BAD_ARGUMENTS from None


@command(
    "COMMAND GETKEYS",
    since="2.8.13",
    group="server",
    flags=_FLAGS,
    summary="Tells which words of a command are its keys.",
    complexity="O(N), N the number of words",
    args=(Bytes("command"), Rest("arg")),
    acl=("connection",),
)
def command_getkeys(ctx: Context, command: bytes, arg: list[bytes]) -> list[bytes]:
    return [key for key, _ in _keys(ctx, [command, *arg])]


@command(
    "COMMAND GETKEYSANDFLAGS",
    since="7.0.0",
    group="server",
    flags=_FLAGS,
    summary="Tells the keys of a command, and what it does to each.",
    complexity="O(N), N the number of words",
    args=(Bytes("command"), Rest("arg")),
    acl=("connection",),
)
def command_getkeysandflags(ctx: Context, command: bytes, arg: list[bytes]) -> list[Any]:
    return [
        [key, SetReply([Simple(flag.encode()) for flag in flags if flag != "variable_flags"])]
        for key, flags in _keys(ctx, [command, *arg])
    ]
