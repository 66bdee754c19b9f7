"""Reply values, their encoding for RESP2 and RESP3, and their form in storage.

What a handler returns, and what the client receives:

====================  =========================  ==========================
value                 RESP3                      RESP2
====================  =========================  ==========================
bytes                 bulk string                the same
int                   integer                    the same
None                  ``_``                      ``$-1``
NULL_ARRAY            ``_``                      ``*-1``
Simple(b"…"), OK      simple string              the same
list, tuple           array                      the same
Map                   map                        array of keys and values
SetReply              set                        array
float                 double                     bulk string
DoubleText(b"…")      double                     bulk string
bool                  boolean                    integer 1 or 0
Verbatim(b"txt", …)   verbatim string            bulk string
Push                  push                       array
ReplyError            error                      the same
NO_REPLY              nothing                    nothing
====================  =========================  ==========================
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from math import copysign, isinf, isnan
from typing import Any, Final

from norikv_resp.errors import ReplyError

#: Levels of arrays within a reply. Redis's own replies need six.
MAX_DEPTH: Final = 64

#: A bulk string of at least this many bytes stays a buffer of its own in encode_into.
LARGE_BULK: Final = 16 * 1024


# ---------------------------------------------------------------------------------------------
# Values
# ---------------------------------------------------------------------------------------------


class Simple:
    """A simple string, a status such as OK."""

    __slots__ = ("encoded", "text")

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.encoded = b"+" + _one_line(text) + b"\r\n"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Simple) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Simple({self.text!r})"


class _Singleton:
    """A value that is only ever compared by identity."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


class _NullArray(_Singleton):
    __slots__ = ()


class _NoReply(_Singleton):
    __slots__ = ()


