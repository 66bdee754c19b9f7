"""Glob patterns: Redis's corner cases, a naive model, and a real server where there is one."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from norikv_resp.glob import compile_glob, is_literal, match


def naive(pattern: bytes, subject: bytes) -> bool:
    """Match by trying everything, one byte of the pattern at a time."""
    if not pattern or not subject:
        # A star that has nothing left to take counts only after something was consumed; the
        # caller strips those, so at the top level a star never matches the empty string.
        return not pattern and not subject
    head, rest = pattern[0:1], pattern[1:]
    if head == b"*":
        rest = rest.lstrip(b"*")
        return not rest or any(naive(rest, subject[i:]) for i in range(len(subject)))
    if head == b"[":
        negated = rest.startswith(b"^")
        body = rest[1:] if negated else rest
        admitted: set[int] = set()
        while body and body[0:1] != b"]":
            if body[0:1] == b"\\" and len(body) >= 2:
                admitted.add(body[1])
                body = body[2:]
            elif len(body) >= 3 and body[1:2] == b"-":
                low, high = sorted((body[0], body[2]))
                admitted.update(range(low, high + 1))
                body = body[3:]
            else:
                admitted.add(body[0])
                body = body[1:]
        if (subject[0] in admitted) == negated:
            return False
        rest = body[1:]
    elif head != b"?":
        if head == b"\\" and rest:
            head, rest = rest[0:1], rest[1:]
        if head != subject[0:1]:
            return False
    subject = subject[1:]
    return naive(rest if subject else rest.lstrip(b"*"), subject)


CASES = [
    (b"", b"", True),
    (b"", b"a", False),
    (b"*", b"", False),
    (b"**", b"", False),
    (b"*", b"a", True),
    (b"a*", b"a", True),
    (b"*a", b"a", True),
    (b"a*a", b"a", False),
    (b"a*a", b"aa", True),
    (b"?", b"", False),
    (b"?", b"\n", True),
    (b"*\n*", b"a\nb", True),
    (b"h[ae]llo", b"hallo", True),
    (b"h[ae]llo", b"hillo", False),
    (b"h[^e]llo", b"hello", False),
    (b"h[^e]llo", b"hbllo", True),
    (b"h[c-a]llo", b"hbllo", True),
    (b"[a-]", b"^", True),  # the bracket ends the range a-], the set is never closed
    (b"[a-]", b"-", False),
    (b"[\\]]", b"]", True),
    (b"[\\a-c]", b"-", True),
    (b"[]", b"]", False),
    (b"[^]", b"x", True),
    (b"[", b"[", False),
    (b"[^", b"x", True),
    (b"[abc", b"b", True),
    (b"[\\", b"\\", True),
    (b"a\\*", b"a*", True),
    (b"a\\*", b"ab", False),
    (b"a\\", b"a\\", True),
    (b"\\a\\b\\c", b"abc", True),
    (b"*a*1[0-9]*", b"xax10y", True),
    (b"*1?0*", b"10100", True),
    (b"*[^a]b*c", b"abbbc", True),
]


@pytest.mark.parametrize(("pattern", "subject", "expected"), CASES)
def test_patterns_match_as_in_redis(pattern: bytes, subject: bytes, expected: bool) -> None:
    assert match(pattern, subject) is expected
    assert naive(pattern, subject) is expected


ALPHABET = b"ab*?[]^-\\\n"


def _bytes_of(alphabet: bytes, size: int) -> st.SearchStrategy[bytes]:
    return st.lists(st.sampled_from(list(alphabet)), max_size=size).map(bytes)


@settings(max_examples=400, deadline=None)
@given(_bytes_of(ALPHABET, 10), _bytes_of(b"ab]-\\\n", 8))
def test_agrees_with_a_naive_model(pattern: bytes, subject: bytes) -> None:
    assert match(pattern, subject) is naive(pattern, subject)


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_any_pattern_compiles(pattern: bytes, subject: bytes) -> None:
    assert match(pattern, subject) is naive(pattern, subject)


@pytest.mark.parametrize(
    ("pattern", "subject"),
    [
        (b"a*" * 200 + b"b", b"a" * 5000),
        (b"*a?" * 60 + b"b", b"a" * 1000),
        (b"*[ab]" * 150 + b"c", b"ab" * 500),
        (b"*" * 5000 + b"b", b"a" * 5000),
        (b"\\a" * 20_000, b"a" * 20_001),
    ],
)
def test_hostile_patterns_stay_cheap(pattern: bytes, subject: bytes) -> None:
    started = time.perf_counter()
    assert not match(pattern, subject)
    assert time.perf_counter() - started < 1.0


def test_case_can_be_ignored() -> None:
    assert match(b"MAX*[A-C]", b"maxmemoryB", nocase=True)
    assert not match(b"MAX*", b"maxmemory")


def test_patterns_are_compiled_once() -> None:
    assert compile_glob(b"a?c*") is compile_glob(b"a?c*")
    assert compile_glob(b"x" * 600) is not compile_glob(b"x" * 600)


def test_literal_patterns_are_recognised() -> None:
    assert is_literal(b"plain-key]")
    assert not is_literal(b"a*")
    assert not is_literal(b"a\\b")
