"""The hot paths of GET, SET, INCR, MGET and CAS.

Each does the whole common case of its command, gates left out that a hot path
never meets (see ``Context.refresh``), and returns the encoded reply. It
returns None before it has changed anything where the general path is needed:
another arity, options, other types, long values, deadlines that have passed,
refused writes. ``keys.young`` is the keyspace's cache: of a plain
string it holds the row's value.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from norikv_resp.command import INT64_MAX, Command, Handler, Request
from norikv_resp.encoding import CHUNK, HEAD_SIZE, plain_index, plain_version

from . import commands, counters, versions

if TYPE_CHECKING:
    from norikv_resp.context import Context
    from norikv_resp.loader import ModuleAPI

_OK = b"+OK\r\n"
_NULL, _NULL3 = b"$-1\r\n", b"_\r\n"
#: Bulk strings by their size: formatting into a ready head is the fastest way to encode one.
_BULKS = [b"$%d\r\n%%b\r\n" % size for size in range(1024)]
#: Milliseconds in the unit of an expiry option.
_UNITS = {b"EX": 1000, b"ex": 1000, b"PX": 1, b"px": 1}
#: Times to live of at most this many digits are valid, whatever the time is.
_SHORT_TIME = 12
_ZERO = ord("0")
#: Counters of at most this many digits cannot overflow by one.
_SAFE_DIGITS = len(str(INT64_MAX)) - 1


def _declared(handler: Handler) -> Command:
    """The command that a handler was declared as."""
    (declared,) = handler.__dict__["_commands"]
    assert isinstance(declared, Command)
    return declared


_GET, _SET = _declared(commands.get), _declared(commands.set_)
_INCR, _MGET = _declared(counters.incr), _declared(commands.mget)
_CAS = _declared(versions.cas)

#: A version in the one way in which it is written, so that other bytes are another version.
_is_version = re.compile(rb"0|[1-9][0-9]{0,17}-[1-9][0-9]{0,17}").fullmatch


def fast_get(ctx: Context, request: Request) -> bytes | None:
    """GET of a short string, or of nothing."""
    if len(request) != 2:
        return None
    keys = ctx.keys
    keyspace = keys.keyspace
    cached = keys.young.get(request[1])
    if type(cached) is bytes:
        if keyspace.index > keyspace.store.durable:
            index = plain_index(cached)
            if index > keyspace.need:
                keyspace.need = index
        value = cached[HEAD_SIZE:]
    else:
        if keyspace.events is not None:
            return None
        record = keys.get(request[1])
        if record is None:
            if cached is not None:
                return None
            keyspace.misses += 1
            _GET.calls += 1
            return _NULL3 if ctx.resp3 else _NULL
        if type(record[5]) is not bytes:
            return None
        value = record[5]
    keyspace.hits += 1
    _GET.calls += 1
    size = len(value)
    return _BULKS[size] % value if size < 1024 else b"$%d\r\n%b\r\n" % (size, value)


def fast_set(ctx: Context, request: Request) -> bytes | None:
    """SET without options, or with EX or PX alone."""
    count = len(request)
    if count == 3:
        _, key, value = request
        expire_at = 0
    elif count == 5:
        _, key, value, option, word = request
        unit = _UNITS.get(option)
        if unit is None or type(word) is not bytes or len(word) > _SHORT_TIME:
            return None
        if not word.isdigit() or word[0] == _ZERO:
            return None
        expire_at = ctx.keys.keyspace.now + int(word) * unit
    else:
        return None
    if type(key) is not bytes or type(value) is not bytes:
        raise TypeError("a request is a list of bytes")
    keys = ctx.keys
    keyspace = keys.keyspace
    if keyspace.store.refusal is not None or keyspace.events is not None or len(value) > CHUNK:
        return None
    keyspace.index += 1
    keys.put(key, value, expire_at)
    _SET.calls += 1
    return _OK


def fast_incr(ctx: Context, request: Request) -> bytes | None:
    """INCR of a cached counter without a deadline."""
    if len(request) != 2:
        return None
    keys = ctx.keys
    key = request[1]
    cached = keys.young.get(key)
    if type(cached) is not bytes:
        return None
    value = cached[HEAD_SIZE:]
    if not 0 < len(value) <= _SAFE_DIGITS:
        return None
    keyspace = keys.keyspace
    if keyspace.store.refusal is not None or keyspace.events is not None:
        return None
    if not value.isdigit() or (value[0] == _ZERO and value != b"0"):
        return None
    total = b"%d" % (int(value) + 1)
    keyspace.index += 1
    keys.put(key, total)
    _INCR.calls += 1
    return b":%b\r\n" % total


def fast_mget(ctx: Context, request: Request) -> bytes | None:
    """MGET of cached short strings."""
    count = len(request) - 1
    if not count:
        return None
    keys = ctx.keys
    keyspace = keys.keyspace
    young, need = keys.young, keyspace.need
    parts = [b"*%d\r\n" % count]
    for key in request[1:]:
        cached = young.get(key)
        if type(cached) is not bytes:
            return None
        index = plain_index(cached)
        if index > need:
            need = index
        value = cached[HEAD_SIZE:]
        size = len(value)
        parts.append(_BULKS[size] % value if size < 1024 else b"$%d\r\n%b\r\n" % (size, value))
    keyspace.need = need
    keyspace.hits += count
    _MGET.calls += 1
    return b"".join(parts)


def fast_cas(ctx: Context, request: Request) -> bytes | None:
    """CAS without options of a cached short string, won or lost."""
    if len(request) != 4:
        return None
    keys = ctx.keys
    _, key, version, value = request
    cached = keys.young.get(key)
    if type(cached) is not bytes or keys.floor[0]:
        return None
    keyspace = keys.keyspace
    if keyspace.store.refusal is not None or keyspace.events is not None or len(value) > CHUNK:
        return None
    term, index = plain_version(cached)
    current = b"%d-%d" % (term, index)
    if version == current:
        keyspace.index += 1
        keys.put(key, value)
        _CAS.calls += 1
        staged = b"%d-%d" % (keyspace.term, keyspace.index)
        null = _NULL3 if ctx.resp3 else _NULL
        return b"*3\r\n:1\r\n$%d\r\n%b\r\n%b" % (len(staged), staged, null)
    if _is_version(version) is None:
        return None
    if index > keyspace.need:
        keyspace.need = index
    held = cached[HEAD_SIZE:]
    _CAS.calls += 1
    return b"*3\r\n:0\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(current), current, len(held), held)


def register(api: ModuleAPI) -> None:
    """Give the commands their hot paths."""
    api.fast(b"GET", fast_get)
    api.fast(b"SET", fast_set)
    api.fast(b"INCR", fast_incr)
    api.fast(b"MGET", fast_mget)
    api.fast(b"CAS", fast_cas)
