"""ACL: users and what they may do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from norikv_resp.acl import LogEntry, genpass
from norikv_resp.acl_user import Selector, User
from norikv_resp.command import (
    ADMIN,
    CATEGORIES,
    LOADING,
    NOSCRIPT,
    STALE,
    Bytes,
    Int,
    Request,
    Rest,
    command,
    container,
    parse_int,
)
from norikv_resp.context import Context
from norikv_resp.errors import ReplyError, WrongArity
from norikv_resp.logs import log
from norikv_resp.protocol import OK, Map, SetReply, Simple

_ANYONE = LOADING | STALE | NOSCRIPT
_ADMIN = _ANYONE | ADMIN

GENPASS_BITS = 4096
BAD_GENPASS = ReplyError(
    f"ERR ACL GENPASS argument must be the number of bits for the output password, a positive"
    f" number up to {GENPASS_BITS}"
)
NO_ACLFILE = ReplyError(
    b"ERR This Redis instance is not configured to use an ACL file. You may want to specify users"
    b" via the ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis"
    b" configuration file set) in order to store users in the Redis configuration."
)
NOT_SAVED = ReplyError(
    b"ERR There was an error trying to save the ACLs. Please check the server logs for more"
    b" information"
)

ACL = container(
    "ACL",
    since="6.0.0",
    group="server",
    summary="Manages users and their rules.",
    complexity="depends on the subcommand",
)


# --------------------------------------------------------------------------
# Looking


@command(
    "ACL WHOAMI",
    since="6.0.0",
    group="server",
    flags=_ANYONE,
    summary="Tells the connection's user.",
    complexity="O(1)",
)
def acl_whoami(ctx: Context) -> bytes:
    return ctx.user.name


@command(
    "ACL USERS",
    since="6.0.0",
    group="server",
    flags=_ADMIN,
    summary="Lists the names of all users.",
    complexity="O(N), N the number of users",
)
def acl_users(ctx: Context) -> list[bytes]:
    return [user.name for user in ctx.server.acl]


@command(
    "ACL LIST",
    since="6.0.0",
    group="server",
    flags=_ADMIN,
    summary="Lists all users with their rules.",
    complexity="O(N), N the number of users",
)
def acl_list(ctx: Context) -> list[bytes]:
    return ctx.server.acl.lines()


@command(
    "ACL GETUSER",
    since="6.0.0",
    group="server",
    flags=_ADMIN,
    summary="Tells a user's rules.",
    complexity="O(N), N the number of rules",
    args=(Bytes("username"),),
)
def acl_getuser(ctx: Context, username: bytes) -> Map | None:
    user = ctx.server.acl.get(username)
    if user is None:
        return None
    root, *others = user.selectors
    return Map(
        [
            (b"flags", SetReply(user.flags())),
            (b"passwords", list(user.passwords)),
            *_rules(root),
            (b"selectors", [Map(_rules(selector)) for selector in others]),
        ]
    )


def _rules(selector: Selector) -> list[tuple[bytes, bytes]]:
    return [
        (b"commands", selector.describe_commands()),
        (b"keys", selector.describe_keys()),
        (b"channels", selector.describe_channels()),
    ]


@command(
    "ACL CAT",
    since="6.0.0",
    group="server",
    flags=_ANYONE,
    summary="Lists the categories of commands, or the commands of one.",
    complexity="O(N), N the number of commands",
    args=(Bytes("category", optional=True),),
)
def acl_cat(ctx: Context, category: bytes | None) -> list[bytes]:
    if category is None:
        return [name.encode() for name in CATEGORIES]
    name = category.decode("latin-1").lower()
    if name not in CATEGORIES:
        raise ReplyError(b"ERR Unknown category '%b'" % category[:128])
    return [each.full_name.encode() for each in ctx.server.registry if name in each.categories]


@command(
    "ACL DRYRUN",
    since="7.0.0",
    group="server",
    flags=_ADMIN,
    summary="Tells whether a user may run a command, without running it.",
    complexity="O(1)",
    args=(Bytes("username"), Bytes("command"), Rest("arg")),
)
def acl_dryrun(ctx: Context, username: bytes, command: bytes, arg: list[bytes]) -> Any:
    acl = ctx.server.acl
    user = acl.get(username)
    if user is None:
        raise ReplyError(b"ERR User '%b' not found" % username)
    request: Request = [command, *arg]
    found = ctx.server.registry.resolve(request)
    if found is None:
        raise ReplyError(b"ERR Command '%b' not found" % command)
    if not found.arity_fits(len(request)):
        raise WrongArity(found.full_name)
    denial = acl.judge(user, found, request)
    return OK if denial is None else denial.explanation


@command(
    "ACL GENPASS",
    since="6.0.0",
    group="server",
    flags=_ANYONE,
    summary="Makes up a password.",
    complexity="O(1)",
    args=(Int("bits", optional=True),),
)
def acl_genpass(ctx: Context, bits: int | None) -> bytes:
    if bits is None:
        return genpass()
    if not 0 < bits <= GENPASS_BITS:
        raise BAD_GENPASS
    return genpass(bits)


@command(
    "ACL LOG",
    since="6.0.0",
    group="server",
    flags=_ADMIN,
    summary="Lists what was denied lately, or forgets it.",
    complexity="O(N), N the number of entries",
    args=(Bytes("count", optional=True),),
)
def acl_log(ctx: Context, count: bytes | None) -> Any:
    entries = ctx.server.acl.log.entries
    if count is not None and count.lower() == b"reset":
        entries.clear()
        return OK
    shown = 10 if count is None else max(parse_int(count), 0)
    return [_log_entry(entry, ctx.now) for entry in list(entries)[:shown]]


def _log_entry(entry: LogEntry, now: int) -> Map:
    return Map(
        [
            (b"count", entry.count),
            (b"reason", entry.reason.encode()),
            (b"context", entry.context.encode()),
            (b"object", entry.object),
            (b"username", entry.user),
            (b"age-seconds", (now - entry.updated) / 1000),
            (b"client-info", entry.client),
            (b"entry-id", entry.id),
            (b"timestamp-created", entry.created),
            (b"timestamp-last-updated", entry.updated),
        ]
    )


# --------------------------------------------------------------------------
# Changing


@command(
    "ACL SETUSER",
    since="6.0.0",
    group="server",
    flags=_ADMIN,
    summary="Creates a user or changes its rules.",
    complexity="O(N), N the number of rules",
    args=(Bytes("username"), Rest("rule")),
    tips=("request_policy:all_nodes", "response_policy:all_succeeded"),
)
def acl_setuser(ctx: Context, username: bytes, rule: list[bytes]) -> Any:
    user, before = ctx.server.acl.set_user(username, rule)
    _follow(ctx, [(user, before)])
    return OK


@command(
    "ACL DELUSER",
    since="6.0.0",
    group="server",
    flags=_ADMIN,
    summary="Deletes users and closes their connections.",
    complexity="O(N), N the number of connections",
    args=(Bytes("username", multiple=True),),
    tips=("request_policy:all_nodes", "response_policy:all_succeeded"),
)
def acl_deluser(ctx: Context, username: list[bytes]) -> int:
    gone = ctx.server.acl.delete_users(username)
    _close(ctx, lambda other: other.user in gone)
    ctx.server.acl.changed()
    return len(gone)


@command(
    "ACL LOAD",
    since="6.0.0",
    group="server",
    flags=_ADMIN,
    summary="Replaces all users by those of the aclfile.",
    complexity="O(N), N the number of users",
)
def acl_load(ctx: Context) -> Any:
    acl = ctx.server.acl
    if acl.file is None:
        raise NO_ACLFILE
    gone, stayed = acl.load(acl.file)
    _close(ctx, lambda other: other.user in gone)
    _follow(ctx, stayed)
    return OK


@command(
    "ACL SAVE",
    since="6.0.0",
    group="server",
    flags=_ADMIN,
    summary="Writes all users to the aclfile.",
    complexity="O(N), N the number of users",
    tips=("request_policy:all_nodes", "response_policy:all_succeeded"),
)
def acl_save(ctx: Context) -> Any:
    acl = ctx.server.acl
    if acl.file is None:
        raise NO_ACLFILE
    try:
        acl.save(acl.file)
    except OSError as error:
        log.warning("can't write the aclfile %s: %s", acl.file, error.strerror)
        raise NOT_SAVED from None
    return OK


def _follow(ctx: Context, changes: Iterable[tuple[User, User]]) -> None:
    """Users have changed: connections that listen to what is forbidden now have to go."""
    for user, before in changes:
        taken = user.channels_taken_from(before)

        def is_taken(
            other: Context,
            user: User = user,
            taken: Callable[[Iterable[tuple[bytes, bool]]], bool] = taken,
        ) -> bool:
            return other.user is user and taken(
                [
                    *((name, False) for name in other.channels),
                    *((name, False) for name in other.shard_channels),
                    *((name, True) for name in other.patterns),
                ]
            )

        _close(ctx, is_taken)
    ctx.server.acl.changed()
    for other in ctx.server.contexts.values():
        other.refresh()


def _close(ctx: Context, condemned: Callable[[Context], bool]) -> None:
    """Close the connections that *condemned* names; the one that asks, after its reply."""
    for other in list(ctx.server.contexts.values()):
        if condemned(other):
            other.authenticated = False
            other.refresh()
            if other is ctx:
                other.connection.closing_after_replies()
            else:
                other.connection.abort()


_HELP = [
    "ACL <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CAT [<category>]",
    "    List all commands that belong to <category>, or all command categories",
    "    when no category is specified.",
    "DELUSER <username> [<username> ...]",
    "    Delete a list of users.",
    "DRYRUN <username> <command> [<arg> ...]",
    "    Returns whether the user can execute the given command without executing the command.",
    "GETUSER <username>",
    "    Get the user's details.",
    "GENPASS [<bits>]",
    "    Generate a secure 256-bit user password. The optional `bits` argument can",
    "    be used to specify a different size.",
    "LIST",
    "    Show users details in config file format.",
    "LOAD",
    "    Reload users from the ACL file.",
    "LOG [<count> | RESET]",
    "    Show the ACL log entries.",
    "SAVE",
    "    Save the current config to the ACL file.",
    "SETUSER <username> <attribute> [<attribute> ...]",
    "    Create or modify a user with the specified attributes.",
    "USERS",
    "    List all the registered usernames.",
    "WHOAMI",
    "    Return the current connection username.",
    "HELP",
    "    Print this help.",
]


@command(
    "ACL HELP",
    since="6.0.0",
    group="server",
    flags=LOADING | STALE,
    summary="Tells the subcommands.",
    complexity="O(1)",
)
def acl_help(ctx: Context) -> list[Simple]:
    return [Simple(line.encode()) for line in _HELP]
