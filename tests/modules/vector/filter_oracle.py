"""Random filters with what they mean, worked out from their tree and json.loads alone."""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

Document = dict[str, Any]

#: C's own functions: what Redis computes with.
_c = ctypes.CDLL(ctypes.util.find_library("m"))
_libc = ctypes.CDLL(ctypes.util.find_library("c"))
for _name in ("pow", "fmod"):
    getattr(_c, _name).restype = ctypes.c_double
    getattr(_c, _name).argtypes = [ctypes.c_double, ctypes.c_double]
_libc.strtod.restype = ctypes.c_double
_libc.strtod.argtypes = [ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)]


class Absent(Exception):
    """A field is not there: the whole filter is false."""


@dataclass
class Expression:
    """A part of a filter: how it is written and what it gives for a document."""

    text: str
    value: Callable[[Document], Any]


def number(value: Any) -> float:
    """As arithmetic sees a value."""
    if isinstance(value, float):
        return value
    if not isinstance(value, str):
        return 0.0
    text = value.encode("utf-8", "surrogatepass")
    if len(text) > 255:
        return 0.0
    buffer = ctypes.create_string_buffer(text)
    end = ctypes.c_void_p()
    result: float = _libc.strtod(ctypes.addressof(buffer), ctypes.byref(end))
    assert end.value is not None
    return result if ctypes.string_at(end.value, 1) == b"\0" else 0.0


def truth(value: Any) -> bool:
    """As logic sees it."""
    if value is None:
        return False
    if isinstance(value, float):
        return value != 0
    return value != "" if isinstance(value, str) else True


def equal(left: Any, right: Any) -> bool:
    if isinstance(left, str) and isinstance(right, str):
        return left == right
    if left is None or right is None:
        return left is None and right is None
    return number(left) == number(right)


def contained(left: Any, right: Any) -> bool:
    if isinstance(right, list):
        return any(equal(left, element) for element in right)
    return isinstance(left, str) and isinstance(right, str) and left in right


def divide(left: float, right: float) -> float:
    if right == 0:
        if left == 0 or math.isnan(left):
            return math.nan
        return math.copysign(math.inf, left) * math.copysign(1, right)
    return left / right


BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "**": lambda a, b: _c.pow(number(a), number(b)),
    "*": lambda a, b: number(a) * number(b),
    "/": lambda a, b: divide(number(a), number(b)),
    "%": lambda a, b: _c.fmod(number(a), number(b)),
    "+": lambda a, b: number(a) + number(b),
    "-": lambda a, b: number(a) - number(b),
    ">": lambda a, b: float(number(a) > number(b)),
    ">=": lambda a, b: float(number(a) >= number(b)),
    "<": lambda a, b: float(number(a) < number(b)),
    "<=": lambda a, b: float(number(a) <= number(b)),
    "==": lambda a, b: float(equal(a, b)),
    "!=": lambda a, b: float(not equal(a, b)),
    "in": lambda a, b: float(contained(a, b)),
    "and": lambda a, b: float(truth(a) and truth(b)),
    "&&": lambda a, b: float(truth(a) and truth(b)),
    "or": lambda a, b: float(truth(a) or truth(b)),
    "||": lambda a, b: float(truth(a) or truth(b)),
}


def lookup(document: Document, path: list[str]) -> Any:
    """A field, with lists and numbers as filters have them."""
    found: Any = document
    for name in path:
        if not isinstance(found, dict) or name not in found:
            raise Absent
        found = found[name]
    return usable(found)


def usable(value: Any) -> Any:
    if isinstance(value, dict):
        raise Absent
    if isinstance(value, list):
        return [usable(element) for element in value]
    return float(value) if isinstance(value, bool | int) else value


def matches(expression: Expression, document: Any) -> bool:
    """What the server ought to say."""
    try:
        return truth(expression.value(document if isinstance(document, dict) else {}))
    except Absent:
        return False


# ---- what is drawn

FIELDS = ("a", "b", "c_1", "d-2")

_texts = st.sampled_from(("", "x", "y", "xy", "12", "-3.5", " 7", "1e3", "0x10", "inf", "nan", "é"))
texts = _texts | st.text("xy1.-e ", max_size=4)
numbers = st.sampled_from((0.0, 1.0, 2.0, 3.0, 12.0, 0.5, 1e3, 1e300)) | st.integers(0, 10**6).map(
    float
)

scalars = st.none() | st.booleans() | numbers | numbers.map(lambda n: -n) | texts
values = st.recursive(
    scalars | st.lists(scalars, max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=2)
    ),
    max_leaves=6,
)
documents = st.dictionaries(st.sampled_from(FIELDS), values, max_size=4)
attributes = documents | documents | documents | values


def literal(value: Any) -> Expression:
    """A number, a string or a list."""
    if isinstance(value, list):
        text = "[" + ", ".join(literal(element).text for element in value) + "]"
    elif isinstance(value, str):
        text = f"'{value}'" if len(value) % 2 else f'"{value}"'
    else:
        text = repr(value).replace("e+", "e")  # a sign in the exponent is an error
    return Expression(text, lambda _: value)


def selector(path: list[str]) -> Expression:
    return Expression("".join(f".{name}" for name in path), lambda d: lookup(d, path))


def negated(inner: Expression, sign: str) -> Expression:
    return Expression(f"{sign} ({inner.text})", lambda d: float(not truth(inner.value(d))))


def joined(left: Expression, sign: str, right: Expression) -> Expression:
    def value(document: Document) -> Any:
        return BINARY[sign](left.value(document), right.value(document))

    return Expression(f"({left.text}) {sign} ({right.text})", value)


_names = st.sampled_from(FIELDS)
_fields = (_names.map(lambda n: [n]) | st.lists(_names, min_size=2, max_size=2)).map(selector)
_literals = (numbers | texts | st.lists(numbers | texts, max_size=4)).map(literal) | st.just(
    Expression("null", lambda _: None)
)
_leaves = _fields | _fields | _literals

expressions = st.recursive(
    _leaves,
    lambda inner: (
        st.builds(negated, inner, st.sampled_from(("!", "not")))
        | st.builds(joined, inner, st.sampled_from(sorted(BINARY)), inner)
    ),
    max_leaves=8,
)


def encoded(value: Any) -> bytes:
    """A document as VSETATTR takes it."""
    return json.dumps(value).encode()
