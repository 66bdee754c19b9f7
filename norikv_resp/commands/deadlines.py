"""When keys expire: EXPIRE, TTL, EXPIRETIME, PERSIST and their like."""

from __future__ import annotations

from norikv_resp.command import (
    FAST,
    INT64_MAX,
    INT64_MIN,
    READONLY,
    WRITE,
    ExpireAt,
    ExpireTime,
    Key,
    Token,
    command,
    parse_int,
)
from norikv_resp.context import Context
from norikv_resp.encoding import Record
from norikv_resp.errors import InvalidExpire, ReplyError, UnsupportedOption

NX_WITH_OTHERS = ReplyError(b"ERR NX and XX, GT or LT options at the same time are not compatible")
GT_WITH_LT = ReplyError(b"ERR GT and LT options at the same time are not compatible")

_WRITES = Key(access="RW", does=("update",))
_WHEN = (Token("NX"), Token("XX"), Token("GT"), Token("LT"))
_NONDETERMINISTIC = ("nondeterministic_output",)


# --------------------------------------------------------------------------
# Setting


@command(
    "EXPIRE",
    since="1.0.0",
    group="generic",
    flags=WRITE | FAST,
    summary="Sets in how many seconds a key expires.",
    complexity="O(1)",
    args=(_WRITES, ExpireTime("seconds"), *_WHEN),
    unknown_option=UnsupportedOption,
)
def expire(ctx: Context, key: bytes, seconds: bytes, nx: bool, xx: bool, gt: bool, lt: bool) -> int:
    return _expire(ctx, key, seconds, 1000, ctx.now, "expire", (nx, xx, gt, lt))


@command(
    "PEXPIRE",
    since="2.6.0",
    group="generic",
    flags=WRITE | FAST,
    summary="Sets in how many milliseconds a key expires.",
    complexity="O(1)",
    args=(_WRITES, ExpireTime("milliseconds"), *_WHEN),
    unknown_option=UnsupportedOption,
)
def pexpire(
    ctx: Context, key: bytes, milliseconds: bytes, nx: bool, xx: bool, gt: bool, lt: bool
) -> int:
    return _expire(ctx, key, milliseconds, 1, ctx.now, "pexpire", (nx, xx, gt, lt))


@command(
    "EXPIREAT",
    since="1.2.0",
    group="generic",
    flags=WRITE | FAST,
    summary="Sets the Unix time in seconds at which a key expires.",
    complexity="O(1)",
    args=(_WRITES, ExpireAt("unix-time-seconds"), *_WHEN),
    unknown_option=UnsupportedOption,
)
def expireat(
    ctx: Context, key: bytes, unix_time_seconds: bytes, nx: bool, xx: bool, gt: bool, lt: bool
) -> int:
    return _expire(ctx, key, unix_time_seconds, 1000, 0, "expireat", (nx, xx, gt, lt))


@command(
    "PEXPIREAT",
    since="2.6.0",
    group="generic",
    flags=WRITE | FAST,
    summary="Sets the Unix time in milliseconds at which a key expires.",
    complexity="O(1)",
    args=(_WRITES, ExpireAt("unix-time-milliseconds"), *_WHEN),
    unknown_option=UnsupportedOption,
)
def pexpireat(
    ctx: Context, key: bytes, unix_time_milliseconds: bytes, nx: bool, xx: bool, gt: bool, lt: bool
) -> int:
    return _expire(ctx, key, unix_time_milliseconds, 1, 0, "pexpireat", (nx, xx, gt, lt))


def _expire(
    ctx: Context,
    key: bytes,
    word: bytes,
    unit: int,
    base: int,
    name: str,
    conditions: tuple[bool, bool, bool, bool],
) -> int:
    """Let *key* expire *word* times *unit* ms after *base*, if the conditions hold.

    At once if that has passed. As in Redis the options are judged before the number, which has to
    fit into 64 bits as milliseconds, before and after *base* is added.
    """
    nx, xx, gt, lt = conditions
    if nx and (xx or gt or lt):
        raise NX_WITH_OTHERS
    if gt and lt:
        raise GT_WITH_LT
    given = parse_int(word) * unit
    when = given + base
    if when > INT64_MAX or not INT64_MIN <= given <= INT64_MAX:
        raise InvalidExpire(name)
    keys = ctx.keys
    record = keys.get(key)
    if record is None or not _allowed(record.expire_at, when, conditions):
        return 0
    if when <= ctx.now:
        keys.remove(key)
        keys.notify("g", b"del", key)
    else:
        keys.set_deadline(key, record, when)
        keys.notify("g", b"expire", key)
    return 1


def _allowed(current: int, when: int, conditions: tuple[bool, bool, bool, bool]) -> bool:
    """Whether the deadline may change from *current* (0 for none, which is later than any)."""
    nx, xx, gt, lt = conditions
    if nx and current:
        return False
    if xx and not current:
        return False
    if gt and (not current or when <= current):
        return False
    return not (lt and current and when >= current)


@command(
    "PERSIST",
    since="2.2.0",
    group="generic",
    flags=WRITE | FAST,
    summary="Takes a key's deadline away.",
    complexity="O(1)",
    args=(_WRITES,),
)
def persist(ctx: Context, key: bytes) -> int:
    record = ctx.keys.get(key)
    if record is None or not record.expire_at:
        return 0
    ctx.keys.set_deadline(key, record, 0)
    ctx.keys.notify("g", b"persist", key)
    return 1


# --------------------------------------------------------------------------
# Asking


@command(
    "TTL",
    since="1.0.0",
    group="generic",
    flags=READONLY | FAST,
    summary="Tells in how many seconds a key expires; -1 for never, -2 if there is no such key.",
    complexity="O(1)",
    args=(Key(),),
    tips=_NONDETERMINISTIC,
)
def ttl(ctx: Context, key: bytes) -> int:
    return _in_seconds(_deadline(ctx.keys.lookup(key), ctx.now))


@command(
    "PTTL",
    since="2.6.0",
    group="generic",
    flags=READONLY | FAST,
    summary="Tells in how many milliseconds a key expires; -1 for never, -2 if there is none.",
    complexity="O(1)",
    args=(Key(),),
    tips=_NONDETERMINISTIC,
)
def pttl(ctx: Context, key: bytes) -> int:
    return _deadline(ctx.keys.lookup(key), ctx.now)


@command(
    "EXPIRETIME",
    since="7.0.0",
    group="generic",
    flags=READONLY | FAST,
    summary="Tells the Unix time in seconds at which a key expires; -1 for never, -2 if none.",
    complexity="O(1)",
    args=(Key(),),
)
def expiretime(ctx: Context, key: bytes) -> int:
    return _in_seconds(_deadline(ctx.keys.lookup(key), 0))


@command(
    "PEXPIRETIME",
    since="7.0.0",
    group="generic",
    flags=READONLY | FAST,
    summary="Tells the Unix time in milliseconds at which a key expires; -1 for never, -2 if none.",
    complexity="O(1)",
    args=(Key(),),
)
def pexpiretime(ctx: Context, key: bytes) -> int:
    return _deadline(ctx.keys.lookup(key), 0)


def _deadline(record: Record | None, since: int) -> int:
    """Milliseconds from *since* to the deadline; -1 for none, -2 for no key."""
    if record is None:
        return -2
    return record.expire_at - since if record.expire_at else -1


def _in_seconds(milliseconds: int) -> int:
    """Rounded as Redis does; what is negative is no time but an answer."""
    return milliseconds if milliseconds < 0 else (milliseconds + 500) // 1000
