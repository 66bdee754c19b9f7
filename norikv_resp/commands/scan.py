"""Walking over keys: SCAN, KEYS and RANDOMKEY, in key order and by seeks."""

from __future__ import annotations

import asyncio
import random
import re
from dataclasses import dataclass
from typing import Any

from norikv_resp.command import READONLY, Arg, Bytes, Int, Pattern, command
from norikv_resp.context import Context
from norikv_resp.cursors import parse_cursor
from norikv_resp.database import Database
from norikv_resp.encoding import TYPE_NAMES
from norikv_resp.errors import SyntaxProblem
from norikv_resp.glob import Matcher, compile_glob, is_literal

#: Keys that one SCAN looks at, whatever its COUNT: about 20 ms.
SCAN_MOST = 10_000
SCAN_DEFAULT = 10

#: KEYS looks at this many keys at once and lets others run in between.
KEYS_SLICE = 5_000

#: RANDOMKEY goes down until so few keys begin alike, or so many bytes deep; it draws a byte up
#: to DRAWS times, and begins again when all that it finds has expired.
NEIGHBOURS, DEEPEST, DRAWS, DESCENTS = 16, 16, 12, 4

_SPECIAL = re.compile(rb"[*?\[\\]")
_TYPE_OF_NAME = {name: number for number, name in TYPE_NAMES.items()}


def literal_prefix(pattern: bytes) -> bytes:
    """What everything that matches *pattern* begins with."""
    special = _SPECIAL.search(pattern)
    return pattern if special is None else pattern[: special.start()]


# --------------------------------------------------------------------------
# SCAN


@dataclass(frozen=True)
class Cursor(Arg):
    """A cursor of SCAN; 0 begins."""

    name: str = "cursor"
    type = "integer"

    def convert(self, data: bytes) -> int:
        return parse_cursor(data)


@command(
    "SCAN",
    since="2.8.0",
    group="generic",
    flags=READONLY,
    summary="Goes on with a walk over the keys of the selected database.",
    complexity="O(COUNT) for every call; MATCH with a literal beginning seeks to it",
    args=(
        Cursor(),
        Pattern("pattern", token="MATCH", optional=True),
        Int("count", token="COUNT", optional=True),
        Bytes("kind", token="TYPE", optional=True, display="type"),
    ),
    tips=("nondeterministic_output", "request_policy:special", "response_policy:special"),
)
def scan(
    ctx: Context, cursor: int, pattern: bytes | None, count: int | None, kind: bytes | None
) -> list[Any]:
    if count is None:
        count = SCAN_DEFAULT
    elif count < 1:
        raise SyntaxProblem
    cursors = ctx.server.cursors
    start = cursors.position(cursor) if cursor else b""
    if pattern is not None and is_literal(pattern):
        return [b"0", _scan_literal(ctx.keys, start, pattern, kind)]
    begins = b"" if pattern is None else literal_prefix(pattern)
    found, after = ctx.keys.page(start, min(count, SCAN_MOST), begins)
    if kind is not None:
        wanted = _TYPE_OF_NAME.get(kind.lower())
        found = [(key, type_) for key, type_ in found if type_ == wanted]
    keys = [key for key, _ in found]
    if pattern is not None:
        keys = list(filter(_matcher(pattern), keys))
    following = 0 if after is None else cursors.keep(after, cursor, ctx.config.scan_cursors)
    return [b"%d" % following, keys]


def _matcher(pattern: bytes) -> Matcher:
    """What decides whether a key matches; a lone star takes every key, the empty one too."""
    return _every if pattern == b"*" else compile_glob(pattern)


def _every(_: bytes) -> bool:
    return True


def _scan_literal(keys: Database, start: bytes, key: bytes, kind: bytes | None) -> list[bytes]:
    """What a scan for one key finds from *start* on: a single look-up."""
    record = keys.get(key) if key >= start else None
    if record is None or (kind is not None and TYPE_NAMES[record.type] != kind.lower()):
        return []
    return [key]


