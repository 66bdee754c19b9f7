"""What vector commands refuse: with which words, at what cost, and that nothing changes."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.resp import Wire

pytestmark = pytest.mark.norikv

ONE_MB = 1 << 20


def fp32(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


def brief(value: object) -> str:
    """The beginning of a parameter, for the test's name."""
    return " ".join(map(str, value))[:40] if isinstance(value, tuple) else str(value)[:40]


@pytest.fixture
def held(wire: Wire) -> Iterator[Wire]:
    """A connection to a server with a set; the test may not change it, nor make another."""
    wire.ok("VADD", "k", "FP32", fp32(1, 0), "a", "SETATTR", '{"n":1}')
    wire.ok("VADD", "k", "FP32", fp32(0, 1), "b", "SETATTR", '{"n":2}')
    version = wire.ok("VER", "k")
    yield wire
    assert wire.ok("VER", "k") == version
    assert wire.ok("DBSIZE") == 1
    assert wire.ok("VSIM", "k", "ELE", "a") == [b"a", b"b"]


def refused(wire: Wire, *words: Any) -> str:
    reply = wire.reply(*words)
    assert reply.is_error, (str(words)[:100], reply)
    text: str = reply.value.text
    assert len(text) < 100_000
    return text


@pytest.mark.parametrize(
    "expression",
    [
        "(" * ONE_MB,
        "(" * 1000 + "1" + ")" * 1000,
        "not " * (ONE_MB // 4) + "1",
        ".n == 1 or " * 100_000 + "1",
        ".n in [" + "1," * 500_000 + "1]",
        "." + "a" * ONE_MB + " == 1",
        '.n == "' + "a" * ONE_MB + '"',
        "9" * ONE_MB + " > 1",
        "1 " * 30_000,
        "",
        ".n ==",
        "== 1",
        ".n == 'open",
        "\0",
    ],
    ids=brief,
)
def test_filters_that_are_wrong_or_too_large(held: Wire, expression: str) -> None:
    for words in (("VSIM", "k", "ELE", "a"), ("VSEARCH", "k", 5, "ELE", "a")):
        assert "FILTER expression" in refused(held, *words, "FILTER", expression)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("COUNT", 0), "invalid COUNT"),
        (("COUNT", -1), "invalid COUNT"),
        (("COUNT", 2**63), "invalid COUNT"),
        (("EF", 0), "invalid EF"),
        (("EF", 1_000_001), "invalid EF"),
        (("EF", 2**64), "invalid EF"),
        (("EPSILON", 0), "invalid EPSILON"),
        (("EPSILON", "nan"), "invalid EPSILON"),
        (("FILTER", ".n", "FILTER-EF", 0), "invalid FILTER-EF"),
        (("FILTER", ".n", "FILTER-EF", 2**64), "invalid FILTER-EF"),
        (("COUNT",), "syntax error in VSIM"),
        (("WITHVECTORS",), "syntax error in VSIM"),
        (("TRUTH", "x"), "syntax error in VSIM"),
    ],
    ids=brief,
)
def test_options_of_vsim(held: Wire, option: tuple[Any, ...], said: str) -> None:
    assert said in refused(held, "VSIM", "k", "ELE", "a", *option)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("VADD", "k", "FP32", fp32(1, 0, 0), "x"), "got 3 but set has 2"),
        (("VADD", "k", "FP32", b"", "x"), "invalid vector specification"),
        (("VADD", "k", "FP32", b"1234567", "x"), "invalid vector specification"),
        (("VADD", "l", "FP32", bytes(4 * 32769), "x"), "invalid vector specification"),
        (("VADD", "k", "VALUES", 3, 1, 0, "x"), "invalid vector specification"),
        (("VADD", "k", "VALUES", 1, 1, 0, "x"), "invalid option after element"),
        (("VADD", "k", "VALUES", 2**31, 1, 0, "x"), "invalid vector specification"),
        (("VADD", "k", "VALUES", 2**63, 1, 0, "x"), "invalid vector specification"),
        (("VADD", "k", "VALUES", -2, 1, 0, "x"), "invalid vector specification"),
        (("VADD", "k", "FP32", fp32(1, 0), "x", "Q8", "NOQUANT"), "quantization mismatch"),
        (("VADD", "k", "FP32", fp32(1, 0), "x", "M", 5), "M value mismatch"),
        (("VADD", "k", "FP32", fp32(1, 0), "x", "EF", 1_000_001), "invalid EF"),
        (("VADD", "k", "FP32", fp32(1, 0), "x", "SETATTR"), "invalid option after element"),
        (("VADD", "k", "FP32", fp32(1, 0), "x", "IDEM"), "invalid option after element"),
        (("VADD", "k", "REDUCE", 2, "FP32", fp32(1, 0), "x"), "without projection"),
        (("VADD", "l", "REDUCE", 3, "FP32", fp32(1, 0), "x"), "invalid vector specification"),
        (("VADD", "l", "REDUCE", -1, "FP32", fp32(1, 0), "x"), "invalid vector specification"),
        (("VADD", "l", "REDUCE", 2**63, "FP32", fp32(1, 0), "x"), "invalid vector specification"),
        (("VADD", "l", "REDUCE", 129, "FP32", bytes(131072), "x"), "too large a projection"),
        (("VADD", "l", "REDUCE", 2, "FP32", fp32(*[3e38] * 64), "x"), "too large for FP32"),
        (("VMADD", "k", 2, "x", fp32(1, 0)), "n has to be"),
        (("VMADD", "k", -1, "x", fp32(1, 0)), "n has to be"),
        (("VMADD", "k", 10**30, "x", fp32(1, 0)), "n has to be"),
        (("VMADD", "k", "many", "x", fp32(1, 0)), "n has to be"),
        (("VMADD", "k", 1, "x", fp32(1, 0), "y"), "n has to be"),
        (("VMADD", "k", 2, "x", fp32(1, 0), "y", fp32(1)), "got 1 but set has 2"),
        (("VMADD", "k", 2, "x", fp32(1, 0), "y", b"odd"), "invalid vector specification"),
        (("VMADD", "l", 2, "x", fp32(1), "y", fp32(1, 2)), "got 2 but set has 1"),
        (("VMADD", "l", 1, "x", b""), "invalid vector specification"),
        (("VREM", "k", "a", "b"), "wrong number of arguments"),
        (("VREM", "k", "a", "IDEM"), "syntax error"),
        (("VSETATTR", "k", "a"), "wrong number of arguments"),
        (("VDROP", "k", "now"), "syntax error"),
    ],
    ids=brief,
)
def test_changes_that_are_refused(held: Wire, words: tuple[Any, ...], said: str) -> None:
    assert said in refused(held, *words)


