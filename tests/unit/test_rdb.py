"""Payloads of strings: as Redis writes them, and everything that it may send."""

from __future__ import annotations

import random
import struct

import pytest

from norikv_resp.crc64 import crc64
from norikv_resp.rdb import (
    BadPayloadError,
    dump_module,
    dump_string,
    is_sound,
    load_module,
    load_string,
    module_id,
)


def sealed(body: bytes, version: int = 14) -> bytes:
    """A payload with that body and a checksum that fits."""
    body += struct.pack("<H", version)
    return body + struct.pack("<Q", crc64(body))


def test_short_strings_are_the_bytes_that_redis_writes() -> None:
    assert dump_string(b"v") == b"\x00\x01v\x0e\x00\xe3S\x16\xcdJ\x0b\x9e\xbf"
    assert dump_string(b"10") == sealed(b"\x00\xc0\x0a")
    assert dump_string(b"-129") == sealed(b"\x00\xc1\x7f\xff")
    assert dump_string(b"2147483647") == sealed(b"\x00\xc2\xff\xff\xff\x7f")
    assert dump_string(b"2147483648") == sealed(b"\x00\x0a2147483648")
    assert dump_string(b"010") == sealed(b"\x00\x03010")
    assert dump_string(b"-0") == sealed(b"\x00\x02-0")
    assert dump_string(b"x" * 64) == sealed(b"\x00\x40\x40" + b"x" * 64)
    assert dump_string(b"x" * 16384) == sealed(b"\x00\x80\x00\x00\x40\x00" + b"x" * 16384)


@pytest.mark.parametrize(
    "value", [b"", b"0", b"-1", b"127", b"128", b"-32769", b"1e3", b"x" * 63, b"y" * 16383]
)
def test_what_is_dumped_can_be_restored(value: bytes) -> None:
    payload = dump_string(value)
    assert is_sound(payload)
    assert load_string(payload) == value


def test_random_strings_come_back() -> None:
    chance = random.Random(3)
    for _ in range(300):
        value = chance.randbytes(chance.randrange(0, 100))
        assert load_string(dump_string(value)) == value


def test_compressed_strings_are_read() -> None:
    # Literals "abc", then 9 bytes from 3 back (long form), then 3 bytes from 1 back.
    data = b"\x02abc" + b"\xe0\x00\x02" + b"\x20\x00"
    body = b"\x00\xc3" + bytes((len(data), 15)) + data
    assert load_string(sealed(body)) == b"abcabcabcabcccc"


def test_versions_and_checksums_are_checked() -> None:
    payload = dump_string(b"value")
    assert is_sound(sealed(b"\x00\x01v", 1))
    assert not is_sound(sealed(b"\x00\x01v", 15))
    assert not is_sound(b"abc")
    assert not is_sound(b"")
    for at in range(len(payload)):
        broken = bytearray(payload)
        broken[at] ^= 1
        assert not is_sound(bytes(broken))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x01\x01v",  # a list
        b"\x00",
        b"\x00\x05abc",
        b"\x00\x01vw",
        b"\x00\xc0",
        b"\x00\xc2\x01\x02",
        b"\x00\xc4",
        b"\x00\x40",
        b"\x00\x80\x00",
        b"\x00\x81\x00\x00\x00\x00\x00\x00\x00",
        b"\x00\x81\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x00\x82\x00",
        b"\x00\xc3\x02\x05\x20\x05",  # refers to before the beginning
        b"\x00\xc3\x02\x03\x04a",  # literals cut short
        b"\x00\xc3\x04\x02\x02abc",  # more text than announced
        b"\x00\xc3\x04\x09\x02abc",  # less text than announced
        b"\x00\xc3\x02\x81\xff\xff\xff\xff\xff\xff\xff\xff\x00a",
        b"\x00\xc3\x01\x05\xe0",
    ],
)
def test_malformed_payloads_are_refused(body: bytes) -> None:
    with pytest.raises(BadPayloadError):
        load_string(sealed(body))


def test_any_body_is_a_string_or_an_error() -> None:
    chance = random.Random(4)
    for _ in range(2000):
        body = b"\x00" + bytes((chance.choice((0xC3, 0x80, 0x81, 5, 0xC1)),))
        try:
            load_string(sealed(body + chance.randbytes(chance.randrange(12))))
        except BadPayloadError:
            pass


def test_a_modules_value_is_written_as_redis_writes_those_of_modules() -> None:
    ident = module_id("norikvset", 1)
    assert ident & 1023 == 1
    payload = dump_module(ident, [b"ab", 5, b"", 70_000, b"12"])
    body = b"\x07\x81" + struct.pack(">Q", ident)
    body += b"\x05\x02ab" + b"\x02\x05" + b"\x05\x00" + b"\x02\x80" + struct.pack(">I", 70_000)
    body += b"\x05\xc0\x0c" + b"\x00"
    assert payload == sealed(body)
    assert is_sound(payload)
    assert load_module(payload) == (ident, [b"ab", 5, b"", 70_000, b"12"])


def test_malformed_values_of_modules_are_refused() -> None:
    payload = dump_module(module_id("norikvset", 1), [b"some text", 5])
    body = payload[:-10]
    for end in range(1, len(body)):
        with pytest.raises(BadPayloadError):
            load_module(sealed(body[:end]))
    for wrong in (body + b"\0", body[:-1] + b"\x03\x01\0", body[:10]):
        with pytest.raises(BadPayloadError):
            load_module(sealed(wrong))
