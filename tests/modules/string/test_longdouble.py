"""Long doubles: every operation is the exact one, rounded once."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.modules import part
from tests.support.resp import ErrorReply, Wire
from tests.support.server import ServerProcess

longdouble = part("string.longdouble")

_decimals = st.from_regex(r"\A[+-]?[0-9]{1,12}(\.[0-9]{0,25})?(e[+-]?[0-9]{1,3})?\Z")
_hexadecimals = st.from_regex(r"\A[+-]?0[xX][0-9a-f]{1,12}(\.[0-9a-f]{0,20})?(p[+-]?[0-9]{1,3})?\Z")
_words = (_decimals | _hexadecimals).map(str.encode)


def value(number: Any) -> Fraction:
    found = longdouble.order(number)
    assert isinstance(found, Fraction)
    return found


@pytest.mark.parametrize(
    ("one", "other", "total"),
    [
        (b"3", b"0.1", b"3.1"),
        (b"0.1", b"0.2", b"0.3"),
        (b"20.35", b"-5", b"15.35"),
        (b"4.0e3", b"1.5e2", b"4150"),
        (b"1e10", b"1e-5", b"10000000000.00000999961048365"),
        (b"3.1", b"1e5", b"100003.10000000000000142"),
        (b"1e17", b"1", b"100000000000000001"),
        (b"0x10", b"1", b"17"),
        (b"0x.8p1", b"-1", b"0"),
        (b"-0.00000000000000000001", b"0", b"0"),
    ],
)
def test_sums_as_redis_prints_them(one: bytes, other: bytes, total: bytes) -> None:
    assert longdouble.text(longdouble.add(longdouble.parse(one), longdouble.parse(other))) == total


@pytest.mark.parametrize(
    "word",
    [
        *(b"", b" 1", b"1 ", b"1_0", b"abc", b".", b"-", b"--1", b"1e", b"0x", b"0x.", b"0x1p"),
        *(b"nan", b"infin", b"1e4933", b"-1e99999999999999", b"1e-4952", b"0x1p16384", b"1" * 5120),
    ],
)
def test_words_that_are_no_numbers(word: bytes) -> None:
    assert longdouble.parse(word) is None


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        (b"5.", 5),
        (b".5", Fraction(1, 2)),
        (b"0e99999999999", 0),
        (b"1e0000000000000000001", 10),
        (b"0x1P-16445", Fraction(1, 2**16445)),
        (b"0" * 5000 + b"7", 7),
    ],
)
def test_unusual_numbers(word: bytes, expected: int | Fraction) -> None:
    assert value(longdouble.parse(word)) == expected


def test_infinities() -> None:
    assert longdouble.parse(b"inf") == longdouble.parse(b"+Infinity") == math.inf
    assert longdouble.parse(b"-INF") == -math.inf
    assert longdouble.add(longdouble.MAX, longdouble.MAX) == math.inf
    assert math.isnan(longdouble.add(math.inf, -math.inf))
    assert longdouble.text(-math.inf) == b"-inf"
    assert len(longdouble.text(longdouble.MAX)) == 4933


@settings(max_examples=300, deadline=None)
@given(_words, _words)
def test_one_rounding(one: bytes, other: bytes) -> None:
    """Parsing and adding each give the nearest number of 64 bits."""
    numbers = longdouble.parse(one), longdouble.parse(other)
    assert None not in numbers
    exact = value(numbers[0]) + value(numbers[1])
    total = longdouble.add(*numbers)
    assert abs(total.mantissa).bit_length() <= 64
    error = abs(value(total) - exact)
    assert error * 2**65 <= abs(exact) * 2
    if not error:
        return
    up = value(longdouble.Finite(total.mantissa + 1, total.power))
    down = value(longdouble.Finite(total.mantissa - 1, total.power))
    assert error <= min(abs(up - exact), abs(down - exact))


@settings(max_examples=300, deadline=None)
@given(_words)
def test_text_is_within_half_a_unit_of_the_last_decimal(word: bytes) -> None:
    number = longdouble.parse(word)
    shown = Fraction(longdouble.text(number).decode())
    assert abs(shown - value(number)) <= Fraction(1, 2 * 10**17)


def test_the_same_sums_as_a_peer(wire: Wire, peer: ServerProcess) -> None:
    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.tuples(_words, _words), min_size=10, max_size=10))
    def compare(sums: list[tuple[bytes, bytes]]) -> None:
        batch: list[tuple[bytes, ...]] = []
        for one, other in sums:
            batch += [(b"SET", b"f", one), (b"INCRBYFLOAT", b"f", other), (b"GET", b"f")]
        assert wire.pipeline(batch) == theirs.pipeline(batch)

    with peer.wire() as theirs:
        compare()


def test_increx_has_more_digits_than_a_double(wire: Wire) -> None:
    wire.ok("SET", "f", "3.1")
    reply = wire.reply("INCREX", "f", "BYFLOAT", "1e5")
    assert [item.data for item in reply.items] == [b"100003.10000000000000142", b"100000"]
    assert wire.call("GET", "f") == b"100003.10000000000000142"


def test_increx_refuses_infinite_steps(wire: Wire) -> None:
    wire.ok("SET", "f", "inf")
    assert wire.call("INCRBYFLOAT", "f", "1") == ErrorReply(
        "ERR increment would produce NaN or Infinity"
    )
    assert [item.data for item in wire.reply("INCREX", "f", "BYFLOAT", "1").items] == [b"inf", b"0"]
    assert wire.call("INCREX", "f", "BYFLOAT", "1", "SATURATE") == ErrorReply(
        "ERR applied increment would be Infinity"
    )
    assert wire.call("GET", "f") == b"inf"
