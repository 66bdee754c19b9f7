"""LPUSH and SADD that remember nothing but the type and the number of elements."""

from __future__ import annotations

from norikv_resp.command import WRITE, Bytes, Key, command
from norikv_resp.context import Context
from norikv_resp.encoding import LIST, SET, Collection

_KEY = Key(access="RW", does=("insert",))


def _make(ctx: Context, key: bytes, type_: int, count: int) -> int:
    collection = Collection(ctx.keys.keyspace.new_cid(), count)
    ctx.keys.put_record(key, type_, collection)
    return count


@command("LPUSH", group="list", flags=WRITE, args=(_KEY, Bytes("element", multiple=True)))
def lpush(ctx: Context, key: bytes, element: list[bytes]) -> int:
    return _make(ctx, key, LIST, len(element))


@command("SADD", group="set", flags=WRITE, args=(_KEY, Bytes("member", multiple=True)))
def sadd(ctx: Context, key: bytes, member: list[bytes]) -> int:
    return _make(ctx, key, SET, len(member))
