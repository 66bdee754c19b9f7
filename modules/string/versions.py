"""The versioned family: values read with their version, written only over a known one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from norikv_resp.command import (
    DENYOOM,
    FAST,
    READONLY,
    WRITE,
    Bytes,
    Idem,
    Key,
    Version,
    command,
    deadline,
    expiry_option,
)
from norikv_resp.encoding import STRING

from . import model

if TYPE_CHECKING:
    from norikv_resp.context import Context


@command(
    "GETVER",
    group="string",
    flags=READONLY | FAST,
    summary="Returns the string that a key holds together with the key's version.",
    complexity="O(1)",
    args=(Key(),),
)
def getver(ctx: Context, key: bytes) -> list[bytes] | None:
    keys = ctx.keys
    record = model.read(keys, key)
    if record is None:
        return None
    return [keys.string_value(record), model.version_text(keys.version(record))]


@command(
    "MGETVER",
    group="string",
    flags=READONLY | FAST,
    summary="Returns the strings that several keys hold together with the keys' versions.",
    complexity="O(N), N the number of keys",
    tips=("request_policy:multi_shard",),
    args=(Key(multiple=True),),
)
def mgetver(ctx: Context, key: list[bytes]) -> list[list[bytes | None] | None]:
    keys = ctx.keys
    found: list[list[bytes | None] | None] = []
    for one in key:
        record = model.find(keys, one)
        if record is None:
            found.append(None)
            continue
        value = keys.string_value(record) if record.type == STRING else None
        found.append([value, model.version_text(keys.version(record))])
    return found


@command(
    "CAS",
    group="string",
    flags=WRITE | DENYOOM | FAST,
    summary="Sets a key to a string if the key still has the given version.",
    complexity="O(1)",
    args=(
        Key(access="RW", does=("access", "update")),
        Version("version"),
        Bytes("value"),
        expiry_option(),
        Idem(),
    ),
)
def cas(
    ctx: Context,
    key: bytes,
    version: tuple[int, int],
    value: bytes,
    expiry: tuple[bytes, Any] | None,
) -> list[Any]:
    keys = ctx.keys
    keep = expiry is not None and expiry[0] == b"KEEPTTL"
    expire_at = deadline(expiry, ctx.now, "cas") if expiry is not None and not keep else 0
    record = keys.get_typed(key, STRING)
    current = keys.version(record) if record is not None else model.ABSENT
    if current != version:
        held = keys.string_value(record) if record is not None else None
        return [0, model.version_text(current), held]
    if keep and record is not None:
        expire_at = record.expire_at
    model.write(keys, key, value, expire_at, announce=not keep)
    return [1, model.staged_version(keys), None]