def test_changes_and_searches_of_what_is_no_vector_set(wire: Wire) -> None:
    wire.ok("SET", "s", "text")
    for words in (
        ("VADD", "s", "FP32", fp32(1), "a"),
        ("VMADD", "s", 1, "a", fp32(1)),
        ("VCREATE", "s", "DIM", 1),
        ("VDROP", "s"),
        ("VSEARCH", "s", 1, "ELE", "a"),
    ):
        assert refused(wire, *words).startswith("WRONGTYPE")
    assert wire.ok("GET", "s") == b"text"


@pytest.mark.parametrize(
    "text",
    [
        b"no json",
        b"{" * 300_000,
        b'{"n":' * 50_000 + b"1" + b"}" * 50_000,
        b"[1]",
        b"\xff\xfe",
        b'{"n":NaN}',
        b"null",
    ],
    ids=lambda text: repr(text[:20]),
)
def test_attributes_that_are_no_json_object_are_kept_and_never_match(
    wire: Wire, text: bytes
) -> None:
    wire.ok("VADD", "k", "FP32", fp32(1, 0), "a", "SETATTR", text)
    wire.ok("VADD", "k", "FP32", fp32(0, 1), "b", "SETATTR", '{"n":1}')
    assert wire.ok("VGETATTR", "k", "a") == text
    assert wire.ok("VSIM", "k", "ELE", "a", "FILTER", ".n == 1") == [b"b"]
    assert wire.ok("VSIM", "k", "ELE", "a", "FILTER", "not .n == 1") == []
    assert wire.ok("VSEARCH", "k", 1, "ELE", "a", "WITHATTRIBS")[2] == text


def test_a_zero_vector_is_as_far_from_everything_as_a_right_angle(wire: Wire) -> None:
    wire.ok("VADD", "k", "FP32", fp32(0, 0), "zero")
    wire.ok("VADD", "k", "FP32", fp32(1, 0), "a")
    for asked in ("zero", "a"):
        found = wire.ok("VSEARCH", "k", 5, "ELE", asked)
        distances = dict(zip(found[::2], map(float, found[1::2]), strict=True))
        assert distances[b"zero"] == 1
        assert distances[b"a"] == (0 if asked == "a" else 1)


def test_the_largest_and_the_smallest_numbers(wire: Wire) -> None:
    """Squares of which no single precision number holds."""
    wire.ok("VADD", "k", "FP32", fp32(3e38, 3e38), "large")
    wire.ok("VADD", "k", "FP32", fp32(1e-40, 0), "small")
    found = wire.ok("VSEARCH", "k", 5, "FP32", fp32(1, 1))
    assert found[::2] == [b"large", b"small"]
    assert float(found[1]) == pytest.approx(0, abs=1e-9)
    assert float(found[3]) == pytest.approx(1 - 0.5**0.5, abs=1e-6)
    wire.ok("VCREATE", "l", "DIM", 2, "METRIC", "L2")
    wire.ok("VMADD", "l", 2, "here", fp32(3e38, 0), "there", fp32(-3e38, 0))
    found = wire.ok("VSEARCH", "l", 5, "ELE", "here")
    assert found[::2] == [b"here", b"there"]
    assert float(found[3]) == pytest.approx(3.6e77, rel=1e-6)


def test_the_widest_vector_and_the_largest_projection(wire: Wire) -> None:
    width = 32768
    wire.ok("VADD", "k", "VALUES", width, *[1] * width, "a")
    assert wire.ok("VDIM", "k") == width
    assert wire.ok("VSIM", "k", "FP32", fp32(*[2] * width)) == [b"a"]
    wire.ok("VADD", "r", "REDUCE", 128, "FP32", fp32(*[1] * width), "a")
    assert wire.ok("VDIM", "r") == 128
    assert wire.ok("VSIM", "r", "FP32", fp32(*[1] * width)) == [b"a"]
    assert wire.ok("VADD", "one", "REDUCE", 1, "VALUES", 1, 5, "a") == 1
