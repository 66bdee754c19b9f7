"""The JSON attributes of an element, as filters see them.

A field has a *value* that expressions compute with: a number (true is 1, false 0), a string, a
list of values, or null. A field is *missing* if it is not there, holds an object or a list with
an object in it, or if the whole text is not a JSON object. Of two fields with the same name the
first counts, as in Redis.
"""

from __future__ import annotations

import json
import re
from enum import Enum
from typing import Any, Final, TypeAlias


class Missing(Enum):
    """The type of MISSING."""

    MISSING = 0


#: What a field that a filter cannot use has in place of a value.
MISSING: Final = Missing.MISSING

Value: TypeAlias = "float | str | tuple[Value, ...] | None"

#: Names from the outermost object inwards; the empty path leads nowhere.
Path: TypeAlias = tuple[str, ...]

#: A list inside lists deeper than this is missing.
MAX_NESTING = 32

#: strtod reads nothing longer here: such a string counts as 0.
_NUMBER_SIZE = 256

_HEXADECIMAL = r"0x(?:[0-9a-f]+\.?[0-9a-f]*|\.[0-9a-f]+)(?:p[+-]?\d+)?"
_DECIMAL = r"(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf(?:inity)?"
_NUMBER = re.compile(
    rf"[ \t\n\v\f\r]*([+-]?)(?:({_HEXADECIMAL})|({_DECIMAL})|nan(?:\(\w*\))?)",
    re.ASCII | re.IGNORECASE,
)


def _first_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    return fields if len(fields) == len(pairs) else dict(reversed(pairs))


_decode = json.JSONDecoder(
    object_pairs_hook=_first_wins,
    parse_int=float,  # any length, and never an int in a comparison
    parse_constant=lambda _: MISSING,  # NaN and Infinity are not JSON
    strict=False,  # line ends and tabs inside strings are taken as they are
).decode


def read(attributes: bytes) -> dict[str, Any]:
    """The outermost object of a JSON text; empty if there is none. O(n)."""
    try:
        document = _decode(attributes.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        return {}
    return document if type(document) is dict else {}


def select(document: dict[str, Any], path: Path) -> Value | Missing:
    """The value that *path* leads to in what `read` gave."""
    if not path:
        return MISSING
    found: Any = document
    for name in path:
        if type(found) is not dict:
            return MISSING
        found = found.get(name, MISSING)
    return _value(found, 0)


def _value(found: Any, nesting: int) -> Value | Missing:
    kind = type(found)
    if kind is float or kind is str or found is None:
        return found  # type: ignore[no-any-return]
    if kind is bool:
        return float(found)
    if kind is not list or nesting == MAX_NESTING:
        return MISSING
    elements = []
    for element in found:
        value = _value(element, nesting + 1)
        if value is MISSING:
            return MISSING
        elements.append(value)
    return tuple(elements)


def to_number(value: Value) -> float:
    """What arithmetic and comparison take a value for: a string that is a number as C reads
    it is that number; all else that is not a number is 0.
    """
    if type(value) is float:
        return value
    if type(value) is not str or len(value) >= _NUMBER_SIZE:
        return 0.0
    match = _NUMBER.fullmatch(value.partition("\0")[0])  # C's string ends at a zero byte
    if match is None:
        return 0.0
    sign, hexadecimal, decimal = match.groups()
    if hexadecimal:
        number = _from_hexadecimal(hexadecimal)
    else:
        number = float(decimal) if decimal else float("nan")
    return -number if sign == "-" else number


def _from_hexadecimal(text: str) -> float:
    try:
        return float.fromhex(text)
    except OverflowError:
        return float("inf")


def is_true(value: Value) -> bool:
    """Whether a value counts as true: all but 0, the empty string and null."""
    if type(value) is float:
        return value != 0
    return value is not None and value != ""


def is_equal(left: Value, right: Value) -> bool:
    """``==``: strings as strings, null only with null, all else as numbers."""
    if type(left) is str and type(right) is str:
        return left == right
    if left is None or right is None:
        return left is right
    return to_number(left) == to_number(right)


def is_in(left: Value, right: Value) -> bool:
    """``in``: an element of a list, or a part of a string."""
    if type(right) is tuple:
        return any(is_equal(left, element) for element in right)
    return type(left) is str and type(right) is str and left in right
