"""The longest common subsequence: the bit-parallel way equals the textbook's table."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.modules import part
from tests.support.resp import ErrorReply, Wire

lcs = part("string.lcs")

_few_letters = st.text("ab", max_size=12) | st.text("abcd", max_size=20)
_texts = _few_letters.map(str.encode) | st.binary(max_size=12)


def textbook(a: bytes, b: bytes) -> tuple[int, bytes, list[tuple[int, int, int, int]]]:
    """The length, the subsequence and its runs from the whole table, chosen as Redis does."""
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, left in enumerate(a, 1):
        for j, right in enumerate(b, 1):
            if left == right:
                table[i][j] = table[i - 1][j - 1] + 1
            else:
                table[i][j] = max(table[i - 1][j], table[i][j - 1])
    found, runs = bytearray(), []
    run: list[int] = []
    i, j = len(a), len(b)
    while i and j:
        if a[i - 1] == b[j - 1]:
            i, j = i - 1, j - 1
            found.append(a[i])
            run = [i, run[1], j, run[3]] if run else [i, i, j, j]
            continue
        if run:
            runs.append(tuple(run))
            run = []
        if table[i - 1][j] > table[i][j - 1]:
            i -= 1
        else:
            j -= 1
    if run:
        runs.append(tuple(run))
    return table[-1][-1], bytes(found[::-1]), runs


@settings(max_examples=500, deadline=None)
@given(_texts, _texts)
def test_equals_the_textbook(a: bytes, b: bytes) -> None:
    length, subsequence, runs = textbook(a, b)
    assert lcs.length(a, b) == length
    assert lcs.subsequence(a, b) == subsequence
    assert [tuple(match) for match in lcs.matches(a, b)] == runs


def test_long_strings_of_very_different_lengths() -> None:
    """Rows belong to the shorter string, whichever side it is on."""
    letters = random.Random(8)
    long, short = letters.randbytes(300_000), letters.randbytes(40)
    assert lcs.length(short, long) == lcs.length(long, short) == 40
    assert lcs.subsequence(short, long) == lcs.subsequence(long, short) == short


def test_redis_refuses_tables_that_do_not_fit(wire: Wire) -> None:
    wire.ok("SET", "a", b"x" * 12_000)
    wire.ok("SET", "b", b"y" * 12_000)
    assert wire.call("LCS", "a", "b") == ErrorReply(
        "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len"
    )
    wire.ok("SET", "b", b"y" * 11_000)
    assert wire.call("LCS", "a", "b", "LEN") == 0


@pytest.mark.parametrize("options", [(), ("LEN",), ("IDX",), ("IDX", "WITHMATCHLEN")])
def test_empty_and_missing(wire: Wire, options: tuple[str, ...]) -> None:
    wire.ok("SET", "empty", "")
    nothing = wire.call("LCS", "missing", "empty", *options)
    assert nothing == wire.call("LCS", "empty", "empty", *options)
    assert nothing in (b"", 0, [b"matches", [], b"len", 0], {b"matches": [], b"len": 0})
