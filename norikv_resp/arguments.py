"""What a declaration says about a command's words: the vocabulary of arguments.

An argument knows its Redis type, how many words it takes and how a word
becomes what the handler gets. ``parser.py`` reads requests by a list of
them, ``keyspecs.py`` finds the keys by it, ``command_syntax.py`` prints it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from norikv_resp.errors import (
    InvalidExpire,
    InvalidVersion,
    NotAFloat,
    NotAnInteger,
    ReplyError,
)

Request = list[bytes]

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
UINT64_MAX = 2**64 - 1


class DeclarationError(Exception):
    """A command is declared badly; the text says which and how to mend it."""


# --------------------------------------------------------------------------
# Converters


def parse_int(data: bytes, what: str = "value") -> int:
    """A 64-bit decimal as Redis reads it: no sign but ``-``, no leading zeros, no spaces."""
    try:
        number = int(data)
    except ValueError:
        raise NotAnInteger(what) from None
    if not INT64_MIN <= number <= INT64_MAX or b"%d" % number != data:
        raise NotAnInteger(what)
    return number


def parse_float(data: bytes) -> float:
    """A number as Redis reads doubles: infinities pass, NaN, spaces and underscores do not."""
    try:
        number = float(data)
    except ValueError:
        raise NotAFloat from None
    if math.isnan(number) or b"_" in data or data != data.strip():
        raise NotAFloat
    return number


def parse_version(data: bytes) -> tuple[int, int]:
    """``<term>-<index>`` as a pair that orders as versions do; ``0`` means "does not exist"."""
    if data == b"0":
        return 0, 0
    term_text, _, index_text = data.partition(b"-")
    try:
        term, index = int(term_text), int(index_text)
    except ValueError:
        raise InvalidVersion from None
    if b"%d-%d" % (term, index) != data or not (
        0 <= term <= UINT64_MAX and 0 <= index <= UINT64_MAX
    ):
        raise InvalidVersion
    return term, index


# --------------------------------------------------------------------------
# The argument vocabulary


@dataclass(frozen=True)
class Arg:
    """One argument: positional without ``token``, else an option ``TOKEN value``.

    ``type`` is Redis's name for it in COMMAND DOCS.
    """

    name: str = "value"
    token: str | None = None
    optional: bool = False
    multiple: bool = False
    display: str | None = None

    type = "string"

    @property
    def param(self) -> str:
        """The handler's parameter."""
        return self.name.replace("-", "_")

    @property
    def width(self) -> int:
        """How many words one occurrence takes, its token included."""
        return 2 if self.token else 1

    def convert(self, data: bytes) -> Any:
        """The word as the handler gets it; ReplyError if it cannot be one."""
        return data


@dataclass(frozen=True)
class Bytes(Arg):
    """Any bytes."""


@dataclass(frozen=True)
class Pattern(Arg):
    """A glob pattern."""

    type = "pattern"


@dataclass(frozen=True)
class Int(Arg):
    """A 64-bit integer."""

    what: str = "value"
    type = "integer"

    def convert(self, data: bytes) -> int:
        return parse_int(data, self.what)


@dataclass(frozen=True)
class UnixTime(Int):
    """A 64-bit integer that is a point in time."""

    type = "unix-time"


@dataclass(frozen=True)
class ExpireTime(Arg):
    """A number of seconds or milliseconds that ``deadline`` reads.

    The handler gets the word: Redis judges these only after the whole syntax.
    """

    type = "integer"


@dataclass(frozen=True)
class ExpireAt(ExpireTime):
    """A Unix time that ``deadline`` reads."""

    type = "unix-time"


@dataclass(frozen=True)
class Float(Arg):
    """A double."""

    type = "double"

    def convert(self, data: bytes) -> float:
        return parse_float(data)


@dataclass(frozen=True)
class Version(Arg):
    """A version; the handler gets ``(term, index)``, ``(0, 0)`` for "does not exist"."""

    name: str = "version"

    def convert(self, data: bytes) -> tuple[int, int]:
        return parse_version(data)


