"""Commands on keys of any type: DEL, EXISTS, TYPE, RENAME, COPY, MOVE, VER and their like."""

from __future__ import annotations

from typing import Any

from norikv_resp.command import (
    DENYOOM,
    FAST,
    READONLY,
    WRITE,
    Int,
    Key,
    Token,
    command,
)
from norikv_resp.context import Context
from norikv_resp.database import Database
from norikv_resp.encoding import TYPE_NAMES, Record
from norikv_resp.errors import DB_OUT_OF_RANGE, NO_SUCH_KEY, SAME_OBJECT
from norikv_resp.protocol import OK, Simple

_SUM_OVER_SHARDS = ("request_policy:multi_shard", "response_policy:agg_sum")


def database(ctx: Context, number: int) -> Database:
    """The database of that number; DB_OUT_OF_RANGE if there is no such."""
    databases = ctx.server.keyspace.databases
    if not 0 <= number < len(databases):
        raise DB_OUT_OF_RANGE
    return databases[number]


# --------------------------------------------------------------------------
# Deleting and looking


@command(
    "DEL",
    since="1.0.0",
    group="generic",
    flags=WRITE,
    summary="Deletes keys.",
    complexity="O(N) for N keys; what large values occupy is reclaimed in the background",
    args=(Key(access="RM", does=("delete",), multiple=True),),
    tips=_SUM_OVER_SHARDS,
)
def del_(ctx: Context, key: list[bytes]) -> int:
    return _delete(ctx, key)


@command(
    "UNLINK",
    since="4.0.0",
    group="generic",
    flags=WRITE | FAST,
    summary="Deletes keys; the same as DEL.",
    complexity="O(N) for N keys",
    args=(Key(access="RM", does=("delete",), multiple=True),),
    tips=_SUM_OVER_SHARDS,
)
def unlink(ctx: Context, key: list[bytes]) -> int:
    return _delete(ctx, key)


def _delete(ctx: Context, keys: list[bytes]) -> int:
    deleted = 0
    for key in keys:
        if ctx.keys.delete(key):
            ctx.keys.notify("g", b"del", key)
            deleted += 1
    return deleted


@command(
    "EXISTS",
    since="1.0.0",
    group="generic",
    flags=READONLY | FAST,
    summary="Counts how many of the keys exist; a key named twice counts twice.",
    complexity="O(N) for N keys",
    args=(Key(does=(), multiple=True),),
    tips=_SUM_OVER_SHARDS,
)
def exists(ctx: Context, key: list[bytes]) -> int:
    return _count(ctx, key)


def _count(ctx: Context, keys: list[bytes]) -> int:
    lookup = ctx.keys.lookup
    return sum(lookup(key) is not None for key in keys)


@command(
    "TOUCH",
    since="3.2.1",
    group="generic",
    flags=READONLY | FAST,
    summary="Counts how many of the keys exist. Times of access are not kept.",
    complexity="O(N) for N keys",
    args=(Key(does=(), multiple=True),),
    tips=_SUM_OVER_SHARDS,
)
def touch(ctx: Context, key: list[bytes]) -> int:
    return _count(ctx, key)


@command(
    "TYPE",
    since="1.0.0",
    group="generic",
    flags=READONLY | FAST,
    summary="Tells the type of the value at a key.",
    complexity="O(1)",
    args=(Key(does=()),),
)
def type_(ctx: Context, key: bytes) -> Simple:
    record = ctx.keys.lookup(key)
    return Simple(b"none" if record is None else TYPE_NAMES[record.type])


@command(
    "VER",
    group="generic",
    flags=READONLY | FAST,
    summary="Tells a key's version, nil if it does not exist.",
    complexity="O(1)",
    args=(Key(),),
)
def ver(ctx: Context, key: bytes) -> bytes | None:
    record = ctx.keys.lookup(key)
    return None if record is None else b"%d-%d" % ctx.keys.version(record)


