"""DUMP and RESTORE: values in Redis's own serialisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from norikv_resp.command import DENYOOM, READONLY, WRITE, Bytes, Int, Key, OneOf, Token, command
from norikv_resp.commands.keys import notify_overwritten
from norikv_resp.context import Context
from norikv_resp.database import Database
from norikv_resp.encoding import STRING, Collection, Record
from norikv_resp.errors import ReplyError
from norikv_resp.protocol import OK
from norikv_resp.rdb import (
    TYPE_MODULE,
    BadPayloadError,
    dump_module,
    dump_string,
    is_sound,
    load_module,
    load_string,
    type_of,
)

BUSY_KEY = ReplyError(b"BUSYKEY Target key name already exists.")
INVALID_TTL = ReplyError(b"ERR Invalid TTL value, must be >= 0")
INVALID_IDLETIME = ReplyError(b"ERR Invalid IDLETIME value, must be >= 0")
INVALID_FREQ = ReplyError(b"ERR Invalid FREQ value, must be >= 0 and <= 255")
UNSOUND = ReplyError(b"ERR DUMP payload version or checksum are wrong")
BAD_FORMAT = ReplyError(b"ERR Bad data format")
NO_DUMP = ReplyError(b"ERR DUMP is not supported for this type yet; read it with its own commands")


@command(
    "DUMP",
    since="2.6.0",
    group="generic",
    flags=READONLY,
    summary="Returns the value at a key as Redis serialises it.",
    complexity="O(N), N the size of the value",
    args=(Key(),),
    tips=("nondeterministic_output",),
)
def dump(ctx: Context, key: bytes) -> bytes | None:
    record = ctx.keys.lookup(key)
    if record is None:
        return None
    if record.type == STRING:
        return dump_string(ctx.keys.string_value(record))
    methods = ctx.server.hooks.value_types.get(record.type)
    if methods is None:
        raise NO_DUMP
    assert isinstance(record.value, Collection)
    return dump_module(methods.module_id, methods.dump(ctx.keys, record.value))


@command(
    "RESTORE",
    since="2.6.0",
    group="generic",
    flags=WRITE | DENYOOM,
    summary="Creates a key from what DUMP returned, here or on a Redis.",
    complexity="O(N), N the size of the value",
    args=(
        Key(access="OW", does=("update",)),
        Bytes("ttl"),
        Bytes("serialized-value"),
        Token("REPLACE"),
        Token("ABSTTL"),
        OneOf("usage", Int("seconds", token="IDLETIME"), Int("frequency", token="FREQ")),
    ),
    acl=("keyspace", "dangerous"),
)
def restore(
    ctx: Context,
    key: bytes,
    ttl: bytes,
    serialized_value: bytes,
    replace: bool,
    absttl: bool,
    usage: tuple[bytes, int] | None,
) -> Any:
    _check_usage(usage)
    keys = ctx.keys
    old = keys.get(key)
    if old is not None and not replace:
        raise BUSY_KEY
    expire_at = _deadline(ttl, absttl, ctx.now)
    if not is_sound(serialized_value):
        raise UNSOUND
    try:
        type_, put = _reader(ctx, key, serialized_value)
    except BadPayloadError:
        raise BAD_FORMAT from None
    if expire_at and expire_at <= ctx.now:
        _forget(keys, key, old)
        return OK
    put(expire_at)
    keys.notify("g", b"restore", key)
    notify_overwritten(keys, key, old, type_)
    return OK


def _reader(ctx: Context, key: bytes, payload: bytes) -> tuple[int, Callable[[int], None]]:
    """The type of a payload's value, and what puts it at *key* with a deadline; BadPayloadError."""
    keys = ctx.keys
    if type_of(payload) != TYPE_MODULE:
        value = load_string(payload)
        return STRING, lambda expire_at: keys.put(key, value, expire_at)
    ident, parts = load_module(payload)
    value_types = ctx.server.hooks.value_types
    known = [type_ for type_, methods in value_types.items() if methods.module_id == ident]
    if not known:
        raise BadPayloadError(f"a value of module type {ident}")
    (type_,) = known
    methods = value_types[type_]
    parsed = methods.parse(parts)

    def put(expire_at: int) -> None:
        if keys.stored(key) is not None:
            keys.remove(key)
        keys.put_record(key, type_, methods.restore(keys, parsed), expire_at)

    return type_, put


def _check_usage(usage: tuple[bytes, int] | None) -> None:
    """IDLETIME and FREQ are for a cache that evicts; here they only have to be valid."""
    if usage is None:
        return
    option, number = usage
    if option == b"IDLETIME" and number < 0:
        raise INVALID_IDLETIME
    if option == b"FREQ" and not 0 <= number <= 255:
        raise INVALID_FREQ


def _deadline(ttl: bytes, absolute: bool, now: int) -> int:
    """When the restored key expires, 0 for never."""
    milliseconds = Int().convert(ttl)
    if milliseconds < 0:
        raise INVALID_TTL
    return milliseconds if absolute or not milliseconds else milliseconds + now


def _forget(keys: Database, key: bytes, old: Record | None) -> None:
    """A key restored with a deadline that has passed takes an old one's place all the same."""
    if old is not None:
        keys.remove(key)
        keys.notify("g", b"del", key)
