"""Commands that change vector sets: VADD, VMADD, VREM, VSETATTR, VCREATE, VDROP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from norikv_resp.command import (
    DENYOOM,
    FAST,
    WRITE,
    Bytes,
    Idem,
    Int,
    Key,
    OneOf,
    Request,
    Token,
    command,
    parse_int,
)
from norikv_resp.errors import ReplyError, WrongArity
from norikv_resp.vector_rows import FLOAT_SIZE, MADE, Definition

from . import model, projection
from .arrays import are_finite, floats
from .definition import (
    DEFAULT_M,
    QUANTISATION_OPTIONS,
    REDIS_QUANTISATION,
    Convert,
    implied,
    parse_definition,
    require_same,
    scan,
    to_ef,
    to_m,
)
from .engine import engine
from .errors import (
    BAD_VECTOR_COUNT,
    INVALID_OPTION_AFTER_ELEMENT,
    M_MISMATCH,
    NO_PROJECTION,
    NOT_FINITE,
    QUANTISATION_MISMATCH,
    DimensionMismatch,
    InputMismatch,
)
from .model import Members, VectorSet
from .specification import (
    Specification,
    dimensions_of,
    end_of_specification,
    parse_specification,
)

if TYPE_CHECKING:
    from norikv_resp.context import Context
    from norikv_resp.database import Database

#: Redis gives all commands of its vector sets these key spec flags.
KEY = Key(access="RW", does=("access", "update"))

VECTOR = OneOf(
    "vector",
    Bytes("blob", token="FP32"),
    Bytes("values", token="VALUES", display="num value [value ...]"),
    optional=False,
)


# --------------------------------------------------------------------------
# VADD


class _Options(NamedTuple):
    """What follows the element; None for what is left out."""

    quantisation: int | None = None
    m: int | None = None
    ef: int | None = None
    attributes: bytes | None = None
    withver: bool = False
    only_into_existing: bool = False


_NO_OPTIONS = _Options()
_ADD_FLAGS = frozenset((b"CAS", b"WITHVER", b"XX", *QUANTISATION_OPTIONS))
_ADD_VALUES: dict[bytes, Convert] = {b"EF": to_ef, b"M": to_m, b"SETATTR": bytes}


def _parse_vadd(request: Request) -> list[Any]:
    vector = parse_specification(request, 2, may_reduce=True)
    at = vector.end
    if at >= len(request):
        raise WrongArity("VADD")
    options = _parse_options(request, at + 1) if at + 1 < len(request) else _NO_OPTIONS
    return [request[1], vector, request[at], options]


def _parse_options(request: Request, at: int) -> _Options:
    given = scan(request, at, _ADD_FLAGS, _ADD_VALUES, INVALID_OPTION_AFTER_ELEMENT)
    quantisation = None
    for option in given:
        quantisation = QUANTISATION_OPTIONS.get(option, quantisation)
    return _Options(
        quantisation,
        given.get(b"M"),
        given.get(b"EF"),
        given.get(b"SETATTR"),
        b"WITHVER" in given,
        b"XX" in given,
    )


def _idem_in_vadd(request: Request) -> int:
    """Where IDEM stands among the options; 0 for nowhere."""
    if len(request) == 5:
        return 0
    at = end_of_specification(request, 2)
    if not at:
        return 0
    at += 1
    while at + 1 < len(request):
        option = request[at].upper()
        if option == b"IDEM":
            return at
        at += 2 if option in _ADD_VALUES else 1
    return 0


@command(
    "VADD",
    since="8.0.0",
    group="module",
    flags=WRITE | DENYOOM,
    summary="Adds an element with its vector to a vector set, or gives it another vector.",
    complexity="O(D), D the dimensions; the index follows in the background",
    args=(
        KEY,
        Int("dim", token="REDUCE", optional=True),
        VECTOR,
        Bytes("element"),
        Token("CAS"),
        OneOf("quantization", Token("NOQUANT"), Token("Q8"), Token("BIN")),
        Int("build-exploration-factor", token="EF", optional=True),
        Bytes("attributes", token="SETATTR", optional=True),
        Int("numlinks", token="M", optional=True),
        Idem(),
        Token("XX"),
        Token("WITHVER"),
    ),
    parse=_parse_vadd,
    idem_at=_idem_in_vadd,
)
def vadd(
    ctx: Context, key: bytes, vector: Specification, element: bytes, options: _Options
) -> bool | bytes | None:
    keys = ctx.keys
    vector_set = model.find(keys, key)
    model.check_id(element)
    if vector_set is None and options.only_into_existing:
        return None
    if vector_set is None:
        definition = implied(vector, options.quantisation, options.m, options.ef)
        raw = _finite(vector.floats)
        vector_set, raw = _make(keys, definition, raw)
    else:
        _require_agreement(vector_set.definition, vector, options)
        raw = _projected(keys, vector_set, _finite(vector.floats))
    vector_set = _with_label(vector_set)
    added = Members(keys, vector_set).add(keys, vector_set, element, raw, options.attributes)
    model.stage(keys, key, added.vector_set)
    engine.added(
        keys,
        key,
        added.vector_set,
        added.label,
        element,
        floats(raw),
        added.attributes,
        added.replaced or None,
    )
    _end_of_adding(ctx, key, added.vector_set)
    if options.withver:
        return b"%d-%d" % (keys.keyspace.term, keys.keyspace.index)
    return not added.replaced


def _finite(raw: bytes) -> bytes:
    if not are_finite(raw):
        raise NOT_FINITE
    return raw


def _make(keys: Database, definition: Definition, raw: bytes) -> tuple[VectorSet, bytes]:
    """A new set, its projection staged, and *raw* as it is stored in it."""
    if not definition.projected_from:
        return model.new(keys, definition), raw
    matrix = projection.draw(definition)
    raw = projection.apply(matrix, raw)
    vector_set = model.new(keys, definition)
    projection.stage(keys.elements(vector_set.cid), vector_set.cid, matrix)
    return vector_set, raw


def _require_agreement(definition: Definition, vector: Specification, options: _Options) -> None:
    """Raise what Redis says of a vector that does not fit the set.

    What a command leaves out is Redis's default, but on a set made by VCREATE it is what the
    set has.
    """
    asked = options.quantisation or (0 if definition.made else REDIS_QUANTISATION)
    if asked and asked != definition.quantisation:
        raise QUANTISATION_MISMATCH
    m = options.m or (0 if definition.made else DEFAULT_M)
    if m and m != definition.m:
        raise M_MISMATCH
    dimensions = definition.dimensions
    if definition.projected_from:
        if vector.reduce != dimensions:
            raise DimensionMismatch(vector.dimensions, dimensions)
        if vector.dimensions != definition.projected_from:
            raise InputMismatch(vector.dimensions, definition.projected_from)
    elif vector.dimensions != dimensions:
        raise DimensionMismatch(vector.dimensions, dimensions)
    elif vector.reduce:
        raise NO_PROJECTION


def _projected(keys: Database, vector_set: VectorSet, raw: bytes) -> bytes:
    """Vectors that fit the set, as they are stored in it."""
    cid, definition = vector_set.cid, vector_set.definition
    if not definition.projected_from:
        return raw
    return projection.apply(projection.matrix_of(keys.elements(cid), definition, cid), raw)


def _with_label(vector_set: VectorSet) -> VectorSet:
    """The set with the label that its next vector gets."""
    label = engine.next_label(vector_set)
    if label == vector_set.next_label:
        return vector_set
    return vector_set._replace(next_label=label)


def _end_of_adding(ctx: Context, key: bytes, vector_set: VectorSet) -> None:
    ctx.keys.notify("d", b"vadd", key)
    pause = engine.pressure(vector_set)
    if pause:
        ctx.brake(pause)


# --------------------------------------------------------------------------
# VMADD


def _parse_vmadd(request: Request) -> list[Any]:
    try:
        count = parse_int(request[2])
    except ReplyError:
        raise BAD_VECTOR_COUNT from None
    if count < 1 or len(request) != 3 + 2 * count:
        raise BAD_VECTOR_COUNT
    return [request[1], request[3::2], request[4::2]]


def _idem_in_vmadd(request: Request) -> int:
    return 2 if len(request) > 3 and request[2].upper() == b"IDEM" else 0


@command(
    "VMADD",
    group="module",
    flags=WRITE | DENYOOM,
    summary="Adds many elements with their vectors in one commit; tells how many are new.",
    complexity="O(N * D), N the vectors and D their dimensions",
    args=(
        KEY,
        Idem(),
        Int("n"),
        Bytes("vector", multiple=True, display="id fp32 [id fp32 ...]"),
    ),
    min_arity=5,
    parse=_parse_vmadd,
    idem_at=_idem_in_vmadd,
)
def vmadd(ctx: Context, key: bytes, ids: list[bytes], blobs: list[bytes]) -> int:
    keys = ctx.keys
    vector_set = model.find(keys, key)
    for ident in ids:
        model.check_id(ident)
    if vector_set is None:
        given = dimensions_of(blobs[0])
        first = Specification(blobs[0], given, 0, 0)
        definition = implied(first, None, None, None)
    else:
        definition = vector_set.definition
        given = definition.projected_from or definition.dimensions
    raw = _finite(_joined(blobs, given, definition))
    if vector_set is None:
        vector_set, raw = _make(keys, definition, raw)
    else:
        raw = _projected(keys, vector_set, raw)
    size = FLOAT_SIZE * definition.dimensions
    before = vector_set.count
    vector_set = _with_label(vector_set)
    members = Members(keys, vector_set)
    staged: list[model.Added] = []
    for number, ident in enumerate(ids):
        piece = raw[number * size : number * size + size]
        added = members.add(keys, vector_set, ident, piece, None)
        vector_set = added.vector_set
        staged.append(added)
    model.stage(keys, key, vector_set)
    matrix = floats(raw).reshape(len(ids), definition.dimensions)
    for ident, vector, (_, label, replaced, attributes) in zip(ids, matrix, staged, strict=True):
        engine.added(keys, key, vector_set, label, ident, vector, attributes, replaced or None)
    _end_of_adding(ctx, key, vector_set)
    return vector_set.count - before


def _joined(blobs: list[bytes], dimensions: int, definition: Definition) -> bytes:
    """All vectors one after another; the error for the first one of other dimensions."""
    size = FLOAT_SIZE * dimensions
    if any(len(blob) != size for blob in blobs):
        wrong = next(blob for blob in blobs if len(blob) != size)
        got = dimensions_of(wrong)
        if definition.projected_from:
            raise InputMismatch(got, dimensions)
        raise DimensionMismatch(got, dimensions)
    return b"".join(blobs)


# --------------------------------------------------------------------------
# Removing and attributes


@command(
    "VREM",
    since="8.0.0",
    group="module",
    flags=WRITE,
    summary="Removes an element from a vector set.",
    complexity="O(1)",
    args=(KEY, Bytes("element"), Idem()),
    unknown_option=lambda word: WrongArity("VREM"),
)
def vrem(ctx: Context, key: bytes, element: bytes) -> bool:
    keys = ctx.keys
    vector_set = model.find(keys, key)
    if vector_set is None:
        return False
    members = Members(keys, vector_set)
    label = members.label(element)
    if not label:
        return False
    changed = members.remove(vector_set, element, label)
    keys.notify("d", b"vrem", key)
    model.stage_or_remove(keys, key, changed)
    engine.removed(changed, label)
    return True


@command(
    "VSETATTR",
    since="8.0.0",
    group="module",
    flags=WRITE | FAST,
    summary="Sets the attributes of an element, a JSON text; an empty one removes them.",
    complexity="O(1)",
    args=(KEY, Bytes("element"), Bytes("json")),
)
def vsetattr(ctx: Context, key: bytes, element: bytes, json: bytes) -> bool:
    keys = ctx.keys
    vector_set = model.find(keys, key)
    if vector_set is None:
        return False
    members = Members(keys, vector_set)
    label = members.label(element)
    if not label:
        return False
    attributes = json or None
    changed = members.set_attributes(vector_set, label, attributes)
    model.stage(keys, key, changed)
    engine.attributes_changed(changed, label, attributes)
    keys.notify("d", b"vsetattr", key)
    return True


# --------------------------------------------------------------------------
# VCREATE and VDROP


@command(
    "VCREATE",
    group="module",
    flags=WRITE | DENYOOM,
    summary="Defines a vector set, which then stays also when it is empty.",
    complexity="O(1)",
    args=(
        KEY,
        Int("dimensions", token="DIM"),
        Bytes("metric", token="METRIC", optional=True, display="COSINE|L2|IP"),
        Bytes("type", token="TYPE", optional=True, display="HNSW|FLAT"),
        Bytes("quantization", token="QUANT", optional=True, display="F32|F16|BF16|I8|B1"),
        Int("numlinks", token="M", optional=True),
        Int("build-exploration-factor", token="EF_CONSTRUCTION", optional=True),
        Int("exploration-factor", token="EF", optional=True),
        Idem(),
    ),
    parse=lambda request: [request[1], parse_definition(request)],
    idem_at=lambda request: _idem_in_vcreate(request),
)
def vcreate(ctx: Context, key: bytes, definition: Definition) -> int:
    keys = ctx.keys
    existing = model.find(keys, key)
    if existing is None:
        model.stage(keys, key, model.new(keys, definition))
        keys.notify("d", b"vcreate", key)
        return 1
    has = existing.definition
    require_same(has, definition)
    if not has.made:
        # Implied by a VADD so far: from now on it stays when it is empty.
        flags = has.flags | MADE
        model.stage(keys, key, existing._replace(definition=has._replace(flags=flags)))
    return 0


def _idem_in_vcreate(request: Request) -> int:
    for at in range(2, len(request) - 1, 2):
        if request[at].upper() == b"IDEM":
            return at
    return 0


@command(
    "VDROP",
    group="module",
    flags=WRITE,
    summary="Deletes a vector set, also one that VCREATE has made.",
    complexity="O(1); its rows are reclaimed in the background",
    args=(KEY, Idem()),
)
def vdrop(ctx: Context, key: bytes) -> int:
    keys = ctx.keys
    if model.find(keys, key) is None:
        return 0
    keys.delete(key)
    keys.notify("g", b"del", key)
    return 1
