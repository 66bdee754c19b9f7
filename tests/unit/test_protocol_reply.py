"""Encoding of replies, and their form in storage."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import Any

import hiredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from norikv_resp.errors import ReplyError
from norikv_resp.protocol import (
    NO_REPLY,
    NULL_ARRAY,
    OK,
    FrozenReplyError,
    Map,
    Push,
    SetReply,
    Simple,
    Verbatim,
    encode,
    encode_into,
    format_double,
    freeze,
    thaw,
)

#: value, RESP2, RESP3, frozen. The last column is on disks: it never changes.
GOLDEN: list[tuple[Any, bytes, bytes, str]] = [
    (None, b"$-1\r\n", b"_\r\n", "0100"),
    (NULL_ARRAY, b"*-1\r\n", b"_\r\n", "0101"),
    (0, b":0\r\n", b":0\r\n", "010200"),
    (1, b":1\r\n", b":1\r\n", "010202"),
    (-1, b":-1\r\n", b":-1\r\n", "010201"),
    (1023, b":1023\r\n", b":1023\r\n", "0102fe0f"),
    (1024, b":1024\r\n", b":1024\r\n", "01028010"),
    (
        -(2**63),
        b":-9223372036854775808\r\n",
        b":-9223372036854775808\r\n",
        "0102ffffffffffffffffff01",
    ),
    (b"", b"$0\r\n\r\n", b"$0\r\n\r\n", "010300"),
    (b"a\r\nb", b"$4\r\na\r\nb\r\n", b"$4\r\na\r\nb\r\n", "010304610d0a62"),
    (
        b"x" * 200,
        b"$200\r\n" + b"x" * 200 + b"\r\n",
        b"$200\r\n" + b"x" * 200 + b"\r\n",
        "0103c801" + "78" * 200,
    ),
    (Simple(b"PONG"), b"+PONG\r\n", b"+PONG\r\n", "010404504f4e47"),
    (Simple(b"a\r\nb"), b"+a  b\r\n", b"+a  b\r\n", "010404610d0a62"),
    (ReplyError(b"ERR no"), b"-ERR no\r\n", b"-ERR no\r\n", "010506455252206e6f"),
    (ReplyError(b"ERR a\nb\r"), b"-ERR a b \r\n", b"-ERR a b \r\n", "01050845525220610a620d"),
    ([], b"*0\r\n", b"*0\r\n", "010600"),
    (
        (1, b"a", None),
        b"*3\r\n:1\r\n$1\r\na\r\n$-1\r\n",
        b"*3\r\n:1\r\n$1\r\na\r\n_\r\n",
        "010603020203016100",
    ),
    ([[OK], True], b"*2\r\n*1\r\n+OK\r\n:1\r\n", b"*2\r\n*1\r\n+OK\r\n#t\r\n", "01060206010e0c"),
    (Map({b"a": 1}), b"*2\r\n$1\r\na\r\n:1\r\n", b"%1\r\n$1\r\na\r\n:1\r\n", "0107010301610202"),
    (
        Map([(1, [2])]),
        b"*2\r\n:1\r\n*1\r\n:2\r\n",
        b"%1\r\n:1\r\n*1\r\n:2\r\n",
        "010701020206010204",
    ),
    (SetReply([1]), b"*1\r\n:1\r\n", b"~1\r\n:1\r\n", "0108010202"),
    (Push([b"a"]), b"*1\r\n$1\r\na\r\n", b">1\r\n$1\r\na\r\n", "010901030161"),
    (1.5, b"$3\r\n1.5\r\n", b",1.5\r\n", "010a000000000000f83f"),
    (-math.inf, b"$4\r\n-inf\r\n", b",-inf\r\n", "010a000000000000f0ff"),
    (False, b":0\r\n", b"#f\r\n", "010b"),
    (True, b":1\r\n", b"#t\r\n", "010c"),
    (Verbatim(b"txt", b"hi"), b"$2\r\nhi\r\n", b"=6\r\ntxt:hi\r\n", "010d747874026869"),
    (OK, b"+OK\r\n", b"+OK\r\n", "010e"),
    (Simple(b"OK"), b"+OK\r\n", b"+OK\r\n", "010e"),
    (NO_REPLY, b"", b"", "010f"),
]


@pytest.mark.parametrize(
    ("value", "resp2", "resp3", "frozen"), GOLDEN, ids=[repr(g[0])[:30] for g in GOLDEN]
)
def test_replies_and_their_stored_form_have_the_golden_bytes(
    value: Any, resp2: bytes, resp3: bytes, frozen: str
) -> None:
    assert encode(value, False) == resp2
    assert encode(value, True) == resp3
    assert freeze(value).hex() == frozen
    thawed = thaw(bytes.fromhex(frozen))
    assert encode(thawed, False) == resp2
    assert encode(thawed, True) == resp3


# As redis-server 8.8 and valkey-server 9.1 write them.
DOUBLES = [
    (0.0, b"0"),
    (-0.0, b"-0"),
    (3.0, b"3"),
    (-1.0, b"-1"),
    (0.1, b"0.1"),
    (0.1 + 0.2, b"0.30000000000000004"),
    (1e-5, b"0.00001"),
    (0.000001, b"0.000001"),
    (1e-7, b"1e-7"),
    (1.5e-7, b"1.5e-7"),
    (0.1234567, b"0.1234567"),
    (123456.123456, b"123456.123456"),
    (483573.97852146, b"4.8357397852146e+5"),
    (9007199254740993.0, b"9007199254740992"),
    (2.0**62, b"4611686018427387904"),
    (2.0**63, b"9223372036854776000"),
    (-5.068543347603393e21, b"-5068543347603393000000"),
    (1e20, b"1e+20"),
    (1e21, b"1e+21"),
    (1.7976931348623157e308, b"1.7976931348623157e+308"),
    (2.2250738585072014e-308, b"2.2250738585072014e-308"),
    (5e-324, b"5e-324"),
    (math.inf, b"inf"),
    (-math.inf, b"-inf"),
    (math.nan, b"nan"),
    (-math.nan, b"nan"),
]


@pytest.mark.parametrize(("value", "text"), DOUBLES)
def test_doubles_print_as_redis_prints_them(value: float, text: bytes) -> None:
    assert format_double(value) == text


@settings(max_examples=500, deadline=None)
@given(st.one_of(st.floats(allow_nan=False), st.decimals(-(10**6), 10**6, places=6).map(float)))
def test_doubles_read_back(value: float) -> None:
    text = format_double(value)
    assert struct.pack("<d", float(text)) == struct.pack("<d", value)
    assert len(text) <= 25


def leaves() -> st.SearchStrategy[Any]:
    text = st.binary(max_size=30)
    return st.one_of(
        text,
        st.sampled_from([1023, 1024, 16383, 16384, 20000]).map(lambda n: b"x" * n),
        st.integers(-(2**63), 2**63 - 1),
        st.sampled_from([None, NULL_ARRAY, OK, True, False]),
        st.floats(),
        text.map(Simple),
        text.map(ReplyError),
        text.map(lambda t: Verbatim(b"txt", t)),
    )


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    items = st.lists(inner, max_size=5)
    return st.one_of(
        items,
        items.map(tuple),
        items.map(SetReply),
        items.map(Push),
        st.lists(st.tuples(inner, inner), max_size=4).map(Map),
    )


replies = st.recursive(leaves(), nested, max_leaves=20)


@settings(max_examples=300, deadline=None)
@given(replies)
def test_a_thawed_reply_encodes_the_same(value: Any) -> None:
    thawed = thaw(freeze(value))
    for resp3 in (False, True):
        encoded = encode(value, resp3)
        assert encode(thawed, resp3) == encoded
        buffers = [b"before"]
        encode_into(value, resp3, buffers)
        assert b"".join(buffers) == b"before" + encoded


@settings(max_examples=200, deadline=None)
@given(replies)
def test_a_client_can_read_every_reply(value: Any) -> None:
    for resp3 in (False, True):
        reader = hiredis.Reader(replyError=lambda text: Exception(text), errors="replace")
        reader.feed(encode([b"", value], resp3) + b"+END\r\n")
        try:
            reader.gets()
        except (UnicodeDecodeError, TypeError):
            # hiredis has no errors that are not UTF-8, and no maps with such keys.
            continue
        assert reader.gets() == b"END"


def test_large_strings_are_not_copied() -> None:
    large = b"x" * 100_000
    for value in (large, [1, large, [large, b"small"]], Map({b"k": large})):
        out: list[bytes] = []
        encode_into(value, True, out)
        assert b"".join(out) == encode(value, True)
        assert any(part is large for part in out)
        assert all(len(part) < 100 for part in out if part is not large)


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def test_nesting_is_bounded() -> None:
    assert encode(deep(64), False) == b"*1\r\n" * 64 + b":1\r\n"
    assert encode(thaw(freeze(deep(64))), False) == encode(deep(64), False)
    for wrap in (list, SetReply, Push):
        value = wrap([deep(64)])
        for call in (lambda v: encode(v, True), freeze, lambda v: encode_into(v, True, [])):
            with pytest.raises(ValueError, match="nested too deeply"):
                call(value)
    with pytest.raises(FrozenReplyError):
        thaw(b"\x01" + b"\x06\x01" * 5000 + b"\x00")


def test_what_is_no_reply_is_refused() -> None:
    for value in (object(), "text", {b"a": 1}, [NO_REPLY], [1, "x"], bytearray(b"x")):
        with pytest.raises(TypeError):
            encode(value, True)
        with pytest.raises(TypeError):
            freeze(value)
        out: list[bytes] = []
        with pytest.raises(TypeError):
            encode_into(value, True, out)
        assert not out


def damaged() -> Iterator[bytes]:
    for _, _, _, frozen in GOLDEN:
        whole = bytes.fromhex(frozen)
        yield whole + b"\0"
        yield b"\x02" + whole[1:]
        for end in range(len(whole)):
            yield whole[:end]
    yield b"\x01\x10"
    yield b"\x01\x06\xff\xff\xff\xff\x7f"
    yield b"\x01\x03" + b"\xff" * 30 + b"\x7f"


def test_damaged_stored_replies_are_named() -> None:
    for data in damaged():
        with pytest.raises(FrozenReplyError):
            thaw(data)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40))
def test_noise_is_thawed_or_named(data: bytes) -> None:
    try:
        value = thaw(b"\x01" + data)
    except FrozenReplyError:
        return
    encode(value, True)
