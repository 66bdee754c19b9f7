"""What a vector set is: defined by VCREATE, or implied by the first VADD."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from norikv_resp.command import Request, parse_float, parse_int
from norikv_resp.errors import ReplyError, SyntaxProblem
from norikv_resp.vector_rows import (
    B1,
    BF16,
    COSINE,
    F16,
    F32,
    FLAT,
    HNSW,
    I8,
    IP,
    L2,
    MADE,
    PROJECTED,
    Definition,
)

from .errors import (
    INVALID_DIM,
    INVALID_EF,
    INVALID_EF_CONSTRUCTION,
    INVALID_M,
    DefinitionMismatch,
)
from .specification import LARGEST_DIMENSIONS, Specification

METRICS = {b"COSINE": COSINE, b"L2": L2, b"IP": IP}
INDEXES = {b"HNSW": HNSW, b"FLAT": FLAT}
QUANTISATIONS = {b"F32": F32, b"F16": F16, b"BF16": BF16, b"I8": I8, b"B1": B1}

#: VADD's options for the quantisation, and what Redis takes where there is none.
QUANTISATION_OPTIONS = {b"NOQUANT": F32, b"Q8": I8, b"BIN": B1}
REDIS_QUANTISATION = I8

DEFAULT_M, LEAST_M, LARGEST_M = 16, 4, 4096
DEFAULT_EF_CONSTRUCTION, LARGEST_EF = 128, 1_000_000

Convert = Callable[[bytes], Any]


def bounded(error: ReplyError, least: int, most: int) -> Convert:
    """Reads an integer within bounds; anything else is *error*."""

    def convert(word: bytes) -> int:
        try:
            number = parse_int(word)
        except ReplyError:
            raise error from None
        if not least <= number <= most:
            raise error
        return number

    return convert


def number(error: ReplyError, above: float | None = None) -> Convert:
    """Reads a number, one greater than *above*; anything else is *error*."""

    def convert(word: bytes) -> float:
        try:
            value = parse_float(word)
        except ReplyError:
            raise error from None
        if above is not None and value <= above:
            raise error
        return value

    return convert


def one_of(choices: dict[bytes, int]) -> Convert:
    """Reads one of some words; anything else is a syntax error."""

    def convert(word: bytes) -> int:
        choice = choices.get(word.upper())
        if choice is None:
            raise SyntaxProblem
        return choice

    return convert


def scan(
    request: Request,
    at: int,
    flags: frozenset[bytes],
    values: dict[bytes, Convert],
    error: ReplyError,
) -> dict[bytes, Any]:
    """The options from word *at* on: those in *flags* as True, those in *values* converted.

    *error* for any other word, and for an option that lacks its value. Of several the last counts,
    and its place is that of the last.
    """
    found: dict[bytes, Any] = {}
    end = len(request)
    while at < end:
        option = request[at].upper()
        found.pop(option, None)
        if option in flags:
            found[option] = True
            at += 1
        elif option in values and at + 1 < end:
            found[option] = values[option](request[at + 1])
            at += 2
        else:
            raise error
    return found


to_ef = bounded(INVALID_EF, 1, LARGEST_EF)
to_m = bounded(INVALID_M, LEAST_M, LARGEST_M)

_CREATE_OPTIONS: dict[bytes, Convert] = {
    b"DIM": bounded(INVALID_DIM, 1, LARGEST_DIMENSIONS),
    b"METRIC": one_of(METRICS),
    b"TYPE": one_of(INDEXES),
    b"QUANT": one_of(QUANTISATIONS),
    b"M": to_m,
    b"EF_CONSTRUCTION": bounded(INVALID_EF_CONSTRUCTION, 1, LARGEST_EF),
    b"EF": to_ef,
}


def parse_definition(request: Request) -> Definition:
    """What VCREATE defines, from its words behind the key."""
    options = scan(request, 2, frozenset(), _CREATE_OPTIONS, SyntaxProblem())
    if b"DIM" not in options:
        raise SyntaxProblem
    return Definition(
        metric=options.get(b"METRIC", COSINE),
        index=options.get(b"TYPE", HNSW),
        quantisation=options.get(b"QUANT", F32),
        flags=MADE,
        dimensions=options[b"DIM"],
        projected_from=0,
        m=options.get(b"M", DEFAULT_M),
        ef_construction=options.get(b"EF_CONSTRUCTION", DEFAULT_EF_CONSTRUCTION),
        ef=options.get(b"EF", 0),
    )


def implied(
    vector: Specification, quantisation: int | None, m: int | None, ef: int | None
) -> Definition:
    """What a first VADD makes: as in Redis."""
    return Definition(
        metric=COSINE,
        index=HNSW,
        quantisation=quantisation or REDIS_QUANTISATION,
        flags=PROJECTED if vector.reduce else 0,
        dimensions=vector.reduce or vector.dimensions,
        projected_from=vector.dimensions if vector.reduce else 0,
        m=m or DEFAULT_M,
        ef_construction=ef or DEFAULT_EF_CONSTRUCTION,
        ef=0,
    )


def is_allowed(definition: Definition) -> bool:
    """Whether VCREATE or VADD could have made such a set: of one that comes from outside."""
    return (
        1 <= definition.dimensions <= LARGEST_DIMENSIONS
        and definition.projected_from <= LARGEST_DIMENSIONS
        and LEAST_M <= definition.m <= LARGEST_M
        and 1 <= definition.ef_construction <= LARGEST_EF
        and definition.ef <= LARGEST_EF
    )


def require_same(existing: Definition, wanted: Definition) -> None:
    """DefinitionMismatch unless both are the same index, whoever has made it."""
    for name, has, asked in zip(Definition._fields, existing, wanted, strict=True):
        if has != asked and name != "flags":
            raise DefinitionMismatch(f"its {_SPOKEN[name]} is {_word(name, has)}")


_SPOKEN = {
    "metric": "METRIC",
    "index": "TYPE",
    "quantisation": "QUANT",
    "dimensions": "DIM",
    "projected_from": "REDUCE input",
    "m": "M",
    "ef_construction": "EF_CONSTRUCTION",
    "ef": "EF",
}
_WORDS = {"metric": METRICS, "index": INDEXES, "quantisation": QUANTISATIONS}


def _word(name: str, value: int) -> str:
    """A value as VCREATE writes it."""
    for word, number in _WORDS.get(name, {}).items():
        if number == value:
            return word.decode()
    return str(value)