# --------------------------------------------------------------------------
# KEYS


@command(
    "KEYS",
    since="1.0.0",
    group="generic",
    flags=READONLY,
    summary="Lists the keys that match a pattern.",
    complexity="O(N), N the number of keys with the pattern's literal beginning; above some "
    "thousand keys others' commands run meanwhile, and what they change may be seen or not",
    args=(Pattern("pattern"),),
    acl=("keyspace", "dangerous"),
    tips=("request_policy:all_shards", "nondeterministic_output_order"),
)
def keys(ctx: Context, pattern: bytes) -> Any:
    if is_literal(pattern):
        return [] if ctx.keys.get(pattern) is None else [pattern]
    matches, begins = _matcher(pattern), literal_prefix(pattern)
    found, after = _matching(ctx.keys, b"", begins, matches)
    if after is None:
        return found
    if not ctx.executing:
        return _keys_in_slices(ctx, found, after, begins, matches)
    while after is not None:
        more, after = _matching(ctx.keys, after, begins, matches)
        found += more
    return found


def _matching(
    database: Database, start: bytes, begins: bytes, matches: Matcher
) -> tuple[list[bytes], bytes | None]:
    page, after = database.page(start, KEYS_SLICE, begins)
    return [key for key, _ in page if matches(key)], after


async def _keys_in_slices(
    ctx: Context, found: list[bytes], after: bytes | None, begins: bytes, matches: Matcher
) -> list[bytes]:
    while after is not None:
        await asyncio.sleep(0)
        ctx.server.keyspace.begin_batch()
        more, after = _matching(ctx.keys, after, begins, matches)
        found += more
    return found


# --------------------------------------------------------------------------
# RANDOMKEY


@command(
    "RANDOMKEY",
    since="1.0.0",
    group="generic",
    flags=READONLY,
    summary="Picks a key at random, nil if there is none. Not all keys are equally likely.",
    complexity="O(L) seeks, L the length of keys",
    tips=("request_policy:all_shards", "response_policy:special", "nondeterministic_output"),
)
def randomkey(ctx: Context) -> bytes | None:
    database = ctx.keys
    for _ in range(DESCENTS):
        page, after = database.page(b"", NEIGHBOURS, _random_beginning(database))
        if page:
            return random.choice(page)[0]
        if after is None and not database.keys:
            return None
    # Hardly any key is left that has not expired: the first one, wherever it is.
    page, after = [], b""
    while not page and after is not None:
        page, after = database.page(after, SCAN_MOST)
    return page[0][0] if page else None


def _random_beginning(database: Database) -> bytes:
    """The beginning of few keys, found by choosing every byte evenly among those that occur.

    A byte that is drawn but does not occur is drawn again a few times; then
    the next one that does is taken, so that sparse alphabets end as well.
    """
    begins = b""
    for _ in range(DEEPEST):
        low, high = database.edge_key(begins), database.edge_key(begins, last=True)
        if low is None or high is None or low == high:
            break
        column = _shared_length(low, high)
        shared = low[:column]
        if low == shared:  # a key that others begin with: the end of the way, or passed by
            if random.randrange(NEIGHBOURS) == 0:
                return low
            low = database.edge_key(shared, beyond=low) or high
        least = low[column]
        for _ in range(DRAWS):
            drawn = bytes((random.randint(least, high[column]),))
            if (key := database.edge_key(shared + drawn)) is not None:
                begins = key[: column + 1]
                break
        else:
            begins = high[: column + 1]
        if database.page(b"", NEIGHBOURS, begins)[1] is None:
            break
    return begins


def _shared_length(one: bytes, other: bytes) -> int:
    """How many bytes two keys begin with in common."""
    for at, (mine, its) in enumerate(zip(one, other, strict=False)):
        if mine != its:
            return at
    return min(len(one), len(other))