class Map:
    """Keys with values, in the given order."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: Mapping[Any, Any] | Iterable[tuple[Any, Any]]) -> None:
        self.pairs: list[tuple[Any, Any]] = list(
            pairs.items() if isinstance(pairs, Mapping) else pairs
        )

    def __repr__(self) -> str:
        return f"Map({self.pairs!r})"


class _Elements:
    __slots__ = ("items",)

    def __init__(self, items: Iterable[Any]) -> None:
        self.items: list[Any] = list(items)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.items!r})"


class SetReply(_Elements):
    """Elements without an order."""

    __slots__ = ()


class Push(_Elements):
    """A message that answers no request."""

    __slots__ = ()


class DoubleText:
    """A number that is written by its own text: more digits than a float holds."""

    __slots__ = ("text",)

    def __init__(self, text: bytes) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DoubleText) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"DoubleText({self.text!r})"


class Verbatim:
    """A text for people; ``kind`` is three bytes, b"txt" or b"mkd"."""

    __slots__ = ("kind", "text")

    def __init__(self, kind: bytes, text: bytes) -> None:
        if len(kind) != 3:
            raise ValueError("the kind of a verbatim string has three bytes")
        self.kind = kind
        self.text = text

    def __repr__(self) -> str:
        return f"Verbatim({self.kind!r}, {self.text!r})"


# ---------------------------------------------------------------------------------------------
# Encoding
# ---------------------------------------------------------------------------------------------

_CR_LF_TO_SPACES: Final = bytes.maketrans(b"\r\n", b"  ")


def _one_line(text: bytes) -> bytes:
    if 13 in text or 10 in text:
        return text.translate(_CR_LF_TO_SPACES)
    return text


OK: Final = Simple(b"OK")
NULL_ARRAY: Final = _NullArray("NULL_ARRAY")
NO_REPLY: Final = _NoReply("NO_REPLY")

_INTEGERS: Final = [b":%d\r\n" % n for n in range(1024)]
_BULK_HEADERS: Final = [b"$%d\r\n" % n for n in range(1024)]
_ARRAY_HEADERS: Final = [b"*%d\r\n" % n for n in range(64)]


#: Whole numbers up to this size are written out.
_WHOLE: Final = 2.0**62


def format_double(value: float) -> bytes:
    """The shortest text that reads back as ``value``, laid out as Redis does.

    Whole numbers have no point, infinities are ``inf`` and ``-inf``, every NaN is ``nan``. The
    exponent form comes where Redis's fpconv chooses it: ``1.5e-7``, ``1e+20``, ``1.2345678901e+5``.
    """
    size = abs(value)
    if 1e-3 <= size < 1e4 and not value.is_integer():  # nearly all
        return repr(value).encode()
    if isnan(value):
        return b"nan"
    if isinf(value):
        return b"inf" if value > 0 else b"-inf"
    if size <= _WHOLE and value.is_integer():
        return b"%d" % int(value) if value or copysign(1.0, value) > 0 else b"-0"
    mantissa, _, power = repr(size).partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = fraction.rstrip("0")
    # size = digits * 10**scale
    scale = int(power or 0) - len(fraction)
    digits = (whole + fraction).lstrip("0")
    if not fraction:
        shorter = digits.rstrip("0")
        scale += len(digits) - len(shorter)
        digits = shorter
    exponent = scale + len(digits) - 1
    if scale >= 0 and abs(exponent) < len(digits) + 7:
        text = digits + "0" * scale
    elif -7 < scale < 0:
        point = len(digits) + scale
        text = f"{digits[:point]}.{digits[point:]}" if point > 0 else f"0.{'0' * -point}{digits}"
    else:
        rest = f".{digits[1:]}" if len(digits) > 1 else ""
        text = f"{digits[0]}{rest}e{exponent:+d}"
    return (text if value > 0 else "-" + text).encode()


def encode(value: Any, resp3: bool) -> bytes:
    """One reply as bytes. Raises TypeError for what is no reply value, ValueError for nesting
    deeper than MAX_DEPTH."""
    kind = type(value)
    if kind is bytes:
        size = len(value)
        bulk: bytes = (_BULK_HEADERS[size] if size < 1024 else b"$%d\r\n" % size) + value + b"\r\n"
        return bulk
    if kind is Simple:
        return value.encoded  # type: ignore[no-any-return]
    if kind is int:
        return _INTEGERS[value] if 0 <= value < 1024 else b":%d\r\n" % value
    if value is None:
        return b"_\r\n" if resp3 else b"$-1\r\n"
    out: list[bytes] = []
    if kind is list or kind is tuple:
        size = len(value)
        out.append(_ARRAY_HEADERS[size] if size < 64 else b"*%d\r\n" % size)
        _write_all(value, resp3, out.append, 1)
    else:
        _write(value, resp3, out.append, 0)
    return b"".join(out)


def encode_into(value: Any, resp3: bool, out: list[bytes]) -> None:
    """Append the reply to a list of buffers. Bulk strings of LARGE_BULK bytes or more are appended
    as they are, without a copy. Raises as encode does, and then has appended nothing."""
    kind = type(value)
    if kind is bytes and len(value) >= LARGE_BULK:
        out += (b"$%d\r\n" % len(value), value, b"\r\n")
        return
    if kind in _FLAT:
        out.append(encode(value, resp3))
        return
    parts: list[bytes] = []
    _write(value, resp3, parts.append, 0)
    start = 0
    for place, part in enumerate(parts):
        if len(part) >= LARGE_BULK:
            if start < place:
                out.append(b"".join(parts[start:place]))
            out.append(part)
            start = place + 1
    if start < len(parts):
        out.append(b"".join(parts[start:]))


_FLAT: Final = frozenset((bytes, int, type(None), Simple))


def _write_all(items: Iterable[Any], resp3: bool, add: Callable[[bytes], None], depth: int) -> None:
    """The elements of an array at ``depth`` levels."""
    if depth > MAX_DEPTH:
        raise ValueError("reply nested too deeply")
    null = b"_\r\n" if resp3 else b"$-1\r\n"
    for item in items:
        kind = type(item)
        if kind is bytes:
            size = len(item)
            if size < 1024:
                add(_BULK_HEADERS[size] + item + b"\r\n")
            else:
                add(b"$%d\r\n" % size)
                add(item)
                add(b"\r\n")
        elif kind is int:
            add(_INTEGERS[item] if 0 <= item < 1024 else b":%d\r\n" % item)
        elif item is None:
            add(null)
        else:
            _write(item, resp3, add, depth)


def _write(value: Any, resp3: bool, add: Callable[[bytes], None], depth: int) -> None:
    kind = type(value)
    if kind is list or kind is tuple:
        add(b"*%d\r\n" % len(value))
        _write_all(value, resp3, add, depth + 1)
    elif kind is Simple:
        add(value.encoded)
    elif kind is float:
        text = format_double(value)
        add(b",%b\r\n" % text if resp3 else b"$%d\r\n%b\r\n" % (len(text), text))
    elif kind is bool:
        if resp3:
            add(b"#t\r\n" if value else b"#f\r\n")
        else:
            add(b":1\r\n" if value else b":0\r\n")
    elif kind is Map:
        pairs = value.pairs
        add(b"%%%d\r\n" % len(pairs) if resp3 else b"*%d\r\n" % (2 * len(pairs)))
        _write_all(chain.from_iterable(pairs), resp3, add, depth + 1)
    elif kind is SetReply or kind is Push:
        mark = (b"~" if kind is SetReply else b">") if resp3 else b"*"
        add(b"%b%d\r\n" % (mark, len(value.items)))
        _write_all(value.items, resp3, add, depth + 1)
    elif kind is Verbatim:
        text = value.text
        if resp3:
            add(b"=%d\r\n%b:%b\r\n" % (len(text) + 4, value.kind, text))
        else:
            add(b"$%d\r\n%b\r\n" % (len(text), text))
    elif kind is DoubleText:
        text = value.text
        add(b",%b\r\n" % text if resp3 else b"$%d\r\n%b\r\n" % (len(text), text))
    elif value is NULL_ARRAY:
        add(b"_\r\n" if resp3 else b"*-1\r\n")
    elif isinstance(value, ReplyError):
        add(b"-%b\r\n" % _one_line(value.text))
    elif value is NO_REPLY and depth == 0:
        pass
    elif kind in _FLAT:
        _write_all((value,), resp3, add, depth)
    else:
        raise TypeError(f"not a reply value: {kind.__name__}")


# ---------------------------------------------------------------------------------------------
# Storage
# ---------------------------------------------------------------------------------------------
#
# frozen := version u8 = 1, node
# node   := tag u8, body                        count := LEB128, 7 bits a byte, low ones first
#   0x00 null                                   0x01 null array
#   0x02 integer: count of zigzag(n)            0x03 bulk: count, bytes
#   0x04 simple: count, bytes                   0x05 error: count, bytes
#   0x06 array: count, nodes                    0x07 map: count of pairs, 2 * count nodes
#   0x08 set: count, nodes                      0x09 push: count, nodes
#   0x0a double: 8 bytes IEEE 754 little-endian 0x0b false   0x0c true
#   0x0d verbatim: 3 bytes of kind, count, bytes
#   0x0e OK                                     0x0f no reply
#   0x10 double by its text: count, bytes

FROZEN_VERSION: Final = 1

_NULL: Final = 0x00
_NULL_ARRAY: Final = 0x01
_INTEGER: Final = 0x02
_BULK: Final = 0x03
_SIMPLE: Final = 0x04
_ERROR: Final = 0x05
_ARRAY: Final = 0x06
_MAP: Final = 0x07
_SET: Final = 0x08
_PUSH: Final = 0x09
_DOUBLE: Final = 0x0A
_FALSE: Final = 0x0B
_TRUE: Final = 0x0C
_VERBATIM: Final = 0x0D
_OK: Final = 0x0E
_NO_REPLY: Final = 0x0F
_DOUBLE_TEXT: Final = 0x10

_double = struct.Struct("<d")


class FrozenReplyError(ValueError):
    """Bytes that freeze() did not write, or a newer one did."""


def freeze(value: Any) -> bytes:
    """A reply as bytes to store; ``encode(thaw(freeze(v)), p) == encode(v, p)`` for both protocols.

    Raises as encode does.
    """
    if value is OK:
        return b"\x01\x0e"
    if type(value) is bytes and len(value) < 0x80:
        return b"\x01\x03%c%b" % (len(value), value)
    out = [b"\x01"]
    _freeze(value, out.append, 0)
    return b"".join(out)


def _count(n: int) -> bytes:
    if n < 0x80:
        return bytes((n,))
    digits = bytearray()
    while n >= 0x80:
        digits.append(n & 0x7F | 0x80)
        n >>= 7
    digits.append(n)
    return bytes(digits)


def _freeze(value: Any, add: Callable[[bytes], None], depth: int) -> None:
    kind = type(value)
    if kind is bytes:
        add(b"\x03" + _count(len(value)))
        add(value)
    elif kind is int:
        add(b"\x02" + _count(2 * value if value >= 0 else -2 * value - 1))
    elif value is None:
        add(b"\x00")
    elif kind is list or kind is tuple:
        _freeze_all(_ARRAY, len(value), value, add, depth)
    elif kind is Simple:
        if value == OK:
            add(b"\x0e")
        else:
            add(b"\x04" + _count(len(value.text)) + value.text)
    elif kind is float:
        add(b"\x0a" + _double.pack(value))
    elif kind is bool:
        add(b"\x0c" if value else b"\x0b")
    elif kind is Map:
        flat = [item for pair in value.pairs for item in pair]
        _freeze_all(_MAP, len(value.pairs), flat, add, depth)
    elif kind is SetReply:
        _freeze_all(_SET, len(value.items), value.items, add, depth)
    elif kind is Push:
        _freeze_all(_PUSH, len(value.items), value.items, add, depth)
    elif kind is Verbatim:
        add(b"\x0d" + value.kind + _count(len(value.text)))
        add(value.text)
    elif kind is DoubleText:
        add(b"\x10" + _count(len(value.text)) + value.text)
    elif value is NULL_ARRAY:
        add(b"\x01")
    elif isinstance(value, ReplyError):
        add(b"\x05" + _count(len(value.text)) + value.text)
    elif value is NO_REPLY and depth == 0:
        add(b"\x0f")
    else:
        raise TypeError(f"not a reply value: {kind.__name__}")


def _freeze_all(
    tag: int, count: int, items: Sequence[Any], add: Callable[[bytes], None], depth: int
) -> None:
    if depth >= MAX_DEPTH:
        raise ValueError("reply nested too deeply")
    add(bytes((tag,)) + _count(count))
    for item in items:
        _freeze(item, add, depth + 1)


def thaw(data: bytes) -> Any:
    """The reply that freeze() stored. Raises FrozenReplyError if ``data`` is anything else."""
    if not data or data[0] != FROZEN_VERSION:
        raise FrozenReplyError("unknown version of a stored reply")
    try:
        value, pos = _thaw(data, 1, 0)
    except (IndexError, struct.error) as error:
        raise FrozenReplyError("a stored reply ends too early") from error
    if pos != len(data):
        raise FrozenReplyError("a stored reply has bytes behind its end")
    return value


def _read_count(data: bytes, pos: int) -> tuple[int, int]:
    byte = data[pos]
    pos += 1
    n = byte & 0x7F
    shift = 7
    while byte & 0x80:
        byte = data[pos]
        pos += 1
        n |= (byte & 0x7F) << shift
        shift += 7
    return n, pos


def _read_bytes(data: bytes, pos: int) -> tuple[bytes, int]:
    size, pos = _read_count(data, pos)
    end = pos + size
    if end > len(data):
        raise FrozenReplyError("a stored reply ends too early")
    return data[pos:end], end


def _thaw(data: bytes, pos: int, depth: int) -> tuple[Any, int]:
    tag = data[pos]
    pos += 1
    if tag == _BULK:
        return _read_bytes(data, pos)
    if tag == _INTEGER:
        n, pos = _read_count(data, pos)
        return (n >> 1 if not n & 1 else -(n >> 1) - 1), pos
    if tag == _OK:
        return OK, pos
    if tag == _NULL:
        return None, pos
    if tag in (_ARRAY, _MAP, _SET, _PUSH):
        return _thaw_all(tag, data, pos, depth)
    if tag == _SIMPLE:
        text, pos = _read_bytes(data, pos)
        return Simple(text), pos
    if tag == _ERROR:
        text, pos = _read_bytes(data, pos)
        return ReplyError(text), pos
    if tag == _DOUBLE:
        return _double.unpack_from(data, pos)[0], pos + 8
    if tag == _VERBATIM:
        kind = data[pos : pos + 3]
        text, pos = _read_bytes(data, pos + 3)
        return Verbatim(kind, text), pos
    if tag == _DOUBLE_TEXT:
        text, pos = _read_bytes(data, pos)
        return DoubleText(text), pos
    constants = {_NULL_ARRAY: NULL_ARRAY, _FALSE: False, _TRUE: True, _NO_REPLY: NO_REPLY}
    if tag not in constants:
        raise FrozenReplyError(f"unknown tag {tag} in a stored reply")
    return constants[tag], pos


def _thaw_all(tag: int, data: bytes, pos: int, depth: int) -> tuple[Any, int]:
    if depth >= MAX_DEPTH:
        raise FrozenReplyError("a stored reply is nested too deeply")
    count, pos = _read_count(data, pos)
    if tag == _MAP:
        count *= 2
    items: list[Any] = []
    for _ in range(count):
        item, pos = _thaw(data, pos, depth + 1)
        items.append(item)
    if tag == _ARRAY:
        return items, pos
    if tag == _MAP:
        return Map(zip(items[::2], items[1::2], strict=True)), pos
    return (SetReply(items) if tag == _SET else Push(items)), pos
