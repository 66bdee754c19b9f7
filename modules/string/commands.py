"""SET, GET and their kin: whole values, parts of values, several keys at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from norikv_resp.command import (
    DENYOOM,
    FAST,
    READONLY,
    WRITE,
    Arg,
    Block,
    Bytes,
    Counted,
    ExpireTime,
    Idem,
    Int,
    Key,
    OneOf,
    Request,
    Token,
    Version,
    command,
    deadline,
    expiry_option,
    parse_version,
)
from norikv_resp.encoding import STRING, Record
from norikv_resp.errors import WrongArity, WrongType
from norikv_resp.protocol import OK, Map

from . import lcs, model
from .errors import (
    BAD_CONDITION,
    BAD_NUMKEYS,
    CONDITION_NEEDS_STRING,
    LCS_LEN_AND_IDX,
    LCS_NEEDS_STRINGS,
    LCS_TOO_LARGE,
    OFFSET_OUT_OF_RANGE,
    UNPAIRED,
)

if TYPE_CHECKING:
    from norikv_resp.context import Context
    from norikv_resp.database import Database

Option = tuple[bytes, Any]

_READ = Key()
_UPDATE = Key(access="RW", does=("access", "update"))
_OVERWRITE = Key(access="OW", does=("update",))
_CREATE = Key(access="OW", does=("insert",))

_VALUE = Bytes("value")
_WHEN = OneOf("when", Token("NX"), Token("XX"))
_MATCH = OneOf(
    "match",
    Bytes("ifeq-value", token="IFEQ"),
    Bytes("ifne-value", token="IFNE"),
    Bytes("ifdeq-digest", token="IFDEQ"),
    Bytes("ifdne-digest", token="IFDNE"),
)
_VERSION = Version(token="VER", optional=True)

#: Redis takes IFEQ and its like before NX and XX, but not after them.
_BLOCKS = tuple(
    (when, match) for when in ("NX", "XX") for match in ("IFEQ", "IFNE", "IFDEQ", "IFDNE")
)
_NOT_WITH_VER = tuple(("VER", other) for other in ("NX", "XX", "IFEQ", "IFNE", "IFDEQ", "IFDNE"))


# --------------------------------------------------------------------------
# Setting


#: Options by which SET tells something about the value that it replaces.
_TELLING = frozenset((b"GET", b"VER", b"IFEQ", b"IFNE", b"IFDEQ", b"IFDNE"))


def _set_keys(request: Request) -> list[tuple[int, tuple[str, ...]]]:
    """The key, read only where an option compares or returns the old value."""
    if _TELLING.isdisjoint(word.upper() for word in request[3:]):
        return [(1, ("OW", "update"))]
    return [(1, ("RW", "access", "update"))]


@command(
    "SET",
    since="1.0.0",
    group="string",
    flags=WRITE | DENYOOM,
    summary="Sets a key to a string, whatever it held, if the given conditions are met.",
    complexity="O(1)",
    args=(
        Key(access="RW", does=("access", "update", "variable_flags")),
        _VALUE,
        _WHEN,
        _MATCH,
        _VERSION,
        Token("GET"),
        Token("WITHVER"),
        expiry_option(),
        Idem(),
    ),
    blocks=_BLOCKS,
    exclusive=(*_NOT_WITH_VER, ("GET", "WITHVER")),
    dynamic_keys=_set_keys,
)
def set_(
    ctx: Context,
    key: bytes,
    value: bytes,
    when: Option | None,
    match: Option | None,
    version: tuple[int, int] | None,
    get: bool,
    withver: bool,
    expiry: Option | None,
) -> Any:
    keys = ctx.keys
    expire_at = _expire_at(ctx, expiry, "set")
    old = keys.get(key)
    if (get or match) and old is not None and old.type != STRING:
        raise WrongType
    previous = None
    if get:
        found = model.find(keys, key)
        previous = None if found is None else keys.string_value(found)
    if not _allowed(keys, old, when, match, version):
        return previous
    _store(keys, key, value, old, expiry, expire_at)
    if get:
        return previous
    return model.staged_version(keys) if withver else OK


@command(
    "SETVER",
    group="string",
    flags=WRITE | DENYOOM,
    summary="Sets a key to a string as SET does and returns the key's new version.",
    complexity="O(1)",
    args=(
        Key(access="RW", does=("access", "update", "variable_flags")),
        _VALUE,
        _WHEN,
        _MATCH,
        _VERSION,
        Token("WITHVER"),
        expiry_option(),
        Idem(),
    ),
    blocks=_BLOCKS,
    exclusive=_NOT_WITH_VER,
    dynamic_keys=_set_keys,
)
def setver(
    ctx: Context,
    key: bytes,
    value: bytes,
    when: Option | None,
    match: Option | None,
    version: tuple[int, int] | None,
    withver: bool,
    expiry: Option | None,
) -> Any:
    return set_(ctx, key, value, when, match, version, False, True, expiry)


def _expire_at(ctx: Context, expiry: Option | None, name: str) -> int:
    """The deadline that an expiry option gives, 0 for none and for KEEPTTL and PERSIST."""
    if expiry is None or expiry[1] is True:
        return 0
    return deadline(expiry, ctx.now, name)


def _allowed(
    keys: Database,
    old: Record | None,
    when: Option | None,
    match: Option | None,
    version: tuple[int, int] | None,
) -> bool:
    """Whether the conditions of a SET hold for what the key holds now."""
    if version is not None:
        return version == (keys.version(old) if old is not None else model.ABSENT)
    if match is not None:
        if old is None:
            if match[0] in (b"IFEQ", b"IFDEQ"):
                return False
        elif not model.matches(keys, old, *match):
            return False
    return when is None or (when[0] == b"NX") == (old is None)


def _store(
    keys: Database,
    key: bytes,
    value: bytes,
    old: Record | None,
    expiry: Option | None,
    expire_at: int,
) -> None:
    """Write a value whose conditions are met, under the deadline that *expiry* asks for."""
    if expiry is not None and expiry[0] == b"KEEPTTL":
        kept = old.expire_at if old is not None else 0
        model.write(keys, key, value, kept, announce=False)
    else:
        model.write(keys, key, value, expire_at, announce=True)


@command(
    "SETNX",
    since="1.0.0",
    group="string",
    flags=WRITE | DENYOOM | FAST,
    summary="Sets a key to a string if the key does not exist.",
    complexity="O(1)",
    args=(_CREATE, _VALUE),
)
def setnx(ctx: Context, key: bytes, value: bytes) -> int:
    if ctx.keys.get(key) is not None:
        return 0
    model.write(ctx.keys, key, value, 0, announce=False)
    return 1


@command(
    "SETEX",
    since="2.0.0",
    group="string",
    flags=WRITE | DENYOOM,
    summary="Sets a key to a string that expires after a number of seconds.",
    complexity="O(1)",
    args=(_OVERWRITE, ExpireTime("seconds"), _VALUE),
)
def setex(ctx: Context, key: bytes, seconds: bytes, value: bytes) -> Any:
    expire_at = deadline((b"EX", seconds), ctx.now, "setex")
    model.write(ctx.keys, key, value, expire_at, announce=True)
    return OK


@command(
    "PSETEX",
    since="2.6.0",
    group="string",
    flags=WRITE | DENYOOM,
    summary="Sets a key to a string that expires after a number of milliseconds.",
    complexity="O(1)",
    args=(_OVERWRITE, ExpireTime("milliseconds"), _VALUE),
)
def psetex(ctx: Context, key: bytes, milliseconds: bytes, value: bytes) -> Any:
    expire_at = deadline((b"PX", milliseconds), ctx.now, "psetex")
    model.write(ctx.keys, key, value, expire_at, announce=True)
    return OK


@command(
    "GETSET",
    since="1.0.0",
    group="string",
    flags=WRITE | DENYOOM | FAST,
    summary="Sets a key to a string and returns what it held before.",
    complexity="O(1)",
    args=(_UPDATE, _VALUE),
)
def getset(ctx: Context, key: bytes, value: bytes) -> bytes | None:
    record = model.read(ctx.keys, key)
    previous = ctx.keys.string_value(record) if record is not None else None
    model.write(ctx.keys, key, value, 0, announce=False)
    return previous


# --------------------------------------------------------------------------
# Getting


@command(
    "GET",
    since="1.0.0",
    group="string",
    flags=READONLY | FAST,
    summary="Returns the string that a key holds.",
    complexity="O(1)",
    args=(_READ,),
)
def get(ctx: Context, key: bytes) -> bytes | None:
    record = model.read(ctx.keys, key)
    return ctx.keys.string_value(record) if record is not None else None


@command(
    "GETEX",
    since="6.2.0",
    group="string",
    flags=WRITE | FAST,
    summary="Returns the string that a key holds and changes when the key expires.",
    complexity="O(1)",
    args=(_UPDATE, expiry_option(keepttl=False, persist=True, ttl=False)),
)
def getex(ctx: Context, key: bytes, expiry: Option | None) -> bytes | None:
    keys = ctx.keys
    record = model.read(keys, key)
    if record is None:
        return None
    expire_at = _expire_at(ctx, expiry, "getex")
    value = keys.string_value(record)
    if expire_at:
        if expire_at <= ctx.now:
            model.remove(keys, key)
        else:
            keys.set_deadline(key, record, expire_at)
            keys.notify("g", b"expire", key)
    elif expiry is not None and record.expire_at:
        keys.set_deadline(key, record, 0)
        keys.notify("g", b"persist", key)
    return value


@command(
    "GETDEL",
    since="6.2.0",
    group="string",
    flags=WRITE | FAST,
    summary="Returns the string that a key holds and deletes the key.",
    complexity="O(1)",
    args=(Key(access="RW", does=("access", "delete")),),
)
def getdel(ctx: Context, key: bytes) -> bytes | None:
    record = model.read(ctx.keys, key)
    if record is None:
        return None
    value = ctx.keys.string_value(record)
    model.remove(ctx.keys, key)
    return value


@command(
    "STRLEN",
    since="2.2.0",
    group="string",
    flags=READONLY | FAST,
    summary="Returns the length of a string in bytes.",
    complexity="O(1)",
    args=(Key(does=()),),
)
def strlen(ctx: Context, key: bytes) -> int:
    record = model.read(ctx.keys, key)
    return ctx.keys.string_length(record) if record is not None else 0


@command(
    "DIGEST",
    since="8.4.0",
    group="string",
    flags=READONLY | FAST,
    summary="Returns the XXH3 hash of a string as 16 hexadecimal digits.",
    complexity="O(N), N the length of the string",
    args=(_READ,),
)
def digest(ctx: Context, key: bytes) -> bytes | None:
    record = model.read(ctx.keys, key)
    return model.digest(ctx.keys.string_value(record)) if record is not None else None


# --------------------------------------------------------------------------
# Parts of strings


@command(
    "GETRANGE",
    since="2.4.0",
    group="string",
    flags=READONLY,
    summary="Returns a part of a string.",
    complexity="O(N), N the length of the part",
    args=(_READ, Int("start"), Int("end")),
)
@command(
    "SUBSTR",
    since="1.0.0",
    group="string",
    flags=READONLY,
    summary="Returns a part of a string; the old name of GETRANGE.",
    complexity="O(N), N the length of the part",
    args=(_READ, Int("start"), Int("end")),
)
def getrange(ctx: Context, key: bytes, start: int, end: int) -> bytes:
    keys = ctx.keys
    record = model.read(keys, key)
    if record is None:
        return b""
    first, stop = model.clamp_range(start, end, keys.string_length(record))
    return keys.string_slice(record, first, stop) if first < stop else b""


@command(
    "SETRANGE",
    since="2.2.0",
    group="string",
    flags=WRITE | DENYOOM,
    summary="Overwrites a part of a string from an offset, padding with zeros up to there.",
    complexity="O(N), N the bytes written, padding included",
    args=(Key(access="RW", does=("update",)), Int("offset"), _VALUE),
)
def setrange(ctx: Context, key: bytes, offset: int, value: bytes) -> int:
    keys = ctx.keys
    if offset < 0:
        raise OFFSET_OUT_OF_RANGE
    record = keys.get_typed(key, STRING)
    if not value:
        return keys.string_length(record) if record is not None else 0
    model.check_length(offset + len(value), ctx.config.proto_max_bulk_len)
    if record is None:
        keys.remember_raw(key)
        keys.put(key, value.rjust(offset + len(value), b"\0"))
        length = offset + len(value)
        keys.remember_raw(key)
    else:
        length = keys.splice(key, record, offset, value)
    keys.notify("$", b"setrange", key)
    return length


@command(
    "APPEND",
    since="2.0.0",
    group="string",
    flags=WRITE | DENYOOM | FAST,
    summary="Adds bytes to the end of a string, creating the key if needed.",
    complexity="O(N), N the bytes added and up to 64 KB that they join",
    args=(Key(access="RW", does=("insert",)), _VALUE),
)
def append(ctx: Context, key: bytes, value: bytes) -> int:
    keys = ctx.keys
    record = keys.get_typed(key, STRING)
    if record is None:
        keys.put(key, value)
        length = len(value)
    elif value:
        length = keys.string_length(record)
        model.check_length(length + len(value), ctx.config.proto_max_bulk_len)
        length = keys.splice(key, record, length, value)
    else:
        # Redis counts this as a change, so the version moves.
        keys.remember_raw(key)
        keys.put_record(key, STRING, record.value, record.expire_at)
        length = keys.string_length(record)
    keys.notify("$", b"append", key)
    return length


# --------------------------------------------------------------------------
# Several keys


@command(
    "MGET",
    since="1.0.0",
    group="string",
    flags=READONLY | FAST,
    summary="Returns the strings that several keys hold.",
    complexity="O(N), N the number of keys",
    tips=("request_policy:multi_shard",),
    args=(Key(multiple=True),),
)
def mget(ctx: Context, key: list[bytes]) -> list[bytes | None]:
    keys = ctx.keys
    found: list[bytes | None] = []
    for one in key:
        record = model.find(keys, one)
        is_string = record is not None and record.type == STRING
        found.append(keys.string_value(record) if record is not None and is_string else None)
    return found


_PAIRS_TIPS = ("request_policy:multi_shard", "response_policy:all_succeeded")


@command(
    "MSET",
    since="1.0.1",
    group="string",
    flags=WRITE | DENYOOM,
    summary="Sets several keys to strings in one step.",
    complexity="O(N), N the number of keys",
    tips=_PAIRS_TIPS,
    args=(Block("data", _OVERWRITE, _VALUE),),
)
def mset(ctx: Context, data: list[tuple[bytes, bytes]]) -> Any:
    for key, value in data:
        model.write(ctx.keys, key, value, 0, announce=False)
    return OK


@command(
    "MSETNX",
    since="1.0.1",
    group="string",
    flags=WRITE | DENYOOM,
    summary="Sets several keys to strings in one step if none of the keys exists.",
    complexity="O(N), N the number of keys",
    args=(Block("data", _CREATE, _VALUE),),
)
def msetnx(ctx: Context, data: list[tuple[bytes, bytes]]) -> int:
    if any(ctx.keys.get(key) is not None for key, _ in data):
        return 0
    mset(ctx, data)
    return 1


@command(
    "MSETEX",
    since="8.4.0",
    group="string",
    flags=WRITE | DENYOOM,
    summary="Sets several keys to strings with one condition and one expiry.",
    complexity="O(N), N the number of keys",
    tips=_PAIRS_TIPS,
    args=(
        Counted(
            "data",
            of=Block("pair", _OVERWRITE, _VALUE),
            bad_count=BAD_NUMKEYS,
            short=UNPAIRED,
        ),
        _WHEN,
        expiry_option(ttl=False),
    ),
)
def msetex(
    ctx: Context, data: list[tuple[bytes, bytes]], when: Option | None, expiry: Option | None
) -> int:
    keys = ctx.keys
    expire_at = _expire_at(ctx, expiry, "msetex")
    olds = [keys.get(key) for key, _ in data]
    if when is not None and any((old is None) != (when[0] == b"NX") for old in olds):
        return 0
    for (key, value), old in zip(data, olds, strict=True):
        _store(keys, key, value, old, expiry, expire_at)
    return 1


# --------------------------------------------------------------------------
# Comparing


_DELEX_ARGS: tuple[Arg, ...] = (
    Key(access="RW", does=("delete", "variable_flags")),
    OneOf("condition", Version(token="VER"), *_MATCH.choices),
    Idem(),
)


def _parse_delex(request: Request) -> list[Any]:
    """A key alone, or with two words that are judged only once the key is known to exist."""
    if len(request) == 2:
        return [request[1], None]
    if len(request) != 4:
        raise WrongArity("delex")
    condition = request[2].upper()
    if condition == b"VER":
        return [request[1], (condition, parse_version(request[3]))]
    return [request[1], (condition, request[3])]


def _delex_keys(request: Request) -> list[tuple[int, tuple[str, ...]]]:
    """The key, read only where there is a condition."""
    return [(1, ("RM" if len(request) == 2 else "RW", "delete"))]


@command(
    "DELEX",
    since="8.4.0",
    group="string",
    flags=WRITE | FAST,
    summary="Deletes a key if its version, its value or the digest of its value is as expected.",
    complexity="O(1), O(N) for the digest of N bytes",
    args=_DELEX_ARGS,
    parse=_parse_delex,
    dynamic_keys=_delex_keys,
)
def delex(ctx: Context, key: bytes, condition: Option | None) -> int:
    keys = ctx.keys
    record = keys.get(key)
    if record is None:
        return 0
    if condition is not None:
        word, operand = condition
        if word == b"VER":
            if keys.version(record) != operand:
                return 0
        elif record.type != STRING:
            raise CONDITION_NEEDS_STRING
        elif word not in (b"IFEQ", b"IFNE", b"IFDEQ", b"IFDNE"):
            raise BAD_CONDITION
        elif not model.matches(keys, record, word, operand):
            return 0
    model.remove(keys, key)
    return 1


@command(
    "LCS",
    since="7.0.0",
    group="string",
    flags=READONLY,
    summary="Finds the longest common subsequence of two strings.",
    complexity="O(N*M), N and M the lengths of the strings",
    args=(
        Key("key1"),
        Key("key2"),
        Token("LEN", "length-only"),
        Token("IDX"),
        Int("min-match-len", token="MINMATCHLEN", optional=True),
        Token("WITHMATCHLEN"),
    ),
)
def lcs_(
    ctx: Context,
    key1: bytes,
    key2: bytes,
    length_only: bool,
    idx: bool,
    min_match_len: int | None,
    withmatchlen: bool,
) -> Any:
    one, other = _lcs_operand(ctx, key1), _lcs_operand(ctx, key2)
    if length_only and idx:
        raise LCS_LEN_AND_IDX
    if lcs.table_bytes(one, other) > ctx.config.proto_max_bulk_len:
        raise LCS_TOO_LARGE
    if length_only:
        return lcs.length(one, other)
    if not idx:
        return lcs.subsequence(one, other)
    shortest = max(min_match_len or 0, 0)
    total = 0
    shown = []
    for match in lcs.matches(one, other):
        total += match.length
        if match.length >= shortest:
            entry: list[Any] = [[match.a_start, match.a_end], [match.b_start, match.b_end]]
            shown.append([*entry, match.length] if withmatchlen else entry)
    return Map([(b"matches", shown), (b"len", total)])


def _lcs_operand(ctx: Context, key: bytes) -> bytes:
    record = model.find(ctx.keys, key)
    if record is None:
        return b""
    if record.type != STRING:
        raise LCS_NEEDS_STRINGS
    return ctx.keys.string_value(record)
