"""Commands of Redis that this server does not have, or has nothing to show for.

They are declared so that clients and tools that probe for them get Redis's answers for a server
without scripts, replicas or a cluster, and people a sentence about what to use instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from norikv_resp import __version__
from norikv_resp.command import (
    ADMIN,
    DENYOOM,
    FAST,
    LOADING,
    NOSCRIPT,
    READONLY,
    STALE,
    WRITE,
    Arg,
    Bytes,
    Command,
    Flag,
    Int,
    Key,
    KeySpec,
    Pattern,
    Rest,
    Token,
    command,
    container,
)
from norikv_resp.commands.connection import module_list
from norikv_resp.commands.helping import help_of
from norikv_resp.context import Context
from norikv_resp.errors import ReplyError
from norikv_resp.protocol import OK, Map, Verbatim

_TO_ALL_NODES = ("request_policy:all_nodes", "response_policy:all_succeeded")
_TO_ALL_SHARDS = ("request_policy:all_shards", "response_policy:all_succeeded")
_ONE_SHARD = ("request_policy:all_shards", "response_policy:one_succeeded")
_VARIES = ("nondeterministic_output",)

NO_SCRIPTS = ReplyError(
    b"ERR Lua scripts are not supported: use CAS, or CHECK inside MULTI, to decide on what a key"
    b" holds, IDEM for retries, or write a Python module"
)
NO_FUNCTIONS = ReplyError(
    b"ERR functions are not supported: write a Python module (loadmodule), or use CAS, CHECK"
    b" inside MULTI and IDEM"
)
NO_MATCHING_SCRIPT = ReplyError(b"NOSCRIPT No matching script. Please use EVAL.")
NOT_BUSY = ReplyError(b"NOTBUSY No scripts in execution right now.")
NO_FUNCTION = ReplyError(b"ERR Function not found")
NO_LIBRARY = ReplyError(b"ERR Library not found")
NO_CLUSTER = ReplyError(b"ERR This instance has cluster support disabled")
NO_REPLICATION = ReplyError(
    b"ERR replication is not supported: this server stands alone and takes all reads and writes"
)
NO_REPLICAS = ReplyError(b"ERR FAILOVER requires connected replicas.")
NO_MIGRATION = ReplyError(
    b"ERR MIGRATE is not supported: use DUMP here, RESTORE there, and DELEX with VER here"
)
NO_MODULE_CHANGES = ReplyError(
    b"ERR modules are loaded at start only: put a loadmodule line into the configuration and"
    b" restart"
)
NO_HOTKEYS = ReplyError(b"ERR HOTKEYS is not supported: how often keys are used is not kept")
NO_SLOTS = ReplyError(b"ERR TRIMSLOTS is not supported: there are no slots")


def _refusing(error: ReplyError) -> Callable[..., Any]:
    """A handler that takes anything and raises *error*."""

    def refuse(ctx: Context, *arguments: Any) -> Any:
        raise error

    return refuse


def _words(*names: str) -> tuple[Arg, ...]:
    return tuple(Bytes(name) for name in names)


# --------------------------------------------------------------------------
# Scripts

_RUNS = Flag.NO_MANDATORY_KEYS | NOSCRIPT | Flag.SKIP_MONITOR | STALE
_READ_KEYS = (KeySpec(("RO", "access"), 2, counted=True),)
_ANY_KEYS = (KeySpec(("RW", "access", "update"), 2, counted=True),)


def _runner(name: str, since: str, what: str, error: ReplyError) -> Command:
    """EVAL and its kin: ``what numkeys [key ...] [arg ...]``."""
    reads = name.endswith("_RO")
    return Command(
        name,
        _refusing(error),
        since=since,
        group="scripting",
        flags=_RUNS | READONLY if reads else _RUNS,
        summary=f"Not supported: {error.text.decode().partition(' ')[2]}.",
        complexity="O(1)",
        args=(Bytes(what), Bytes("numkeys"), Rest("key-or-arg")),
        extra_key_specs=_READ_KEYS if reads else _ANY_KEYS,
        acl=("scripting",),
    )


RUNNERS = (
    _runner("EVAL", "2.6.0", "script", NO_SCRIPTS),
    _runner("EVAL_RO", "7.0.0", "script", NO_SCRIPTS),
    _runner("EVALSHA", "2.6.0", "sha1", NO_MATCHING_SCRIPT),
    _runner("EVALSHA_RO", "7.0.0", "sha1", NO_MATCHING_SCRIPT),
    _runner("FCALL", "7.0.0", "function", NO_FUNCTION),
    _runner("FCALL_RO", "7.0.0", "function", NO_FUNCTION),
)

SCRIPT = container(
    "SCRIPT",
    since="2.6.0",
    group="scripting",
    acl=("none",),
    summary="There are no scripts.",
    complexity="O(1)",
)
SCRIPT_HELP = help_of(SCRIPT, since="5.0.0")


def _script(name: str, since: str, error: ReplyError, **more: Any) -> Command:
    return Command(
        f"SCRIPT {name}",
        _refusing(error),
        since=since,
        group="scripting",
        summary=f"An error: {error.text.decode().partition(' ')[2]}",
        complexity="O(1)",
        **more,
    )


SCRIPTS = (
    _script(
        "LOAD",
        "2.6.0",
        NO_SCRIPTS,
        flags=NOSCRIPT | STALE,
        args=_words("script"),
        tips=_TO_ALL_NODES,
    ),
    _script("DEBUG", "3.2.0", NO_SCRIPTS, flags=NOSCRIPT, args=_words("mode")),
    _script("KILL", "2.6.0", NOT_BUSY, flags=NOSCRIPT | Flag.ALLOW_BUSY, tips=_ONE_SHARD),
)


@command(
    "SCRIPT EXISTS",
    since="2.6.0",
    group="scripting",
    flags=NOSCRIPT,
    summary="0 for each script: there are none.",
    complexity="O(N), N the number of scripts asked for",
    args=(Bytes("sha1", multiple=True),),
    tips=("request_policy:all_shards", "response_policy:agg_logical_and"),
)
def script_exists(ctx: Context, sha1: list[bytes]) -> list[int]:
    return [0] * len(sha1)


def _check_flush(container_name: str, words: list[bytes]) -> None:
    if len(words) > 1 or (words and words[0].upper() not in (b"SYNC", b"ASYNC")):
        raise ReplyError(f"ERR {container_name} FLUSH only support SYNC|ASYNC option")


@command(
    "SCRIPT FLUSH",
    since="2.6.0",
    group="scripting",
    flags=NOSCRIPT,
    summary="Does nothing: there are no scripts.",
    complexity="O(1)",
    args=(Rest("flush-type", display="ASYNC | SYNC"),),
    tips=_TO_ALL_NODES,
)
def script_flush(ctx: Context, flush_type: list[bytes]) -> Any:
    _check_flush("SCRIPT", flush_type)
    return OK


# --------------------------------------------------------------------------
# Functions

FUNCTION = container(
    "FUNCTION",
    since="7.0.0",
    group="scripting",
    acl=("none",),
    summary="There are no functions.",
    complexity="O(1)",
)
FUNCTION_HELP = help_of(FUNCTION, since="7.0.0")

_CHANGES = WRITE | NOSCRIPT | Flag.KEYLESS


def _function(name: str, error: ReplyError, **more: Any) -> Command:
    return Command(
        f"FUNCTION {name}",
        _refusing(error),
        since="7.0.0",
        group="scripting",
        summary=f"An error: {error.text.decode().partition(' ')[2]}",
        complexity="O(1)",
        **more,
    )


FUNCTIONS = (
    _function(
        "LOAD",
        NO_FUNCTIONS,
        flags=_CHANGES | DENYOOM,
        tips=_TO_ALL_SHARDS,
        args=(Bytes("function-code"), Rest("more")),
    ),
    _function(
        "RESTORE",
        NO_FUNCTIONS,
        flags=_CHANGES | DENYOOM,
        tips=_TO_ALL_SHARDS,
        args=(Bytes("serialized-value"), Rest("policy")),
    ),
    _function("DUMP", NO_FUNCTIONS, flags=NOSCRIPT),
    _function(
        "DELETE", NO_LIBRARY, flags=_CHANGES, tips=_TO_ALL_SHARDS, args=_words("library-name")
    ),
    _function("KILL", NOT_BUSY, flags=NOSCRIPT | Flag.ALLOW_BUSY, tips=_ONE_SHARD),
)


@command(
    "FUNCTION FLUSH",
    since="7.0.0",
    group="scripting",
    flags=_CHANGES,
    summary="Does nothing: there are no functions.",
    complexity="O(1)",
    args=(Rest("flush-type", display="ASYNC | SYNC"),),
    tips=_TO_ALL_SHARDS,
)
def function_flush(ctx: Context, flush_type: list[bytes]) -> Any:
    _check_flush("FUNCTION", flush_type)
    return OK


@command(
    "FUNCTION LIST",
    since="7.0.0",
    group="scripting",
    flags=NOSCRIPT,
    summary="An empty list: there are no functions.",
    complexity="O(1)",
    args=(Pattern("library-name-pattern", token="LIBRARYNAME", optional=True), Token("WITHCODE")),
    tips=("nondeterministic_output_order",),
)
def function_list(ctx: Context, library_name_pattern: bytes | None, withcode: bool) -> list[Any]:
    return []


@command(
    "FUNCTION STATS",
    since="7.0.0",
    group="scripting",
    flags=NOSCRIPT | Flag.ALLOW_BUSY,
    summary="Tells that nothing runs and that there are no engines.",
    complexity="O(1)",
    tips=(*_VARIES, "request_policy:all_shards", "response_policy:special"),
)
def function_stats(ctx: Context) -> Map:
    return Map([(b"running_script", None), (b"engines", Map([]))])


# --------------------------------------------------------------------------
# Modules

MODULE = container(
    "MODULE",
    since="4.0.0",
    group="server",
    summary="The loaded modules.",
    complexity="O(N), N the number of modules",
)
MODULE_HELP = help_of(MODULE, since="5.0.0")

_MODULE_CHANGES = ADMIN | NOSCRIPT | Flag.NO_ASYNC_LOADING


@command(
    "MODULE LIST",
    since="4.0.0",
    group="server",
    flags=ADMIN | NOSCRIPT,
    summary="Lists the loaded modules.",
    complexity="O(N), N the number of modules",
    tips=("nondeterministic_output_order",),
)
def module_list_(ctx: Context) -> list[Map]:
    return module_list(ctx)


def _module(name: str, since: str, *args: Arg) -> Command:
    return Command(
        f"MODULE {name}",
        _refusing(NO_MODULE_CHANGES),
        since=since,
        group="server",
        flags=_MODULE_CHANGES,
        summary="An error: modules are loaded at start, by loadmodule lines.",
        complexity="O(1)",
        args=args,
    )


MODULES = (
    _module("LOAD", "4.0.0", Bytes("path"), Rest("arg")),
    _module("LOADEX", "7.0.0", Bytes("path"), Rest("option")),
    _module("UNLOAD", "4.0.0", Bytes("name")),
)


# --------------------------------------------------------------------------
# Replication


@command(
    "ROLE",
    since="2.8.12",
    group="server",
    flags=NOSCRIPT | LOADING | STALE | FAST,
    summary="Tells that this server is a master without replicas.",
    complexity="O(1)",
    acl=("admin", "dangerous"),
)
def role(ctx: Context) -> list[Any]:
    return [b"master", 0, []]


_REPLICATING = ADMIN | NOSCRIPT | STALE | Flag.NO_ASYNC_LOADING


@command(
    "REPLICAOF",
    since="5.0.0",
    group="server",
    flags=_REPLICATING,
    summary="NO ONE is what this server is already; all else is not supported.",
    complexity="O(1)",
    args=_words("host", "port"),
)
@command(
    "SLAVEOF",
    since="1.0.0",
    group="server",
    flags=_REPLICATING,
    summary="The same as REPLICAOF.",
    complexity="O(1)",
    args=_words("host", "port"),
)
def replicaof(ctx: Context, host: bytes, port: bytes) -> Any:
    if (host.upper(), port.upper()) != (b"NO", b"ONE"):
        raise NO_REPLICATION
    return OK


def _replication(name: str, since: str, flags: Flag, error: ReplyError, *args: Arg) -> Command:
    return Command(
        name,
        _refusing(error),
        since=since,
        group="server",
        flags=flags,
        summary="Not supported: there is no replication.",
        complexity="O(1)",
        args=args,
    )


_SYNCING = ADMIN | NOSCRIPT | Flag.NO_ASYNC_LOADING | Flag.NO_MULTI

REPLICATION = (
    _replication("FAILOVER", "6.2.0", ADMIN | NOSCRIPT | STALE, NO_REPLICAS, Rest("option")),
    _replication("SYNC", "1.0.0", _SYNCING, NO_REPLICATION),
    _replication(
        "PSYNC",
        "2.8.0",
        _SYNCING,
        NO_REPLICATION,
        Bytes("replicationid"),
        Bytes("offset", multiple=True),
    ),
    _replication(
        "REPLCONF",
        "3.0.0",
        ADMIN | NOSCRIPT | LOADING | STALE | Flag.ALLOW_BUSY,
        NO_REPLICATION,
        Rest("option"),
    ),
)


# --------------------------------------------------------------------------
# Cluster

CLUSTER = container(
    "CLUSTER",
    since="3.0.0",
    group="cluster",
    summary="There is no cluster: this server has every key.",
    complexity="O(1)",
)
CLUSTER_HELP = help_of(CLUSTER, since="5.0.0")

_CHANGING = ADMIN | STALE | Flag.NO_ASYNC_LOADING
_LOOKING = LOADING | STALE
_NONDETERMINISTIC = (
    "BUMPEPOCH",
    "COUNT-FAILURE-REPORTS",
    "GETKEYSINSLOT",
    "INFO",
    "LINKS",
    "MYSHARDID",
    "NODES",
    "REPLICAS",
    "SHARDS",
    "SLAVES",
    "SLOT-STATS",
    "SLOTS",
    "SYNCSLOTS",
)

#: Name, since, flags, number of arguments at least, whether more may follow.
_CLUSTER = (
    ("ADDSLOTS", "3.0.0", _CHANGING, 1, True),
    ("ADDSLOTSRANGE", "7.0.0", _CHANGING, 2, True),
    ("BUMPEPOCH", "3.0.0", _CHANGING, 0, False),
    ("COUNT-FAILURE-REPORTS", "3.0.0", ADMIN | _LOOKING, 1, False),
    ("COUNTKEYSINSLOT", "3.0.0", STALE, 1, False),
    ("DELSLOTS", "3.0.0", _CHANGING, 1, True),
    ("DELSLOTSRANGE", "7.0.0", _CHANGING, 2, True),
    ("FAILOVER", "3.0.0", _CHANGING, 0, True),
    ("FLUSHSLOTS", "3.0.0", _CHANGING, 0, False),
    ("FORGET", "3.0.0", _CHANGING, 1, False),
    ("GETKEYSINSLOT", "3.0.0", STALE, 2, False),
    ("INFO", "3.0.0", _LOOKING, 0, False),
    ("KEYSLOT", "3.0.0", _LOOKING, 1, False),
    ("LINKS", "7.0.0", _LOOKING, 0, False),
    ("MEET", "3.0.0", _CHANGING, 2, True),
    ("MIGRATION", "8.4.0", _CHANGING, 2, True),
    ("MYID", "3.0.0", _LOOKING, 0, False),
    ("MYSHARDID", "7.2.0", _LOOKING, 0, False),
    ("NODES", "3.0.0", _LOOKING, 0, False),
    ("REPLICAS", "5.0.0", ADMIN | _LOOKING, 1, False),
    ("REPLICATE", "3.0.0", _CHANGING, 1, False),
    ("RESET", "3.0.0", ADMIN | STALE | NOSCRIPT, 0, True),
    ("SAVECONFIG", "3.0.0", _CHANGING, 0, False),
    ("SET-CONFIG-EPOCH", "3.0.0", _CHANGING, 1, False),
    ("SETSLOT", "3.0.0", _CHANGING, 2, True),
    ("SHARDS", "7.0.0", _LOOKING, 0, False),
    ("SLAVES", "3.0.0", ADMIN | _LOOKING, 1, False),
    ("SLOT-STATS", "8.2.0", _LOOKING, 2, True),
    ("SLOTS", "3.0.0", _LOOKING, 0, False),
    ("SYNCSLOTS", "8.4.0", _CHANGING, 1, True),
)


def _cluster(name: str, since: str, flags: Flag, least: int, more: bool) -> Command:
    args = [Bytes(f"argument-{number}") for number in range(1, least + 1)]
    tips = _VARIES if name in _NONDETERMINISTIC else ()
    if name == "SLOT-STATS":
        tips = (*tips, "request_policy:all_shards")
    return Command(
        f"CLUSTER {name}",
        _refusing(NO_CLUSTER),
        since=since,
        group="cluster",
        flags=flags,
        summary="An error: there is no cluster.",
        complexity="O(1)",
        args=(*args, Rest("more")) if more else tuple(args),
        tips=tips,
    )


CLUSTER_COMMANDS = tuple(
    _cluster(name, since, flags, least, more) for name, since, flags, least, more in _CLUSTER
)


def _cluster_mode(name: str, since: str, flags: Flag) -> Command:
    return Command(
        name,
        _refusing(NO_CLUSTER),
        since=since,
        group="cluster",
        flags=flags,
        summary="An error: there is no cluster.",
        complexity="O(1)",
        acl=("connection",),
    )


CLUSTER_MODES = (
    _cluster_mode("ASKING", "3.0.0", FAST),
    _cluster_mode("READONLY", "3.0.0", FAST | LOADING | STALE),
    _cluster_mode("READWRITE", "3.0.0", FAST | LOADING | STALE),
)

_MOVED = (
    KeySpec(("RW", "access", "delete"), 3),
    KeySpec(("RW", "access", "delete", "incomplete"), -2, -1, keyword="KEYS"),
)

MOVING = (
    Command(
        "MIGRATE",
        _refusing(NO_MIGRATION),
        since="2.6.0",
        group="generic",
        flags=WRITE | Flag.MOVABLEKEYS,
        summary="Not supported: use DUMP, RESTORE and DELEX.",
        complexity="O(1)",
        args=(*_words("host", "port", "key-or-empty", "destination-db", "timeout"), Rest("option")),
        extra_key_specs=_MOVED,
        dynamic_keys=lambda request: _migrated(request),
        acl=("keyspace", "dangerous"),
        tips=_VARIES,
    ),
    Command(
        "RESTORE-ASKING",
        _refusing(NO_CLUSTER),
        since="3.0.0",
        group="server",
        flags=WRITE | DENYOOM | Flag.ASKING,
        summary="An error: there is no cluster. RESTORE is there.",
        complexity="O(1)",
        args=(
            Key(access="OW", does=("update",)),
            Int("ttl"),
            Bytes("serialized-value"),
            Rest("option"),
        ),
        acl=("keyspace", "dangerous"),
    ),
    Command(
        "TRIMSLOTS",
        _refusing(NO_SLOTS),
        since="8.4.0",
        group="server",
        flags=WRITE | Flag.KEYLESS,
        summary="An error: there is no cluster.",
        complexity="O(1)",
        args=(*_words("ranges", "numranges", "startslot", "endslot"), Rest("more")),
        acl=("keyspace", "dangerous"),
    ),
)


def _migrated(request: list[bytes]) -> list[tuple[int, tuple[str, ...]]]:
    """The key in place three, or those after KEYS if that is empty."""
    one, many = _MOVED
    spec = one if request[3] else many
    return [(at, one.flags) for at in spec.positions(request)]


# --------------------------------------------------------------------------
# HOTKEYS, LOLWUT

HOTKEYS = container(
    "HOTKEYS",
    since="8.6.0",
    group="server",
    summary="How often keys are used is not kept.",
    complexity="O(1)",
)
HOTKEYS_HELP = help_of(HOTKEYS, since="8.6.0")

_SPECIAL_REQUEST = ("request_policy:special",)


def _hotkeys(name: str, handler: Callable[..., Any], summary: str, **more: Any) -> Command:
    return Command(
        f"HOTKEYS {name}",
        handler,
        since="8.6.0",
        group="server",
        flags=ADMIN | NOSCRIPT,
        summary=summary,
        complexity="O(1)",
        **more,
    )


HOTKEYS_COMMANDS = (
    _hotkeys(
        "GET",
        lambda ctx: None,
        "nil: nothing was recorded.",
        tips=(*_VARIES, *_SPECIAL_REQUEST, "response_policy:special"),
    ),
    _hotkeys("RESET", lambda ctx: OK, "Does nothing: nothing was recorded.", tips=_SPECIAL_REQUEST),
    _hotkeys(
        "START",
        _refusing(NO_HOTKEYS),
        "An error: how often keys are used is not kept.",
        args=(Rest("option"),),
        tips=_SPECIAL_REQUEST,
    ),
    _hotkeys("STOP", lambda ctx: None, "nil: nothing was recorded.", tips=_SPECIAL_REQUEST),
)

_PICTURE = r"""
        _   __           _ __ __ _    __
       / | / /___  _____(_) //_/| |  / /
      /  |/ / __ \/ ___/ / ,<   | | / /
     / /|  / /_/ / /  / / /| |  | |/ /
    /_/ |_/\____/_/  /_/_/ |_|  |___/
"""


@command(
    "LOLWUT",
    since="5.0.0",
    group="server",
    flags=READONLY | FAST,
    summary="Shows a picture and the version.",
    complexity="O(1)",
    args=(Rest("version", display="VERSION version"),),
    acl=("read",),
)
def lolwut(ctx: Context, version: list[bytes]) -> Verbatim:
    return Verbatim(b"txt", f"{_PICTURE}\nnorikv-resp ver. {__version__}\n".encode())
