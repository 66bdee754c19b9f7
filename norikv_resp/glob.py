"""Redis's glob patterns over bytes, as KEYS, PSUBSCRIBE, SCAN MATCH, CONFIG GET and ACLs use them.

The language: ``*`` any run of bytes, ``?`` one byte, ``[abc]`` one of a set, ``[a-z]`` a range (its
ends in either order), ``[^a]`` one byte that is not in the set, and a backslash that takes the next
byte as it is, in sets too. Three corners are Redis's own: a set that is never closed ends with the
pattern, the byte after a dash is a range's end even when it is ``]``, and a pattern of stars alone
does not match the empty string.

A pattern is compiled once into a function of the subject. Patterns whose only special character
is ``*`` become prefix, suffix and substring searches (linear time); the others become a regular
expression in which no star can be retried, so that ``a*a*a*a*b`` costs at most the product of the
two lengths and never their power.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

__all__ = ["Matcher", "compile_glob", "is_literal", "match"]

Matcher = Callable[[bytes], bool]

# A compiled pattern is remembered when the pattern is at most this long (bytes), so that the cache
# stays small whatever clients send.
_CACHED_LENGTH = 512
_CACHE_ENTRIES = 1024

_SPECIAL = re.compile(rb"[*?\[\\]")
_ANY_BYTE = (1 << 256) - 1


def match(pattern: bytes, subject: bytes, *, nocase: bool = False) -> bool:
    """Tell whether *pattern* covers the whole of *subject*."""
    return compile_glob(pattern, nocase=nocase)(subject)


def compile_glob(pattern: bytes, *, nocase: bool = False) -> Matcher:
    """Return a function that tells whether its argument matches *pattern*.

    With *nocase*, ASCII letters match in either case. Never fails: every byte string is a pattern.
    """
    if len(pattern) <= _CACHED_LENGTH:
        return _compile_cached(pattern, nocase)
    return _compile(pattern, nocase)


def is_literal(pattern: bytes) -> bool:
    """Tell whether *pattern* has no special character, and so matches only itself."""
    return _SPECIAL.search(pattern) is None


def _compile(pattern: bytes, nocase: bool) -> Matcher:
    if nocase:
        sensitive = compile_glob(pattern.lower())
        return lambda subject: sensitive(subject.lower())
    segments = _segments(pattern)
    literals = [_literal(segment) for segment in segments]
    if None not in literals:
        return _compile_literals([text for text in literals if text is not None])
    return _compile_regex(segments)


_compile_cached = lru_cache(maxsize=_CACHE_ENTRIES)(_compile)


# Parsing. A pattern is a list of segments between runs of stars. A segment is a list of tokens;
# a token is a literal run of bytes (a bytearray, because escapes make it grow byte by byte), or the
# 256-bit set of the bytes that one position admits.

_Token = bytearray | int
_Segment = list[_Token]


def _segments(pattern: bytes) -> list[_Segment]:
    segment: _Segment = []
    segments = [segment]
    position = 0
    length = len(pattern)
    while position < length:
        byte = pattern[position]
        if byte == 0x2A:  # *
            # A star directly after a star adds nothing.
            if segment or len(segments) == 1:
                segment = []
                segments.append(segment)
            position += 1
        elif byte == 0x3F:  # ?
            segment.append(_ANY_BYTE)
            position += 1
        elif byte == 0x5B:  # [
            members, position = _parse_set(pattern, position + 1)
            segment.append(members)
        else:
            if byte == 0x5C and position + 1 < length:  # a backslash, unless it is the last byte
                position += 1
            special = _SPECIAL.search(pattern, position + 1)
            end = special.start() if special else length
            _append_literal(segment, pattern[position:end])
            position = end
    return segments


def _append_literal(segment: _Segment, text: bytes) -> None:
    last = segment[-1] if segment else None
    if isinstance(last, bytearray):
        last += text
    else:
        segment.append(bytearray(text))


def _parse_set(pattern: bytes, position: int) -> tuple[int, int]:
    """Parse what follows ``[`` and return (admitted bytes, position after the set)."""
    length = len(pattern)
    negated = position < length and pattern[position] == 0x5E  # ^
    if negated:
        position += 1
    members = 0
    while position < length:
        left = length - position
        byte = pattern[position]
        if byte == 0x5C and left >= 2:
            members |= 1 << pattern[position + 1]
            position += 2
        elif byte == 0x5D:  # ]
            position += 1
            break
        elif left >= 3 and pattern[position + 1] == 0x2D:  # -
            low, high = sorted((byte, pattern[position + 2]))
            members |= (1 << (high + 1)) - (1 << low)
            position += 3
        else:
            members |= 1 << byte
            position += 1
    return (members ^ _ANY_BYTE if negated else members), position


def _literal(segment: _Segment) -> bytes | None:
    """Return the segment's text if it is plain text, else None."""
    if not segment:
        return b""
    if len(segment) == 1 and isinstance(segment[0], bytearray):
        return bytes(segment[0])
    return None


# Matching.


def _compile_literals(parts: list[bytes]) -> Matcher:
    """Match plain texts with stars between them: linear in the subject."""
    if len(parts) == 1:
        text = parts[0]
        return lambda subject: subject == text
    head, *middle, tail = parts
    least = sum(map(len, parts))
    if not least:
        return bool  # nothing but stars: everything except the empty string
    if not middle:
        if not tail:
            return lambda subject: subject.startswith(head)
        if not head:
            return lambda subject: subject.endswith(tail)
        return lambda subject: (
            len(subject) >= least and subject.startswith(head) and subject.endswith(tail)
        )
    if len(middle) == 1 and not head and not tail:
        text = middle[0]
        return lambda subject: text in subject

    def matches(subject: bytes) -> bool:
        if len(subject) < least or not subject.startswith(head) or not subject.endswith(tail):
            return False
        position = len(head)
        end = len(subject) - len(tail)
        for text in middle:
            position = subject.find(text, position, end)
            if position < 0:
                return False
            position += len(text)
        return True

    return matches


def _compile_regex(segments: list[_Segment]) -> Matcher:
    """Match through a regular expression.

    The earliest place for each middle segment is always a right one, so each is found inside a
    lookahead, which the engine does not enter again, and then consumed by a back reference.
    """
    head, *rest = segments
    parts = [_regex(head)]
    for number, segment in enumerate(rest[:-1], 1):
        parts.append(b"(?=(?P<s%d>.*?%s))(?P=s%d)" % (number, _regex(segment), number))
    if rest:
        parts.append(b".*" + _regex(rest[-1]))
    fullmatch = re.compile(b"".join(parts), re.DOTALL).fullmatch
    least = sum(1 if isinstance(token, int) else len(token) for part in segments for token in part)
    return lambda subject: len(subject) >= least and fullmatch(subject) is not None


def _regex(segment: _Segment) -> bytes:
    return b"".join(
        _regex_set(token) if isinstance(token, int) else re.escape(bytes(token))
        for token in segment
    )


def _regex_set(members: int) -> bytes:
    if members == _ANY_BYTE:
        return b"."
    if not members:
        return b"(?!)"
    ranges = []
    low = 0
    while low < 256:
        if not members >> low & 1:
            low += 1
            continue
        high = low
        while high < 255 and members >> (high + 1) & 1:
            high += 1
        ranges.append(b"\\x%02x-\\x%02x" % (low, high))
        low = high + 1
    return b"[" + b"".join(ranges) + b"]"
