"""Commands that look at vector sets without searching."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

from norikv_resp.command import (
    FAST,
    READONLY,
    Bytes,
    Int,
    Request,
    Token,
    command,
    parse_int,
)
from norikv_resp.errors import ReplyError, WrongArity
from norikv_resp.protocol import NULL_ARRAY, Map, Simple
from norikv_resp.vector_rows import B1, BF16, COSINE, F16, F32, I8, Definition

from . import model
from .arrays import floats, np
from .commands import KEY
from .definition import INDEXES, METRICS
from .errors import (
    INVALID_OPTION,
    INVALID_RANGE_COUNT,
    INVALID_RANGE_END,
    INVALID_RANGE_START,
    NO_SUCH_SET,
    RANDOM_COUNT_NOT_AN_INTEGER,
    RANDOM_COUNT_TOO_LARGE,
    RANGE_ENDS_SWAPPED,
)
from .model import Members

if TYPE_CHECKING:
    from norikv_resp.context import Context
    from norikv_resp.database import Database

    from .arrays import Floats

#: Names as VINFO and VEMB RAW show them.
QUANTISATION_NAMES = {F32: b"f32", F16: b"f16", BF16: b"bf16", I8: b"int8", B1: b"bin"}
_METRIC_NAMES = {number: word.lower() for word, number in METRICS.items()}
_INDEX_NAMES = {number: word.lower() for word, number in INDEXES.items()}

#: Elements that VRANDMEMBER names at most, where repetitions are allowed.
MOST_RANDOM = 1_000_000


@command(
    "VCARD",
    since="8.0.0",
    group="module",
    flags=READONLY | FAST,
    summary="Tells how many elements a vector set has.",
    complexity="O(1)",
    args=(KEY,),
)
def vcard(ctx: Context, key: bytes) -> int:
    vector_set = model.read(ctx.keys, key)
    return 0 if vector_set is None else vector_set.count


@command(
    "VDIM",
    since="8.0.0",
    group="module",
    flags=READONLY | FAST,
    summary="Tells the dimensions of the vectors in a vector set.",
    complexity="O(1)",
    args=(KEY,),
)
def vdim(ctx: Context, key: bytes) -> int:
    vector_set = model.read(ctx.keys, key)
    if vector_set is None:
        raise NO_SUCH_SET
    return vector_set.definition.dimensions


@command(
    "VISMEMBER",
    since="8.2.0",
    group="module",
    flags=READONLY,
    summary="Tells whether an element is in a vector set.",
    complexity="O(1)",
    args=(KEY, Bytes("element")),
)
def vismember(ctx: Context, key: bytes, element: bytes) -> bool:
    vector_set = model.read(ctx.keys, key)
    return vector_set is not None and bool(Members(ctx.keys, vector_set).label(element))


@command(
    "VGETATTR",
    since="8.0.0",
    group="module",
    flags=READONLY | FAST,
    summary="Returns the attributes of an element.",
    complexity="O(1)",
    args=(KEY, Bytes("element")),
)
def vgetattr(ctx: Context, key: bytes, element: bytes) -> bytes | None:
    vector_set = model.read(ctx.keys, key)
    if vector_set is None:
        return None
    members = Members(ctx.keys, vector_set)
    label = members.label(element)
    return members.attributes(label) if label else None


@command(
    "VINFO",
    since="8.0.0",
    group="module",
    flags=READONLY | FAST,
    summary="Describes a vector set and its index.",
    complexity="O(1)",
    args=(KEY,),
)
def vinfo(ctx: Context, key: bytes) -> Any:
    vector_set = model.read(ctx.keys, key)
    if vector_set is None:
        return NULL_ARRAY
    definition, count = vector_set.definition, vector_set.count
    fields: dict[bytes, Any] = {
        b"quant-type": Simple(QUANTISATION_NAMES[definition.quantisation]),
        b"hnsw-m": definition.m,
        b"vector-dim": definition.dimensions,
        b"projection-input-dim": definition.projected_from,
        b"size": count,
        # What a graph of so many elements has, about.
        b"max-level": int(math.log(count, definition.m)) if count else 0,
        b"attributes-count": vector_set.attributed,
        b"vset-uid": vector_set.cid,
        b"hnsw-max-node-uid": vector_set.next_label - 1,
        # Ours.
        b"metric": Simple(_METRIC_NAMES[definition.metric]),
        b"index-type": Simple(_INDEX_NAMES[definition.index]),
        b"ef-construction": definition.ef_construction,
        b"ef": definition.ef,
    }
    return Map([(Simple(name), value) for name, value in fields.items()])


# --------------------------------------------------------------------------
# VEMB


def _parse_vemb(request: Request) -> list[Any]:
    for word in request[3:]:
        if word.upper() != b"RAW":
            raise INVALID_OPTION
    return [request[1], request[2], len(request) > 3]


@command(
    "VEMB",
    since="8.0.0",
    group="module",
    flags=READONLY | FAST,
    summary="Returns the vector of an element.",
    complexity="O(D), D the dimensions",
    args=(KEY, Bytes("element"), Token("RAW")),
    parse=_parse_vemb,
)
def vemb(ctx: Context, key: bytes, element: bytes, raw: bool) -> list[Any] | None:
    vector_set = model.read(ctx.keys, key)
    if vector_set is None:
        return None
    stored = Members(ctx.keys, vector_set).floats(element)
    if stored is None:
        return None
    vector = floats(stored)
    return _raw(vector_set.definition, vector) if raw else vector.tolist()


def _raw(definition: Definition, vector: Floats) -> list[Any]:
    """Name, bytes and length of a vector as Redis holds it: normalised, then quantised.

    With int8 also the range that the bytes stand for. Other metrics than cosine do not normalise.
    """
    length = 1.0
    if definition.metric == COSINE:
        length = float(np.sqrt(vector.astype(np.float64) @ vector.astype(np.float64)))
        vector = vector / np.float32(length or 1.0)
    quantisation = definition.quantisation
    reply: list[Any] = [Simple(QUANTISATION_NAMES[quantisation])]
    if quantisation == I8:
        reach = float(np.abs(vector).max())
        steps = np.rint(vector * (127.0 / (reach or 1.0))).astype(np.int8)
        return [*reply, steps.tobytes(), length, reach]
    if quantisation == B1:
        bits = np.packbits(vector > 0, bitorder="little").tobytes()
        return [*reply, bits.ljust(-(-len(bits) // 8) * 8, b"\0"), length]
    if quantisation == F16:
        with np.errstate(over="ignore"):
            return [*reply, vector.astype("<f2").tobytes(), length]
    if quantisation == BF16:
        halves = (vector.view("<u4") >> np.uint32(16)).astype("<u2")
        return [*reply, halves.tobytes(), length]
    return [*reply, vector.tobytes(), length]


# --------------------------------------------------------------------------
# VRANDMEMBER and VRANGE


def _parse_vrandmember(request: Request) -> list[Any]:
    if len(request) > 3:
        raise WrongArity("VRANDMEMBER")
    if len(request) == 2:
        return [request[1], None]
    try:
        return [request[1], parse_int(request[2])]
    except ReplyError:
        raise RANDOM_COUNT_NOT_AN_INTEGER from None


@command(
    "VRANDMEMBER",
    since="8.0.0",
    group="module",
    flags=READONLY,
    summary="Returns elements chosen at random; a negative count allows repetitions.",
    complexity="O(N), N the elements returned; O(size) for a large part of the set, and of one "
    "whose elements were replaced or removed many times",
    args=(KEY, Int("count", optional=True)),
    parse=_parse_vrandmember,
)
def vrandmember(ctx: Context, key: bytes, count: int | None) -> bytes | list[bytes] | None:
    vector_set = model.read(ctx.keys, key) if count != 0 else None
    if vector_set is None or not vector_set.count:
        return None if count is None else []
    if count is None:
        return _random_ids(ctx.keys, vector_set, 1)[0]
    if count < -MOST_RANDOM:
        raise RANDOM_COUNT_TOO_LARGE
    return _random_ids(ctx.keys, vector_set, count)


def _random_ids(keys: Database, vector_set: model.VectorSet, count: int) -> list[bytes]:
    members = Members(keys, vector_set)
    wanted = abs(count) if count < 0 else min(count, vector_set.count)
    # One try finds an element with a probability of elements / labels given out; a list of all
    # ids costs as much as some tries for each.
    if wanted * vector_set.next_label * 8 > vector_set.count**2:
        everything = members.ids(b"", None, None)
        if count < 0:
            return random.choices(everything, k=wanted)
        return random.sample(everything, min(wanted, len(everything)))
    if count < 0:
        return [members.random_id(vector_set) for _ in range(wanted)]
    chosen: dict[bytes, None] = {}
    while len(chosen) < wanted:
        chosen[members.random_id(vector_set)] = None
    return list(chosen)


def _parse_vrange(request: Request) -> list[Any]:
    if len(request) > 5:
        raise WrongArity("VRANGE")
    count = -1
    if len(request) == 5:
        try:
            count = parse_int(request[4])
        except ReplyError:
            raise INVALID_RANGE_COUNT from None
    start, end = request[2], request[3]
    _require_bound(start, INVALID_RANGE_START)
    _require_bound(end, INVALID_RANGE_END)
    if start == b"+" or end == b"-":
        raise RANGE_ENDS_SWAPPED
    low = b"" if start == b"-" else start[1:] + (b"\0" if start[:1] == b"(" else b"")
    stop = None if end == b"+" else end[1:] + (b"\0" if end[:1] == b"[" else b"")
    return [request[1], low, stop, count]


def _require_bound(word: bytes, error: ReplyError) -> None:
    if word not in (b"-", b"+") and (word[:1] not in (b"[", b"(") or len(word) < 2):
        raise error


@command(
    "VRANGE",
    since="8.4.0",
    group="module",
    flags=READONLY,
    summary="Returns the elements in a range of names, in the order of their bytes.",
    complexity="O(N), N the elements returned",
    args=(KEY, Bytes("start"), Bytes("end"), Int("count", optional=True)),
    parse=_parse_vrange,
)
def vrange(ctx: Context, key: bytes, low: bytes, stop: bytes | None, count: int) -> list[bytes]:
    vector_set = model.read(ctx.keys, key)
    if vector_set is None:
        return []
    return Members(ctx.keys, vector_set).ids(low, stop, None if count < 0 else count)
