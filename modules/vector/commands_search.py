"""Commands that search: VSIM and VLINKS with Redis's replies, VSEARCH with ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from norikv_resp.command import (
    FAST,
    INT64_MAX,
    READONLY,
    Bytes,
    Float,
    Int,
    OneOf,
    Request,
    Token,
    command,
)
from norikv_resp.encoding import Collection
from norikv_resp.errors import WrongArity
from norikv_resp.protocol import Map

from . import filters, model, projection
from .arrays import are_finite, floats
from .commands import KEY
from .definition import Convert, bounded, number, scan, to_ef
from .engine import engine
from .errors import (
    INVALID_COUNT,
    INVALID_EPSILON,
    INVALID_FILTER_EF,
    INVALID_K,
    INVALID_RADIUS,
    NO_SUCH_ELEMENT,
    NOT_FINITE,
    VSEARCH_SYNTAX,
    VSIM_SYNTAX,
    DimensionMismatch,
    InputMismatch,
)
from .model import Members, VectorSet
from .queries import Hit, Query
from .specification import parse_specification

if TYPE_CHECKING:
    from norikv_resp.context import Context
    from norikv_resp.database import Database

    from .arrays import Floats

#: What VSIM returns at most unless COUNT says otherwise.
DEFAULT_COUNT = 10

_QUERY = OneOf(
    "query",
    Bytes("element", token="ELE"),
    Bytes("blob", token="FP32"),
    Bytes("values", token="VALUES", display="num value [value ...]"),
    optional=False,
)
_FILTER_OPTIONS = (
    Bytes("expression", token="FILTER", optional=True),
    Int("filter-exploration-factor", token="FILTER-EF", optional=True),
)

_FILTER_VALUES: dict[bytes, Convert] = {
    b"FILTER": filters.parse,
    b"FILTER-EF": bounded(INVALID_FILTER_EF, 1, INT64_MAX),
    b"EF": to_ef,
}
_SIM_FLAGS = frozenset((b"WITHSCORES", b"WITHATTRIBS", b"TRUTH", b"NOTHREAD"))
_SIM_VALUES: dict[bytes, Convert] = {
    b"COUNT": bounded(INVALID_COUNT, 1, INT64_MAX),
    b"EPSILON": number(INVALID_EPSILON, above=0.0),
    **_FILTER_VALUES,
}
_SEARCH_FLAGS = frozenset((b"WITHATTRIBS", b"WITHVECTORS"))
_SEARCH_VALUES: dict[bytes, Convert] = {b"RADIUS": number(INVALID_RADIUS), **_FILTER_VALUES}
_to_k = bounded(INVALID_K, 1, INT64_MAX)

Make = Callable[[list[Hit]], Any]


def _query_vector(
    keys: Database, vector_set: VectorSet, request: Request, at: int
) -> tuple[Floats, int]:
    """The vector that a search names at word *at*, and where its options begin."""
    definition = vector_set.definition
    if request[at].upper() == b"ELE" and len(request) > at + 1:
        stored = Members(keys, vector_set).floats(request[at + 1])
        if stored is None:
            raise NO_SUCH_ELEMENT
        return floats(stored), at + 2
    given = parse_specification(request, at, may_reduce=False)
    raw = given.floats
    projects = definition.projected_from and given.dimensions != definition.dimensions
    if projects and given.dimensions != definition.projected_from:
        raise InputMismatch(given.dimensions, definition.projected_from)
    if not projects and given.dimensions != definition.dimensions:
        raise DimensionMismatch(given.dimensions, definition.dimensions)
    if not are_finite(raw):
        raise NOT_FINITE
    if projects:
        cid = vector_set.cid
        raw = projection.apply(projection.matrix_of(keys.elements(cid), definition, cid), raw)
    return floats(raw), given.end


def _query(
    vector_set: VectorSet,
    vector: Floats,
    count: int,
    options: dict[bytes, Any],
    radius: float | None,
) -> Query:
    return Query(
        vector,
        # Whatever is asked for, there cannot be more.
        min(count, vector_set.count),
        options.get(b"EF"),
        b"TRUTH" in options,
        radius,
        options.get(b"FILTER"),
        options.get(b"FILTER-EF"),
    )


def _search(ctx: Context, key: bytes, vector_set: VectorSet, query: Query, answer: Make) -> Any:
    """What *answer* makes of the hits, now or later."""
    keys, cid = ctx.keys, vector_set.cid

    def answer_later(hits: list[Hit]) -> Any:
        record = keys.get(key)
        found = None if record is None else record.value
        # The set may have gone meanwhile.
        return answer(hits if type(found) is Collection and found.cid == cid else [])

    found = engine.search(ctx, key, vector_set, query, answer_later)
    return answer(found) if isinstance(found, list) else found


# --------------------------------------------------------------------------
# VSIM


@command(
    "VSIM",
    since="8.0.0",
    group="module",
    flags=READONLY,
    summary="Returns the elements most similar to a vector or an element, the best first.",
    complexity="O(log(N)), N the elements; O(N) with TRUTH and for rare filters",
    args=(
        KEY,
        _QUERY,
        Token("WITHSCORES"),
        Token("WITHATTRIBS"),
        Int("count", token="COUNT", optional=True),
        Float("max-distance", token="EPSILON", optional=True),
        Int("search-exploration-factor", token="EF", optional=True),
        *_FILTER_OPTIONS,
        Token("TRUTH"),
        Token("NOTHREAD"),
    ),
    parse=lambda request: [request],
)
def vsim(ctx: Context, request: Request) -> Any:
    keys, key = ctx.keys, request[1]
    vector_set = model.read(keys, key)
    if vector_set is None:
        return []
    vector, at = _query_vector(keys, vector_set, request, 2)
    options = scan(request, at, _SIM_FLAGS, _SIM_VALUES, VSIM_SYNTAX)
    # A score is 1 - distance / 2, and EPSILON bounds how far it is from 1.
    epsilon = options.get(b"EPSILON")
    radius = None if epsilon is None else 2.0 * epsilon
    count = options.get(b"COUNT", DEFAULT_COUNT)
    members = Members(keys, vector_set)
    scores, attributes = b"WITHSCORES" in options, b"WITHATTRIBS" in options

    def answer(hits: list[Hit]) -> Any:
        if not scores and not attributes:
            return [hit.id for hit in hits]
        if not attributes:
            return Map([(hit.id, _score(hit)) for hit in hits])
        if not scores:
            return Map([(hit.id, members.attributes(hit.label)) for hit in hits])
        pairs = [(hit.id, [_score(hit), members.attributes(hit.label)]) for hit in hits]
        if ctx.resp3:
            return Map(pairs)
        return [part for ident, both in pairs for part in (ident, *both)]

    return _search(ctx, key, vector_set, _query(vector_set, vector, count, options, radius), answer)


def _score(hit: Hit) -> float:
    """How similar an element is, as Redis says it: 1 for the same direction, 0 for the opposite."""
    return 1.0 - hit.distance / 2.0


# --------------------------------------------------------------------------
# VSEARCH


@command(
    "VSEARCH",
    group="module",
    flags=READONLY,
    summary="Returns the k elements nearest to a vector or an element with their distances.",
    complexity="O(log(N)), N the elements; O(N) for flat sets and rare filters",
    args=(
        KEY,
        Int("k"),
        _QUERY,
        Int("exploration-factor", token="EF", optional=True),
        *_FILTER_OPTIONS,
        Float("distance", token="RADIUS", optional=True),
        Token("WITHATTRIBS"),
        Token("WITHVECTORS"),
    ),
    parse=lambda request: [request],
)
def vsearch(ctx: Context, request: Request) -> Any:
    keys, key = ctx.keys, request[1]
    k = _to_k(request[2])
    vector_set = model.read(keys, key)
    if vector_set is None:
        return []
    vector, at = _query_vector(keys, vector_set, request, 3)
    options = scan(request, at, _SEARCH_FLAGS, _SEARCH_VALUES, VSEARCH_SYNTAX)
    members = Members(keys, vector_set)
    attributes, vectors = b"WITHATTRIBS" in options, b"WITHVECTORS" in options

    def answer(hits: list[Hit]) -> list[Any]:
        reply: list[Any] = []
        for hit in hits:
            reply += (hit.id, hit.distance)
            if attributes:
                reply.append(members.attributes(hit.label))
            if vectors:
                stored = members.vector(hit.label)
                reply.append(None if stored is None else stored[0])
        return reply

    query = _query(vector_set, vector, k, options, options.get(b"RADIUS"))
    return _search(ctx, key, vector_set, query, answer)


# --------------------------------------------------------------------------
# VLINKS


def _parse_vlinks(request: Request) -> list[Any]:
    if len(request) > 4 or (len(request) == 4 and request[3].upper() != b"WITHSCORES"):
        raise WrongArity("VLINKS")
    return [request[1], request[2], len(request) == 4]


@command(
    "VLINKS",
    since="8.0.0",
    group="module",
    flags=READONLY | FAST,
    summary="Returns the neighbors of an element: the nearest ones, as many as a node has links.",
    complexity="O(log(N)), N the elements",
    args=(KEY, Bytes("element"), Token("WITHSCORES")),
    parse=_parse_vlinks,
)
def vlinks(ctx: Context, key: bytes, element: bytes, withscores: bool) -> Any:
    keys = ctx.keys
    vector_set = model.read(keys, key)
    if vector_set is None:
        return None
    stored = Members(keys, vector_set).floats(element)
    if stored is None:
        return None

    def answer(hits: list[Hit]) -> list[Any]:
        others = [hit for hit in hits if hit.id != element][: vector_set.definition.m]
        if withscores:
            return [Map([(hit.id, _score(hit)) for hit in others])]
        return [[hit.id for hit in others]]

    # The element finds itself, perhaps behind others that are equal to it.
    query = _query(vector_set, floats(stored), vector_set.definition.m + 1, {}, None)
    return _search(ctx, key, vector_set, query, answer)