@dataclass(frozen=True)
class Key(Arg):
    """A key. ``access`` is Redis's RO, RW, OW or RM; ``does`` the rest of its key spec flags."""

    name: str = "key"
    access: str = "RO"
    does: tuple[str, ...] = ("access",)

    type = "key"


@dataclass(frozen=True)
class Token(Arg):
    """A word that is there or not; the handler gets a bool."""

    type = "pure-token"

    def __init__(self, token: str, name: str | None = None, optional: bool = True) -> None:
        super().__init__(name or token.lower(), token, optional)

    @property
    def width(self) -> int:
        return 1


@dataclass(frozen=True)
class OneOf(Arg):
    """At most one of several options; the handler gets ``(b"TOKEN", value)`` or None.

    The value of a Token is True. Repeating the same option is allowed and the
    last one counts; two different ones are a syntax error.
    """

    choices: tuple[Arg, ...] = ()
    type = "oneof"

    def __init__(self, name: str, *choices: Arg, optional: bool = True) -> None:
        super().__init__(name, None, optional)
        object.__setattr__(self, "choices", choices)

    @property
    def width(self) -> int:
        return min(choice.width for choice in self.choices)


@dataclass(frozen=True)
class Block(Arg):
    """A group of positional words that may repeat; the handler gets a list of tuples."""

    parts: tuple[Arg, ...] = ()
    type = "block"

    def __init__(self, name: str, *parts: Arg, multiple: bool = True) -> None:
        super().__init__(name, None, False, multiple)
        object.__setattr__(self, "parts", parts)

    @property
    def width(self) -> int:
        return sum(part.width for part in self.parts)


BAD_COUNT = ReplyError(b"ERR numkeys should be greater than 0")
TOO_FEW = ReplyError(b"ERR syntax error")


@dataclass(frozen=True)
class Counted(Arg):
    """A count, then that many keys or blocks; the handler gets the list.

    ``bad_count`` is the error for a count below one, ``short`` for too few words.
    """

    of: Arg = field(default_factory=Key)
    count_name: str = "numkeys"
    bad_count: ReplyError = BAD_COUNT
    short: ReplyError = TOO_FEW

    @property
    def width(self) -> int:
        return 1 + self.of.width


@dataclass(frozen=True)
class Idem(Arg):
    """``IDEM token``: the dispatcher runs the command at most once; no handler parameter."""

    name: str = "idem-token"
    token: str | None = "IDEM"
    optional: bool = True


@dataclass(frozen=True)
class Rest(Arg):
    """Everything that is left, unparsed, as a list; for what has a grammar of its own."""

    name: str = "rest"
    optional: bool = True
    multiple: bool = True


# --------------------------------------------------------------------------
# The expiry options of SET, CAS and their kin


def expiry_option(*, keepttl: bool = True, persist: bool = False, ttl: bool = True) -> OneOf:
    """The group ``EX PX EXAT PXAT`` with KEEPTTL, PERSIST and our TTL where they belong."""
    choices: list[Arg] = [
        ExpireTime("seconds", token="EX"),
        ExpireTime("milliseconds", token="PX"),
        ExpireAt("unix-time-seconds", token="EXAT"),
        ExpireAt("unix-time-milliseconds", token="PXAT"),
    ]
    if persist:
        choices.append(Token("PERSIST"))
    if keepttl:
        choices.append(Token("KEEPTTL"))
    if ttl:
        choices.append(ExpireTime("ttl", token="TTL"))
    return OneOf("expiry", *choices)


def deadline(expiry: tuple[bytes, bytes], now: int, command_name: str) -> int:
    """The Unix time in milliseconds that an EX, PX, EXAT, PXAT or TTL option names.

    0 for ``TTL 0``, which means no expiry. NotAnInteger for other words,
    InvalidExpire for what is not positive or does not fit into 64 bits.
    """
    unit, word = expiry
    amount = parse_int(word)
    if unit == b"TTL":
        if amount == 0:
            return 0
        unit = b"PX"
    if amount <= 0:
        raise InvalidExpire(command_name)
    if unit in (b"EX", b"EXAT"):
        amount *= 1000
    if unit in (b"EX", b"PX"):
        amount += now
    if amount > INT64_MAX:
        raise InvalidExpire(command_name)
    return amount
