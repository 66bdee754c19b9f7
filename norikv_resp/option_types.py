"""The kinds of option: how each is read from words, shown by CONFIG GET and written to a file.

An option is a class attribute that doubles as a typed default: on an instance, `config.port`
is a plain attribute of type int; on the class, `Config.port` is the option's own row. Error
texts are Redis's, since clients and their test suites compare them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar, overload

T = TypeVar("T")

INT_MAX = 2**31 - 1
LONG_MAX = 2**63 - 1


class OptionError(ValueError):
    """A value that an option does not take; the text is Redis's."""


# ---------------------------------------------------------------------------
# Words and quotes
# ---------------------------------------------------------------------------

_SPACE = b" \t\n\v\f\r"
_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}
_UNESCAPES = {
    0x07: b"\\a",
    0x08: b"\\b",
    0x09: b"\\t",
    0x0A: b"\\n",
    0x0D: b"\\r",
    0x22: b'\\"',
    0x5C: b"\\\\",
}
_BARE = re.compile(rb"[^\s\"'\\#\x00-\x1f\x7f-\xff][^\s\"'\\\x00-\x1f\x7f-\xff]*")
_PIECE = re.compile(
    rb"""(?:
      "(?P<double>(?:[^"\\]|\\.)*)"(?=[ \t\n\v\f\r]|\Z)
    | '(?P<single>(?:[^'\\]|\\'|\\(?!'))*)'(?=[ \t\n\v\f\r]|\Z)
    | (?P<plain>[^ \t\n\v\f\r"']+)
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)


def _unescape(match: re.Match[bytes]) -> bytes:
    body = match[1]
    if len(body) == 3:
        return bytes([int(body[1:], 16)])
    return _ESCAPES.get(body, body)


def split_words(line: bytes) -> list[bytes]:
    """Split a line into words, as Redis does in files and inline commands.

    Double quotes understand \\n \\r \\t \\b \\a \\xHH and \\<any>; single quotes only \\'.
    A closing quote must end the word. Raises OptionError on unbalanced quotes. O(length).
    """
    words: list[bytes] = []
    at, end = 0, len(line)
    while True:
        while at < end and line[at] in _SPACE:
            at += 1
        if at == end:
            return words
        word = b""
        while at < end and line[at] not in _SPACE:
            piece = _PIECE.match(line, at)
            if piece is None:
                raise OptionError("Unbalanced quotes in configuration line")
            if piece["double"] is not None:
                word += _ESCAPE.sub(_unescape, piece["double"])
            elif piece["single"] is not None:
                word += piece["single"].replace(b"\\'", b"'")
            else:
                word += piece["plain"]
            at = piece.end()
        words.append(word)


def quote(word: bytes) -> bytes:
    """The shortest text that split_words reads back as `word`."""
    if _BARE.fullmatch(word):
        return word
    return b'"%b"' % b"".join(
        _UNESCAPES.get(c) or (b"%c" % c if 0x20 <= c < 0x7F else b"\\x%02x" % c) for c in word
    )


def to_text(word: bytes) -> str:
    """Bytes of a file or a command as text that survives the way back."""
    return word.decode("utf-8", "surrogateescape")


def to_bytes(text: str) -> bytes:
    """The inverse of to_text."""
    return text.encode("utf-8", "surrogateescape")


# ---------------------------------------------------------------------------
# The base
# ---------------------------------------------------------------------------


class Option(Generic[T]):
    """One row of the option table.

    `live` says whether CONFIG SET may change it. `aliases` are older names for the same
    value. `secret` values never reach a log. `suggested` lines stand uncommented in the
    configuration file that is shipped. A non-empty `ignored` is the reason why the option
    has no effect.
    """

    # Reads all words of its line, where other options take exactly one.
    many_words: ClassVar[bool] = False
    # Several lines in a file add up; CONFIG SET replaces them all.
    repeatable: ClassVar[bool] = False
    # Only for files and flags: CONFIG GET and SET do not know it.
    directive: ClassVar[bool] = False

    name: str
    attribute: str
    section: str
    ignored: str

    def __init__(
        self,
        default: T,
        doc: str = "",
        *,
        live: bool = True,
        aliases: Sequence[str] = (),
        secret: bool = False,
        suggested: bool = False,
    ) -> None:
        self.default = default
        self.doc = doc
        self.live = live
        self.aliases = tuple(aliases)
        self.secret = secret
        self.suggested = suggested

    def __set_name__(self, owner: type[Any], attribute: str) -> None:
        self.attribute = attribute
        self.name = attribute.replace("_", "-")
        self.section = owner.title
        self.ignored = owner.ignored

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> Option[T]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any]) -> T: ...
    def __get__(self, instance: object | None, owner: type[Any]) -> Option[T] | T:
        # Reached on the class only: instances hold every value in their own __dict__.
        return self if instance is None else self.default

    @property
    def names(self) -> tuple[str, ...]:
        """The name and its aliases."""
        return (self.name, *self.aliases)

    def parse(self, words: Sequence[bytes], current: T) -> T:
        """The value that `words` mean, over `current`. Raises OptionError with Redis's text."""
        raise NotImplementedError

    def show(self, value: T) -> bytes:
        """The value as CONFIG GET answers it."""
        raise NotImplementedError

    def lines(self, value: T) -> list[bytes]:
        """What follows the name in a configuration file, one item per line."""
        return [quote(self.show(value))]

    def accepts(self) -> str:
        """What values the option takes, for the documentation; empty where that is plain."""
        return ""


def _one(words: Sequence[bytes]) -> bytes:
    if len(words) != 1:
        raise OptionError("wrong number of arguments")
    return words[0]


# ---------------------------------------------------------------------------
# Single values
# ---------------------------------------------------------------------------


class Flag(Option[bool]):
    """yes or no."""

    def parse(self, words: Sequence[bytes], current: bool) -> bool:
        word = _one(words).lower()
        if word not in (b"yes", b"no"):
            raise OptionError("argument must be 'yes' or 'no'")
        return word == b"yes"

    def show(self, value: bool) -> bytes:
        return b"yes" if value else b"no"

    def accepts(self) -> str:
        return "`yes` or `no`"


_INTEGER = re.compile(rb"0|-?[1-9][0-9]{0,18}")


class Integer(Option[int]):
    """A whole number within a range."""

    def __init__(self, default: int, minimum: int, maximum: int, doc: str = "", **row: Any) -> None:
        super().__init__(default, doc, **row)
        self.minimum = minimum
        self.maximum = maximum

    def _number(self, word: bytes) -> int:
        if not _INTEGER.fullmatch(word):
            raise OptionError("argument couldn't be parsed into an integer")
        return int(word)

    def parse(self, words: Sequence[bytes], current: int) -> int:
        number = self._number(_one(words))
        if not self.minimum <= number <= self.maximum:
            raise OptionError(
                f"argument must be between {self.minimum} and {self.maximum} inclusive"
            )
        return number

    def show(self, value: int) -> bytes:
        return b"%d" % value

    def accepts(self) -> str:
        if self.maximum not in (INT_MAX, LONG_MAX):
            return f"{self.minimum} to {self.maximum}"
        return f"{self.minimum} or more" if self.minimum else ""


_MEMORY = re.compile(rb"([0-9]+)(|b|k|kb|m|mb|g|gb)")
_UNITS = {
    b"": 1,
    b"b": 1,
    b"k": 1000,
    b"kb": 1 << 10,
    b"m": 1000**2,
    b"mb": 1 << 20,
    b"g": 1000**3,
    b"gb": 1 << 30,
}


def memory_bytes(word: bytes) -> int:
    """`64mb` in bytes: units k, m, g count in thousands, kb, mb, gb in 1024s."""
    match = _MEMORY.fullmatch(word.lower())
    if match is None:
        raise OptionError("argument must be a memory value")
    return int(match[1]) * _UNITS[match[2]]


def with_unit(size: int) -> bytes:
    """A number of bytes with the largest unit that divides it."""
    for unit in (b"gb", b"mb", b"kb"):
        if size and size % _UNITS[unit] == 0:
            return b"%d%b" % (size // _UNITS[unit], unit)
    return b"%d" % size


class Memory(Integer):
    """A number of bytes; with `percent`, also a share, kept as a negative number."""

    def __init__(
        self,
        default: int,
        minimum: int,
        maximum: int,
        doc: str = "",
        *,
        percent: bool = False,
        **row: Any,
    ) -> None:
        super().__init__(default, minimum, maximum, doc, **row)
        self.percent = percent

    def _number(self, word: bytes) -> int:
        if self.percent and re.fullmatch(rb"[0-9]{1,9}%", word):
            share = int(word[:-1])
            if share > 100:
                raise OptionError("percentage argument must be less or equal to 100")
            return -share
        try:
            return memory_bytes(word)
        except OptionError:
            if self.percent:
                raise OptionError("argument must be a memory or percent value") from None
            raise

    def show(self, value: int) -> bytes:
        return b"%d%%" % -value if value < 0 else b"%d" % value

    def lines(self, value: int) -> list[bytes]:
        return [self.show(value) if value < 0 else with_unit(value)]

    def accepts(self) -> str:
        least = to_text(self.lines(self.minimum)[0])
        return f"{least} or more" if self.minimum > 0 and self.maximum == LONG_MAX else ""


class Octal(Integer):
    """File permissions."""

    def _number(self, word: bytes) -> int:
        if not re.fullmatch(rb"[0-7]{1,12}", word):
            raise OptionError("argument couldn't be parsed as an octal number")
        return int(word, 8)

    def parse(self, words: Sequence[bytes], current: int) -> int:
        number = self._number(_one(words))
        if number > self.maximum:
            raise OptionError(
                f"argument must be between {self.minimum:o} and {self.maximum:o} inclusive"
            )
        return number

    def show(self, value: int) -> bytes:
        return b"%o" % value

    def accepts(self) -> str:
        return f"octal, up to `{self.maximum:o}`"


class Choice(Option[str]):
    """One of a few words, without case."""

    def __init__(self, default: str, choices: Sequence[str], doc: str = "", **row: Any) -> None:
        super().__init__(default, doc, **row)
        self.choices = tuple(choices)

    def parse(self, words: Sequence[bytes], current: str) -> str:
        word = to_text(_one(words)).lower()
        if word not in self.choices:
            raise OptionError(
                "argument(s) must be one of the following: " + ", ".join(self.choices)
            )
        return word

    def show(self, value: str) -> bytes:
        return value.encode()

    def accepts(self) -> str:
        return " ".join(f"`{choice}`" for choice in self.choices)


class Text(Option[str]):
    """Any text; bytes that are not UTF-8 survive (see to_text)."""

    def parse(self, words: Sequence[bytes], current: str) -> str:
        return to_text(_one(words))

    def show(self, value: str) -> bytes:
        return to_bytes(value)


class Secret(Option[bytes]):
    """A password, as the bytes that clients send."""

    def __init__(self, default: bytes, doc: str = "", **row: Any) -> None:
        super().__init__(default, doc, secret=True, **row)

    def parse(self, words: Sequence[bytes], current: bytes) -> bytes:
        return _one(words)

    def show(self, value: bytes) -> bytes:
        return value


class Events(Option[str]):
    """Classes of keyspace events, kept in Redis's canonical order."""

    KNOWN: ClassVar[str] = "Ag$lshzxeKEtmdnocaSTIV"
    # What A stands for. The optional classes are not shown beside A, as in Redis.
    ALL: ClassVar[str] = "g$lshzxetda"
    OPTIONAL: ClassVar[str] = "noc"
    ALWAYS: ClassVar[str] = "KEmSTIV"

    def parse(self, words: Sequence[bytes], current: str) -> str:
        text = to_text(_one(words))
        if not set(text) <= set(self.KNOWN):
            raise OptionError(f"Invalid event class character. Use '{self.KNOWN}'.")
        return text

    def show(self, value: str) -> bytes:
        flags = self.expand(value)
        head = "A" if set(self.ALL) <= flags else self._keep(self.ALL + self.OPTIONAL, flags)
        return (head + self._keep(self.ALWAYS, flags)).encode()

    @classmethod
    def expand(cls, value: str) -> frozenset[str]:
        """The single classes of a value, A resolved."""
        return frozenset(value.replace("A", cls.ALL))

    @staticmethod
    def _keep(order: str, flags: frozenset[str]) -> str:
        return "".join(flag for flag in order if flag in flags)

    def lines(self, value: str) -> list[bytes]:
        # Not the canonical form: Redis's hides n, o and c beside A.
        return [quote(to_bytes(value))]

    def accepts(self) -> str:
        return f"letters of `{self.KNOWN}`"


# ---------------------------------------------------------------------------
# Several words
# ---------------------------------------------------------------------------


class Words(Option[tuple[str, ...]]):
    """A list of words; none, or a single empty one, is the empty list."""

    many_words = True

    def parse(self, words: Sequence[bytes], current: tuple[str, ...]) -> tuple[str, ...]:
        return () if list(words) == [b""] else tuple(map(to_text, words))

    def show(self, value: tuple[str, ...]) -> bytes:
        return to_bytes(" ".join(value))

    def lines(self, value: tuple[str, ...]) -> list[bytes]:
        return [b" ".join(quote(to_bytes(word)) for word in value) or b'""']


class Numbers(Words):
    """A list of numbers within a range; `exactly` fixes how many."""

    def __init__(
        self,
        default: tuple[str, ...],
        minimum: int,
        maximum: int,
        doc: str = "",
        *,
        exactly: int = 0,
        error: str = "",
        **row: Any,
    ) -> None:
        super().__init__(default, doc, **row)
        self.minimum = minimum
        self.maximum = maximum
        self.exactly = exactly
        self.error = error

    def parse(self, words: Sequence[bytes], current: tuple[str, ...]) -> tuple[str, ...]:
        parsed = super().parse(words, current)
        if self.exactly and len(parsed) != self.exactly:
            raise OptionError("wrong number of arguments")
        for word in parsed:
            if not re.fullmatch(r"-?[0-9]{1,12}(\.[0-9]{1,12})?", word):
                raise OptionError(self.error)
            if not self.minimum <= float(word) <= self.maximum:
                raise OptionError(self.error)
        return parsed

    def accepts(self) -> str:
        return f"numbers, {self.minimum} to {self.maximum}"


class SavePoints(Option[tuple[str, ...]]):
    """Redis's snapshot schedule: pairs of seconds and changes; lines add up, `""` clears."""

    many_words = True
    repeatable = True

    def parse(self, words: Sequence[bytes], current: tuple[str, ...]) -> tuple[str, ...]:
        if list(words) == [b""]:
            return ()
        if not words or len(words) % 2:
            raise OptionError("Invalid save parameters")
        for at, word in enumerate(words):
            if not re.fullmatch(rb"[0-9]{1,18}", word) or (at % 2 == 0 and int(word) < 1):
                raise OptionError("Invalid save parameters")
        return current + tuple(map(to_text, words))

    def show(self, value: tuple[str, ...]) -> bytes:
        return " ".join(value).encode()

    def lines(self, value: tuple[str, ...]) -> list[bytes]:
        pairs = zip(value[::2], value[1::2], strict=True)
        return [f"{seconds} {changes}".encode() for seconds, changes in pairs] or [b'""']

    def accepts(self) -> str:
        return "pairs of seconds and changes"


class OutputLimit(NamedTuple):
    """Bounds on the replies that wait for one client; 0 means no bound."""

    hard: int  # bytes: the client is closed at once
    soft: int  # bytes: the client is closed after `seconds` above it
    seconds: int


class OutputLimits(Option[dict[str, OutputLimit]]):
    """client-output-buffer-limit: a limit for each class of client."""

    many_words = True

    CLASSES: ClassVar[dict[str, str]] = {
        "normal": "normal",
        "slave": "slave",
        "replica": "slave",
        "pubsub": "pubsub",
    }

    def parse(
        self, words: Sequence[bytes], current: dict[str, OutputLimit]
    ) -> dict[str, OutputLimit]:
        if not words or len(words) % 4:
            raise OptionError("Wrong number of arguments in buffer limit configuration.")
        limits = dict(current)
        for at in range(0, len(words), 4):
            kind = self.CLASSES.get(to_text(words[at]).lower())
            if kind is None:
                raise OptionError("Invalid client class specified in buffer limit configuration.")
            try:
                hard, soft = memory_bytes(words[at + 1]), memory_bytes(words[at + 2])
                if not re.fullmatch(rb"[0-9]{1,18}", words[at + 3]):
                    raise OptionError("not a number of seconds")
            except OptionError:
                raise OptionError(
                    "Error in hard, soft or soft_seconds setting in buffer limit configuration."
                ) from None
            limits[kind] = OutputLimit(hard, soft, int(words[at + 3]))
        return limits

    def show(self, value: dict[str, OutputLimit]) -> bytes:
        return b" ".join(b"%b %d %d %d" % (kind.encode(), *value[kind]) for kind in value)

    def lines(self, value: dict[str, OutputLimit]) -> list[bytes]:
        return [
            b"%b %b %b %d" % (kind.encode(), with_unit(limit.hard), with_unit(limit.soft), limit[2])
            for kind, limit in value.items()
        ]

    def accepts(self) -> str:
        return "`<class> <hard> <soft> <seconds>`, one or more times"


class Directive(Option[tuple[tuple[str, ...], ...]]):
    """A line that may stand several times in a file and that CONFIG GET does not know."""

    many_words = True
    repeatable = True
    directive = True

    def __init__(self, syntax: str, doc: str, *, least: int = 1, **row: Any) -> None:
        super().__init__((), doc, live=False, **row)
        self.syntax = syntax
        self.least = least

    def parse(
        self, words: Sequence[bytes], current: tuple[tuple[str, ...], ...]
    ) -> tuple[tuple[str, ...], ...]:
        if len(words) < self.least:
            raise OptionError("wrong number of arguments")
        return (*current, tuple(map(to_text, words)))

    def show(self, value: tuple[tuple[str, ...], ...]) -> bytes:
        return b"\n".join(self.lines(value))

    def lines(self, value: tuple[tuple[str, ...], ...]) -> list[bytes]:
        return [b" ".join(quote(to_bytes(word)) for word in words) for words in value]

    def accepts(self) -> str:
        return f"`{self.syntax}`"