# --------------------------------------------------------------------------
# Moving and copying


@command(
    "RENAME",
    since="1.0.0",
    group="generic",
    flags=WRITE,
    summary="Renames a key and overwrites what is at the new name.",
    complexity="O(1)",
    args=(
        Key(access="RW", does=("access", "delete")),
        Key("newkey", access="OW", does=("update",)),
    ),
)
def rename(ctx: Context, key: bytes, newkey: bytes) -> Any:
    _rename(ctx, key, newkey, overwrite=True)
    return OK


@command(
    "RENAMENX",
    since="1.0.0",
    group="generic",
    flags=WRITE | FAST,
    summary="Renames a key if there is nothing at the new name.",
    complexity="O(1)",
    args=(
        Key(access="RW", does=("access", "delete")),
        Key("newkey", access="OW", does=("insert",)),
    ),
)
def renamenx(ctx: Context, key: bytes, newkey: bytes) -> int:
    return int(_rename(ctx, key, newkey, overwrite=False))


def _rename(ctx: Context, key: bytes, newkey: bytes, overwrite: bool) -> bool:
    keys = ctx.keys
    record = keys.get(key)
    if record is None:
        raise NO_SUCH_KEY
    if key == newkey:
        return False
    replaced = keys.get(newkey)
    if replaced is not None and not overwrite:
        return False
    _make_way(keys, newkey)
    keys.move_body(key, keys, newkey)
    keys.notify("g", b"rename_from", key)
    keys.notify("g", b"rename_to", newkey)
    notify_overwritten(keys, newkey, replaced, record.type)
    return True


def _make_way(keys: Database, key: bytes) -> None:
    """Remove what is stored at a key, also when its deadline has passed."""
    if keys.stored(key) is not None:
        keys.remove(key)


def notify_overwritten(keys: Database, key: bytes, old: Record | None, new_type: int) -> None:
    """Announce that the value *old* of *key* has given way to another."""
    if old is not None:
        keys.notify("o", b"overwritten", key)
        if old.type != new_type:
            keys.notify("c", b"type_changed", key)


@command(
    "COPY",
    since="6.2.0",
    group="generic",
    flags=WRITE | DENYOOM,
    summary="Copies the value at a key to another key.",
    complexity="O(N), N the number of elements or 64 KiB pieces of the value",
    args=(
        Key("source"),
        Key("destination", access="OW", does=("update",)),
        Int("destination-db", token="DB", optional=True),
        Token("REPLACE"),
    ),
)
def copy(
    ctx: Context, source: bytes, destination: bytes, destination_db: int | None, replace: bool
) -> int:
    keys = ctx.keys
    target = keys if destination_db is None else database(ctx, destination_db)
    if target is keys and source == destination:
        raise SAME_OBJECT
    record = keys.get(source)
    if record is None:
        return 0
    replaced = target.get(destination)
    if replaced is not None and not replace:
        return 0
    value = keys.copy_value(record)
    _make_way(target, destination)
    target.put_record(destination, record.type, value, record.expire_at)
    if keys.built_in_place(source, record):
        target.remember_raw(destination)
    target.notify("g", b"copy_to", destination)
    notify_overwritten(target, destination, replaced, record.type)
    return 1


@command(
    "MOVE",
    since="1.0.0",
    group="generic",
    flags=WRITE | FAST,
    summary="Moves a key to another database unless there is one of that name.",
    complexity="O(1)",
    args=(Key(access="RW", does=("access", "update")), Int("db")),
)
def move(ctx: Context, key: bytes, db: int) -> int:
    keys = ctx.keys
    target = database(ctx, db)
    if target is keys:
        raise SAME_OBJECT
    if keys.get(key) is None or target.get(key) is not None:
        return 0
    _make_way(target, key)
    keys.move_body(key, target, key)
    keys.notify("g", b"move_from", key)
    target.notify("g", b"move_to", key)
    return 1
