"""Strings that are numbers: INCR and its kin, INCREX."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from norikv_resp.command import (
    DENYOOM,
    FAST,
    INT64_MAX,
    INT64_MIN,
    WRITE,
    Bytes,
    Int,
    Key,
    OneOf,
    Token,
    command,
    deadline,
    expiry_option,
    parse_int,
)
from norikv_resp.encoding import STRING, Record
from norikv_resp.errors import NotAFloat, NotAnInteger
from norikv_resp.protocol import DoubleText

from . import longdouble, model
from .errors import (
    APPLIED_INFINITE,
    APPLIED_OVERFLOW,
    BOUNDS_CROSSED,
    DECREMENT_OVERFLOW,
    ENX_NEEDS_EXPIRY,
    INCREMENT_OVERFLOW,
    INFINITE_INCREMENT,
    NOT_FINITE,
    InvalidFloat,
)
from .longdouble import Finite, LongDouble

if TYPE_CHECKING:
    from norikv_resp.context import Context
    from norikv_resp.database import Database

Option = tuple[bytes, Any]

_UPDATE = Key(access="RW", does=("access", "update"))
_FLAGS = WRITE | DENYOOM | FAST

#: No 64-bit integer is longer than this, its sign included.
_LONGEST_INTEGER = 20


# --------------------------------------------------------------------------
# INCR, DECR, INCRBY, DECRBY, INCRBYFLOAT


@command(
    "INCR",
    since="1.0.0",
    group="string",
    flags=_FLAGS,
    summary="Adds one to the integer that a key holds, 0 if there is none.",
    complexity="O(1)",
    args=(_UPDATE,),
)
def incr(ctx: Context, key: bytes) -> int:
    return _add_integer(ctx.keys, key, 1)


@command(
    "DECR",
    since="1.0.0",
    group="string",
    flags=_FLAGS,
    summary="Subtracts one from the integer that a key holds, 0 if there is none.",
    complexity="O(1)",
    args=(_UPDATE,),
)
def decr(ctx: Context, key: bytes) -> int:
    return _add_integer(ctx.keys, key, -1)


@command(
    "INCRBY",
    since="1.0.0",
    group="string",
    flags=_FLAGS,
    summary="Adds to the integer that a key holds, 0 if there is none.",
    complexity="O(1)",
    args=(_UPDATE, Int("increment")),
)
def incrby(ctx: Context, key: bytes, increment: int) -> int:
    return _add_integer(ctx.keys, key, increment)


@command(
    "DECRBY",
    since="1.0.0",
    group="string",
    flags=_FLAGS,
    summary="Subtracts from the integer that a key holds, 0 if there is none.",
    complexity="O(1)",
    args=(_UPDATE, Int("decrement")),
)
def decrby(ctx: Context, key: bytes, decrement: int) -> int:
    if decrement == INT64_MIN:
        raise DECREMENT_OVERFLOW
    return _add_integer(ctx.keys, key, -decrement)


def _add_integer(keys: Database, key: bytes, increment: int) -> int:
    record = keys.get_typed(key, STRING)
    total = _integer(keys, record) + increment
    if not INT64_MIN <= total <= INT64_MAX:
        raise INCREMENT_OVERFLOW
    model.update(keys, key, b"%d" % total, record, b"incrby")
    return total


def _integer(keys: Database, record: Record | None) -> int:
    """The integer that a string holds, 0 for no string; NotAnInteger."""
    if record is None:
        return 0
    if keys.string_length(record) > _LONGEST_INTEGER:
        raise NotAnInteger
    return parse_int(keys.string_value(record))


def _long_double(keys: Database, record: Record | None) -> LongDouble:
    """The number that a string holds, 0 for no string; NotAFloat."""
    if record is None:
        return longdouble.ZERO
    number = None
    if keys.string_length(record) <= longdouble.LONGEST:
        number = longdouble.parse(keys.string_value(record))
    if number is None:
        raise NotAFloat
    return number


@command(
    "INCRBYFLOAT",
    since="2.6.0",
    group="string",
    flags=_FLAGS,
    summary="Adds to the number that a key holds, 0 if there is none.",
    complexity="O(1)",
    args=(_UPDATE, Bytes("increment")),
)
def incrbyfloat(ctx: Context, key: bytes, increment: bytes) -> bytes:
    keys = ctx.keys
    record = keys.get_typed(key, STRING)
    number = _long_double(keys, record)
    by = longdouble.parse(increment)
    if by is None:
        raise NotAFloat
    total = longdouble.add(number, by)
    if not isinstance(total, Finite):
        raise NOT_FINITE
    text = longdouble.text(total)
    model.update(keys, key, text, record, b"incrbyfloat")
    return text


# --------------------------------------------------------------------------
# INCREX


@command(
    "INCREX",
    since="8.8.0",
    group="string",
    flags=_FLAGS,
    summary="Adds to a number within bounds and sets when the key expires, in one step.",
    complexity="O(1)",
    args=(
        _UPDATE,
        OneOf("increment", Bytes("integer", token="BYINT"), Bytes("float", token="BYFLOAT")),
        Bytes("lower-bound", token="LBOUND", optional=True),
        Bytes("upper-bound", token="UBOUND", optional=True),
        Token("SATURATE"),
        expiry_option(keepttl=False, persist=True, ttl=False),
        Token("ENX"),
    ),
    once=True,
    exclusive=(("PERSIST", "ENX"),),
)
def increx(
    ctx: Context,
    key: bytes,
    increment: Option | None,
    lower_bound: bytes | None,
    upper_bound: bytes | None,
    saturate: bool,
    expiry: Option | None,
    enx: bool,
) -> list[Any]:
    keys = ctx.keys
    if enx and expiry is None:
        raise ENX_NEEDS_EXPIRY
    by_float = increment is not None and increment[0] == b"BYFLOAT"
    step: _IntegerStep | _FloatStep
    if by_float and increment is not None:
        step = _FloatStep(increment[1], lower_bound, upper_bound, saturate)
    else:
        word = increment[1] if increment is not None else b"1"
        step = _IntegerStep(word, lower_bound, upper_bound, saturate)
    expire_at = 0
    if expiry is not None and expiry[0] != b"PERSIST":
        expire_at = deadline(expiry, ctx.now, "increx")
    record = keys.get_typed(key, STRING)
    text, reply = step.take(keys, record)
    if text is not None:
        event = b"incrbyfloat" if by_float else b"incrby"
        _store_counter(keys, key, text, record, expiry, expire_at, enx, event)
    return reply


def _store_counter(
    keys: Database,
    key: bytes,
    text: bytes,
    old: Record | None,
    expiry: Option | None,
    expire_at: int,
    enx: bool,
    event: bytes,
) -> None:
    """Write a counter under the deadline that INCREX's options ask for."""
    current = old.expire_at if old is not None else 0
    if expiry is None or (enx and current):
        model.update(keys, key, text, old, event)
    elif not expire_at:
        keys.put(key, text)
        keys.notify("$", event, key)
        if current:
            keys.notify("g", b"persist", key)
    elif expire_at <= keys.keyspace.now:
        model.remove(keys, key)
    else:
        keys.put(key, text, expire_at)
        keys.notify("$", event, key)
        keys.notify("g", b"expire", key)


