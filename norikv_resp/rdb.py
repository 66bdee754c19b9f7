"""Redis's serialisation of strings, as DUMP and RESTORE exchange it.

    payload   = type (1 byte, 0 for a string), string, version (u16), CRC-64 of all before (u64)
    string    = length, bytes | 0xC0 i8 | 0xC1 i16 | 0xC2 i32 | 0xC3 length, length, LZF bytes
    length    = 00nnnnnn | 01nnnnnn n | 0x80 u32 big-endian | 0x81 u64 big-endian

Integers are little-endian where nothing else is said. In an LZF string the
first length is that of the compressed bytes, the second that of the text.
"""

from __future__ import annotations

import struct

from norikv_resp.crc64 import crc64

#: The version that Redis 8.8 writes; a higher one is refused.
RDB_VERSION = 14

TYPE_STRING = 0
_INT8, _INT16, _INT32, _LZF = 0xC0, 0xC1, 0xC2, 0xC3
_INTEGERS = {_INT8: struct.Struct("<b"), _INT16: struct.Struct("<h"), _INT32: struct.Struct("<i")}
_FOOTER = struct.Struct("<HQ")

#: A string is at most this long, also when its compressed form claims more.
LONGEST = 512 << 20


class BadPayloadError(Exception):
    """The payload is sound but holds no string."""


def dump_string(value: bytes) -> bytes:
    """The payload of a string. O(n)."""
    body = b"\0" + _encode_string(value) + struct.pack("<H", RDB_VERSION)
    return body + struct.pack("<Q", crc64(body))


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
