"""OBJECT: what tools ask about the inside of a value, answered as Redis would."""

from __future__ import annotations

from norikv_resp.command import LOADING, READONLY, STALE, Key, command, container, parse_int
from norikv_resp.context import Context
from norikv_resp.database import Database
from norikv_resp.encoding import STRING, TYPE_NAMES, VECTORSET, Record
from norikv_resp.errors import ReplyError
from norikv_resp.protocol import Simple

NO_FREQUENCY = ReplyError(
    b"ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that "
    b"when switching between policies at runtime LRU and LFU data will take some time to adjust."
)

#: Redis keeps a string beside its key while both and their headers fit into this many bytes.
_EMBEDDED_TOTAL, _EMBEDDED_HEADERS, _EMBEDDED_DEADLINE = 64, 23, 8

_HELP = (
    b"OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    b"ENCODING <key>",
    b"    Return the kind of internal representation used in order to store the value",
    b"    associated with a <key>.",
    b"FREQ <key>",
    b"    Return the access frequency index of the <key>. The returned integer is",
    b"    proportional to the logarithm of the real access frequency.",
    b"IDLETIME <key>",
    b"    Return the idle time of the <key>, that is the approximated number of",
    b"    seconds elapsed since the last access to the key.",
    b"REFCOUNT <key>",
    b"    Return the number of references of the value associated with the specified",
    b"    <key>.",
    b"HELP",
    b"    Print this help.",
)

_NONDETERMINISTIC = ("nondeterministic_output",)

OBJECT = container(
    "OBJECT",
    since="2.2.3",
    group="generic",
    acl=("none",),
    summary="Tells about the inside of a value.",
    complexity="O(1)",
)


@command(
    "OBJECT ENCODING",
    since="2.2.3",
    group="generic",
    flags=READONLY,
    summary="Tells how Redis would hold the value.",
    complexity="O(1)",
    args=(Key(does=()),),
    tips=_NONDETERMINISTIC,
)
def object_encoding(ctx: Context, key: bytes) -> bytes | None:
    record = ctx.keys.lookup(key)
    return None if record is None else encoding_name(ctx.keys, key, record)


def encoding_name(keys: Database, key: bytes, record: Record) -> bytes:
    """The name that OBJECT ENCODING gives for a key in Redis."""
    value = record.value
    if record.type == VECTORSET:
        return b"raw"  # as Redis says of what its modules hold
    if record.type != STRING:
        return TYPE_NAMES[record.type]
    if not isinstance(value, bytes) or keys.built_in_place(key, record):
        return b"raw"
    if len(value) <= 20 and _is_integer(value):
        return b"int"
    size = len(key) + len(value) + _EMBEDDED_HEADERS
    if record.expire_at:
        size += _EMBEDDED_DEADLINE
    return b"embstr" if size <= _EMBEDDED_TOTAL else b"raw"


def _is_integer(value: bytes) -> bool:
    try:
        parse_int(value)
    except ReplyError:
        return False
    return True


@command(
    "OBJECT FREQ",
    since="4.0.0",
    group="generic",
    flags=READONLY,
    summary="An error: how often keys are read is not kept.",
    complexity="O(1)",
    args=(Key(does=()),),
    tips=_NONDETERMINISTIC,
)
def object_freq(ctx: Context, key: bytes) -> None:
    if ctx.keys.get(key) is not None:
        raise NO_FREQUENCY


@command(
    "OBJECT IDLETIME",
    since="2.2.3",
    group="generic",
    flags=READONLY,
    summary="0 for a key that exists: when keys were read is not kept.",
    complexity="O(1)",
    args=(Key(does=()),),
    tips=_NONDETERMINISTIC,
)
def object_idletime(ctx: Context, key: bytes) -> int | None:
    return None if ctx.keys.get(key) is None else 0


@command(
    "OBJECT REFCOUNT",
    since="2.2.3",
    group="generic",
    flags=READONLY,
    summary="1 for a key that exists.",
    complexity="O(1)",
    args=(Key(does=()),),
    tips=_NONDETERMINISTIC,
)
def object_refcount(ctx: Context, key: bytes) -> int | None:
    return None if ctx.keys.get(key) is None else 1


@command(
    "OBJECT HELP",
    since="6.2.0",
    group="generic",
    flags=LOADING | STALE,
    summary="Lists the subcommands.",
    complexity="O(1)",
)
def object_help(ctx: Context) -> list[Simple]:
    return [Simple(line) for line in _HELP]