class _IntegerStep:
    """INCREX BYINT: its increment and bounds, judged in this order."""

    def __init__(self, by: bytes, low: bytes | None, high: bytes | None, saturate: bool) -> None:
        self.by = parse_int(by, "Increment")
        self.low = INT64_MIN if low is None else parse_int(low, "LBOUND")
        self.high = INT64_MAX if high is None else parse_int(high, "UBOUND")
        self.saturate = saturate
        if self.low > self.high:
            raise BOUNDS_CROSSED

    def take(self, keys: Database, record: Record | None) -> tuple[bytes | None, list[Any]]:
        """The text to store, None to leave the key alone, and the reply."""
        old = _integer(keys, record)
        new = old + self.by
        if not self.low <= new <= self.high:
            if not self.saturate:
                return None, [old, 0]
            new = min(max(new, self.low), self.high)
        applied = new - old
        if not INT64_MIN <= applied <= INT64_MAX:
            raise APPLIED_OVERFLOW
        return b"%d" % new, [new, applied]


class _FloatStep:
    """INCREX BYFLOAT: its increment and bounds, judged in this order."""

    def __init__(self, by: bytes, low: bytes | None, high: bytes | None, saturate: bool) -> None:
        self.by = _float_argument(by, "Increment")
        if not isinstance(self.by, Finite):
            raise INFINITE_INCREMENT
        self.low: LongDouble = longdouble.MIN
        self.high: LongDouble = longdouble.MAX
        self.saturate = saturate
        if low is not None:
            bound = _float_argument(low, "LBOUND")
            self.low = self.low if bound == -math.inf else bound
        if high is not None:
            bound = _float_argument(high, "UBOUND")
            self.high = self.high if bound == math.inf else bound
        if longdouble.order(self.low) > longdouble.order(self.high):
            raise BOUNDS_CROSSED

    def take(self, keys: Database, record: Record | None) -> tuple[bytes | None, list[Any]]:
        """The text to store, None to leave the key alone, and the reply."""
        old = _long_double(keys, record)
        new = longdouble.add(old, self.by)
        below = longdouble.order(new) < longdouble.order(self.low)
        if below or longdouble.order(new) > longdouble.order(self.high):
            if not self.saturate:
                return None, [DoubleText(longdouble.text(old)), DoubleText(b"0")]
            new = self.low if below else self.high
        applied = longdouble.subtract(new, old)
        if not isinstance(applied, Finite):
            raise APPLIED_INFINITE
        text = longdouble.text(new)
        return text, [DoubleText(text), DoubleText(longdouble.text(applied))]


def _float_argument(word: bytes, what: str) -> LongDouble:
    number = longdouble.parse(word)
    if number is None:
        raise InvalidFloat(what)
    return number
