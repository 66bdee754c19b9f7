"""Redis's serialisation of strings and of what its modules hold, as DUMP and RESTORE exchange it.

    payload   = body, version (u16), CRC-64 of all before (u64)
    body      = 0x00, string | 0x07, length: module id, parts, length 0
    part      = length 2, length: a number | length 5, string
    string    = length, bytes | 0xC0 i8 | 0xC1 i16 | 0xC2 i32 | 0xC3 length, length, LZF bytes
    length    = 00nnnnnn | 01nnnnnn n | 0x80 u32 big-endian | 0x81 u64 big-endian

Integers are little-endian where nothing else is said. In an LZF string the
first length is that of the compressed bytes, the second that of the text.
"""

from __future__ import annotations

import string
import struct
from collections.abc import Iterable

from norikv_resp.crc64 import crc64

#: The version that Redis 8.8 writes; a higher one is refused.
RDB_VERSION = 14

TYPE_STRING, TYPE_MODULE = 0, 7
_END, _NUMBER, _STRING = 0, 2, 5
_INT8, _INT16, _INT32, _LZF = 0xC0, 0xC1, 0xC2, 0xC3
_INTEGERS = {_INT8: struct.Struct("<b"), _INT16: struct.Struct("<h"), _INT32: struct.Struct("<i")}
_FOOTER = struct.Struct("<HQ")

_MODULE_CHARACTERS = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"

#: A string is at most this long, also when its compressed form claims more.
LONGEST = 512 << 20


class BadPayloadError(Exception):
    """The payload is sound but does not hold what was expected."""


def dump_string(value: bytes) -> bytes:
    """The payload of a string. O(n)."""
    return _sealed(b"\0" + _encode_string(value))


def module_id(name: str, version: int) -> int:
    """The id of a type with a name of nine characters, in a version of its encoding."""
    assert len(name) == 9 and 0 <= version < 1024
    number = 0
    for character in name:
        number = number << 6 | _MODULE_CHARACTERS.index(character)
    return number << 10 | version


def dump_module(ident: int, parts: Iterable[int | bytes]) -> bytes:
    """The payload of a value of a module's type. O(n)."""
    pieces = [bytes((TYPE_MODULE,)), b"\x81", struct.pack(">Q", ident)]
    for part in parts:
        if isinstance(part, int):
            pieces += (bytes((_NUMBER,)), _encode_length(part))
        else:
            pieces += (bytes((_STRING,)), _encode_string(part))
    pieces.append(bytes((_END,)))
    return _sealed(b"".join(pieces))


def _sealed(body: bytes) -> bytes:
    versioned = body + struct.pack("<H", RDB_VERSION)
    return versioned + struct.pack("<Q", crc64(versioned))


def is_sound(payload: bytes) -> bool:
    """Whether version and checksum allow to restore *payload*. O(n)."""
    if len(payload) < _FOOTER.size:
        return False
    version, checksum = _FOOTER.unpack_from(payload, len(payload) - _FOOTER.size)
    return bool(version <= RDB_VERSION and crc64(payload[:-8]) == checksum)


def load_string(payload: bytes) -> bytes:
    """The string in a sound payload; BadPayloadError if it holds none or is malformed. O(n)."""
    body = payload[: -_FOOTER.size]
    try:
        if body[0] != TYPE_STRING:
            raise BadPayloadError(f"type {body[0]}")
        value, end = _decode_string(body, 1)
    except (IndexError, struct.error):
        raise BadPayloadError("it ends too early") from None
    if end != len(body):
        raise BadPayloadError("something follows the string")
    return value


def type_of(payload: bytes) -> int:
    """The type of what a sound payload holds."""
    return payload[0]


def load_module(payload: bytes) -> tuple[int, list[int | bytes]]:
    """Id and parts of a module's value in a sound payload; BadPayloadError. O(n)."""
    body = payload[: -_FOOTER.size]
    parts: list[int | bytes] = []
    try:
        ident, at = _decode_length(body, 1)
        while True:
            kind, at = _decode_length(body, at)
            part: int | bytes
            if kind == _NUMBER:
                part, at = _decode_length(body, at)
            elif kind == _STRING:
                part, at = _decode_string(body, at)
            elif kind == _END and at == len(body):
                return ident, parts
            else:
                raise BadPayloadError(f"a part of kind {kind}")
            parts.append(part)
    except (IndexError, struct.error):
        raise BadPayloadError("it ends too early") from None


def _encode_string(value: bytes) -> bytes:
    if len(value) <= 11:
        for code, form in _INTEGERS.items():
            try:
                number = int(value)
                if b"%d" % number == value:
                    return bytes((code,)) + form.pack(number)
            except (ValueError, struct.error):
                continue
    return _encode_length(len(value)) + value


def _encode_length(length: int) -> bytes:
    if length < 1 << 6:
        return bytes((length,))
    if length < 1 << 14:
        return struct.pack(">H", 0x4000 | length)
    if length < 1 << 32:
        return b"\x80" + struct.pack(">I", length)
    return b"\x81" + struct.pack(">Q", length)


def _decode_string(body: bytes, at: int) -> tuple[bytes, int]:
    """The string at *at* and where it ends."""
    code = body[at]
    if code in _INTEGERS:
        form = _INTEGERS[code]
        return b"%d" % form.unpack_from(body, at + 1)[0], at + 1 + form.size
    if code == _LZF:
        compressed, at = _decode_length(body, at + 1)
        length, at = _decode_length(body, at)
        if length > LONGEST:
            raise BadPayloadError(f"a string of {length} bytes")
        return _decompress(_take(body, at, compressed), length), at + compressed
    length, at = _decode_length(body, at)
    return _take(body, at, length), at + length


def _take(body: bytes, at: int, length: int) -> bytes:
    taken = body[at : at + length]
    if len(taken) < length:
        raise BadPayloadError("it ends too early")
    return taken


def _decode_length(body: bytes, at: int) -> tuple[int, int]:
    first = body[at]
    kind = first >> 6
    if kind == 0:
        return first, at + 1
    if kind == 1:
        return (first & 0x3F) << 8 | body[at + 1], at + 2
    if first == 0x80:
        return struct.unpack_from(">I", body, at + 1)[0], at + 5
    if first == 0x81:
        return struct.unpack_from(">Q", body, at + 1)[0], at + 9
    raise BadPayloadError(f"length byte {first:#x}")


def _decompress(data: bytes, length: int) -> bytes:
    """Undo LZF: runs of literals, and references back into what is there already.

    000nnnnn            n + 1 literal bytes follow
    nnnooooo [m] o      copy n + 2 bytes from o + 1 bytes back; n = 7 is followed by m, n += m
    """
    text = bytearray()
    at, end = 0, len(data)
    while at < end:
        control = data[at]
        at += 1
        if control < 32:
            text += data[at : at + control + 1]
            at += control + 1
        else:
            count = control >> 5
            if count == 7:
                count += data[at]
                at += 1
            back = ((control & 31) << 8 | data[at]) + 1
            at += 1
            count += 2
            start = len(text) - back
            if start < 0:
                raise BadPayloadError("a reference before the beginning")
            # A reference may run into what it writes itself, which then repeats.
            piece = text[start : start + count]
            text += (piece * (-(-count // back)))[:count]
        if len(text) > length:
            raise BadPayloadError("more text than announced")
    if at != end or len(text) != length:
        raise BadPayloadError("the compressed bytes end too early")
    return bytes(text)
