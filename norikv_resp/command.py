"""How a command is declared, and everything that follows from a declaration.

    @command(
        "GETRANGE", since="2.4.0", group="string", flags=READONLY,
        summary="Returns a part of a string.", complexity="O(N), N the length of the reply",
        args=(Key(), Int("start"), Int("end")),
    )
    def getrange(ctx, key, start, end): ...

From this one record come the arity, the key positions, the ACL categories, the
parser with Redis's errors, COMMAND INFO, COMMAND DOCS and docs/commands.md.
Handlers receive the context and the parsed arguments, in the order declared;
declaring fails if their parameter names differ from the arguments' names.
"""

from __future__ import annotations

import enum
import inspect
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from norikv_resp.errors import (
    InvalidExpire,
    InvalidVersion,
    NotAFloat,
    NotAnInteger,
    ReplyError,
    SyntaxProblem,
    WrongArity,
)

if TYPE_CHECKING:
    from norikv_resp.context import Context

Request = list[bytes]
Handler = Callable[..., Any]
Converter = Callable[[bytes], Any]

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
UINT64_MAX = 2**64 - 1


class DeclarationError(Exception):
    """A command is declared badly; the text says which and how to mend it."""


class Flag(enum.Flag):
    """What Redis prints as command flags, in the order in which it prints them."""

    WRITE = enum.auto()
    READONLY = enum.auto()
    DENYOOM = enum.auto()
    ADMIN = enum.auto()
    PUBSUB = enum.auto()
    NOSCRIPT = enum.auto()
    BLOCKING = enum.auto()
    LOADING = enum.auto()
    STALE = enum.auto()
    SKIP_MONITOR = enum.auto()
    SKIP_SLOWLOG = enum.auto()
    ASKING = enum.auto()
    FAST = enum.auto()
    NO_AUTH = enum.auto()
    NO_MANDATORY_KEYS = enum.auto()
    NO_ASYNC_LOADING = enum.auto()
    NO_MULTI = enum.auto()
    MOVABLEKEYS = enum.auto()
    ALLOW_BUSY = enum.auto()
    #: Ours: runs at once inside MULTI instead of being queued.
    UNQUEUED = enum.auto()
    #: Ours: a write command that names no key.
    KEYLESS = enum.auto()


NONE = Flag(0)
WRITE, READONLY, DENYOOM, FAST = Flag.WRITE, Flag.READONLY, Flag.DENYOOM, Flag.FAST
ADMIN, NOSCRIPT, LOADING, STALE = Flag.ADMIN, Flag.NOSCRIPT, Flag.LOADING, Flag.STALE
_OURS = Flag.UNQUEUED | Flag.KEYLESS

_CATEGORY_OF_GROUP = {
    "generic": "keyspace",
    "string": "string",
    "list": "list",
    "set": "set",
    "sorted-set": "sortedset",
    "hash": "hash",
    "stream": "stream",
    "array": "array",
    "bitmap": "bitmap",
    "hyperloglog": "hyperloglog",
    "geo": "geo",
    "pubsub": "pubsub",
    "connection": "connection",
    "transactions": "transaction",
    "scripting": "scripting",
    "server": None,
    "cluster": None,
    "module": None,
}

#: ACL categories in the order in which Redis lists them.
CATEGORIES = (
    *("keyspace", "read", "write", "set", "sortedset", "list", "hash", "string", "array"),
    *("bitmap", "hyperloglog", "geo", "stream", "pubsub", "admin", "fast", "slow", "blocking"),
    *("dangerous", "connection", "transaction", "scripting"),
)


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


#: The expiry options of SET, CAS and their kin.
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


# --------------------------------------------------------------------------
# The parser


class _Option:
    """What the parser does when it meets a token."""

    __slots__ = ("argument", "in_group", "slot", "token")

    def __init__(self, slot: int, token: bytes, argument: Arg, in_group: bool) -> None:
        self.slot = slot
        self.token = token
        self.argument = argument
        self.in_group = in_group


class Parser:
    """Turns a request into handler arguments, by the declaration alone.

    ``parse`` returns one value per handler parameter. ``idem_at`` finds the
    position of an IDEM option, 0 if there is none.
    """

    def __init__(self, name: str, words: int, args: Sequence[Arg], blocks: _Pairs) -> None:
        self.name = name
        self.words = words
        #: For each token those that must not have come before it.
        self.blockers: dict[bytes, set[bytes]] = {}
        for one, other in blocks:
            self.blockers.setdefault(other, set()).add(one)
        self.positional: list[Arg] = []
        self.options: dict[bytes, _Option] = {}
        self.defaults: list[Any] = []
        self.params: list[str] = []
        self.idem = any(isinstance(arg, Idem) for arg in args)
        self._build(args)

    def unknown_option(self, word: bytes) -> ReplyError:
        """The error for a word that is no option; a declaration may bring its own."""
        return SyntaxProblem()

    def _build(self, args: Sequence[Arg]) -> None:
        for arg in args:
            slot = len(self.params)
            if isinstance(arg, OneOf):
                for choice in arg.choices:
                    if choice.token is None:
                        raise DeclarationError(f"{self.name}: a choice of {arg.name} has no token")
                    self._add_option(_Option(slot, choice.token.encode(), choice, True))
            elif isinstance(arg, Idem):
                self._add_option(_Option(-1, b"IDEM", arg, False))
                continue
            elif arg.token is not None:
                self._add_option(_Option(slot, arg.token.encode(), arg, False))
            else:
                if self.options:
                    raise DeclarationError(f"{self.name}: {arg.name} must come before the options")
                self.positional.append(arg)
            self.params.append(arg.param)
            self.defaults.append(False if isinstance(arg, Token) else None)

    def _add_option(self, option: _Option) -> None:
        if option.token in self.options:
            raise DeclarationError(f"{self.name}: token {option.token.decode()} is declared twice")
        self.options[option.token] = option

    def parse(self, request: Request) -> list[Any]:
        """The handler's arguments. ReplyError as Redis words it. O(words)."""
        values = self.defaults.copy()
        at = self.words
        end = len(request)
        for slot, arg in enumerate(self.positional):
            if isinstance(arg, Rest):
                values[slot] = request[at:]
                at = end
            elif isinstance(arg, Block):
                values[slot], at = self._repeat(arg, request, at, end), end
            elif isinstance(arg, Counted):
                values[slot], at = self._counted(arg, request, at)
            elif arg.multiple:
                values[slot] = [arg.convert(word) for word in request[at:]]
                at = end
            elif at < end:
                values[slot] = arg.convert(request[at])
                at += 1
            elif not arg.optional:
                raise WrongArity(self.name)
        if at < end:
            self._parse_options(request, at, end, values)
        return values

    def _parse_options(self, request: Request, at: int, end: int, values: list[Any]) -> None:
        options = self.options
        if not options:
            raise SyntaxProblem
        blockers = self.blockers
        given: set[bytes] | None = set() if blockers else None
        while at < end:
            option = options.get(request[at]) or options.get(request[at].upper())
            if option is None:
                raise self.unknown_option(request[at])
            if given is not None:
                if not given.isdisjoint(blockers.get(option.token, ())):
                    raise SyntaxProblem
                given.add(option.token)
            at += 1
            argument = option.argument
            value: Any = True
            if argument.width == 2:
                if at >= end:
                    raise SyntaxProblem
                value = argument.convert(request[at])
                at += 1
            if option.slot < 0:
                continue
            if option.in_group:
                before = values[option.slot]
                if before is not None and before[0] != option.token:
                    raise SyntaxProblem
                value = (option.token, value)
            values[option.slot] = value

    def _repeat(self, block: Block, request: Request, at: int, end: int) -> list[Any]:
        width = block.width
        if end == at or (end - at) % width:
            raise WrongArity(self.name)
        converters = [part.convert for part in block.parts]
        return [
            tuple(
                convert(word)
                for convert, word in zip(converters, request[i : i + width], strict=True)
            )
            for i in range(at, end, width)
        ]

    def _counted(self, arg: Counted, request: Request, at: int) -> tuple[list[Any], int]:
        try:
            count = parse_int(request[at])
        except ReplyError:
            raise arg.bad_count from None
        if count < 1 or count > 2**31 - 1:
            raise arg.bad_count
        at += 1
        end = at + count * arg.of.width
        if end > len(request):
            raise arg.short
        if isinstance(arg.of, Block):
            return self._repeat(arg.of, request, at, end), end
        return [arg.of.convert(word) for word in request[at:end]], end

    def idem_at(self, request: Request) -> int:
        """The position of the IDEM option, 0 if there is none or it lacks its token."""
        at = self.words + len(self.positional)
        end = len(request)
        if self.positional and isinstance(self.positional[-1], Counted):
            counted = self.positional[-1]
            first = self.words + len(self.positional) - 1
            at = first + 1 + int(request[first]) * counted.of.width
        while at < end:
            option = self.options.get(request[at].upper())
            if option is None:
                return 0
            if option.slot < 0:
                return at if at + 1 < end else 0
            at += option.argument.width
        return 0


_Pairs = Sequence[tuple[bytes, bytes]]


# --------------------------------------------------------------------------
# Key specifications


@dataclass(frozen=True)
class KeySpec:
    """Where keys are, as COMMAND INFO tells it: an index, then a range or a counted run.

    ``last`` counts from the end when negative; for a counted run ``counted``
    is True and the word at ``index`` holds the number of keys. A negative
    ``index`` goes with ``keyword``: the search is backwards from there.
    """

    flags: tuple[str, ...]
    index: int
    last: int = 0
    step: int = 1
    counted: bool = False
    #: The keys follow this word, which is looked for from ``index`` on.
    keyword: str = ""

    def positions(self, request: Request) -> Iterator[int]:
        """Positions of the keys in a request of sufficient length."""
        if self.keyword:
            yield from self._positions_after_keyword(request)
            return
        if not self.counted:
            last = len(request) + self.last if self.last < 0 else self.index + self.last
            yield from range(self.index, min(last, len(request) - 1) + 1, self.step)
            return
        try:
            count = int(request[self.index])
        except (ValueError, IndexError):
            raise ReplyError(b"ERR Invalid arguments specified for command") from None
        first = self.index + 1
        if count < 1 or first + (count - 1) * self.step >= len(request):
            raise ReplyError(b"ERR Invalid arguments specified for command")
        yield from range(first, first + count * self.step, self.step)

    def _positions_after_keyword(self, request: Request) -> Iterator[int]:
        wanted = self.keyword.encode()
        places = range(max(self.index, 0), len(request))
        if self.index < 0:
            places = range(len(request) + self.index, 0, -1)
        for at in places:
            if request[at].upper() == wanted:
                last = len(request) + self.last if self.last < 0 else at + 1 + self.last
                yield from range(at + 1, min(last, len(request) - 1) + 1, self.step)
                return


def _key_specs(args: Sequence[Arg], words: int) -> tuple[KeySpec, ...]:
    specs: list[KeySpec] = []
    position = words
    for arg in args:
        if isinstance(arg, Key) and arg.token is None:
            flags = (arg.access, *arg.does)
            before = specs[-1] if specs else None
            if before and before.flags == flags and before.index + before.last + 1 == position:
                # Neighbours that are used alike are one range (LCS).
                specs[-1] = KeySpec(flags, before.index, -1 if arg.multiple else before.last + 1)
            else:
                specs.append(KeySpec(flags, position, -1 if arg.multiple else 0))
        elif isinstance(arg, Block):
            for offset, part in enumerate(arg.parts):
                if isinstance(part, Key):
                    flags = (part.access, *part.does)
                    specs.append(KeySpec(flags, position + offset, -1, arg.width))
        elif isinstance(arg, Counted):
            key = arg.of.parts[0] if isinstance(arg.of, Block) else arg.of
            assert isinstance(key, Key)
            specs.append(KeySpec((key.access, *key.does), position, 0, arg.of.width, counted=True))
        position += arg.width
    return tuple(specs)


# --------------------------------------------------------------------------
# A declared command


@dataclass(eq=False)
class Command:
    """A command and everything derived from its declaration.

    ``name`` is in upper case, words separated by spaces; ``full_name`` is as
    Redis prints it (``config|get``). ``run`` is called by the dispatcher with
    a request of fitting arity.
    """

    # The declaration.
    name: str
    handler: Handler | None
    args: tuple[Arg, ...] = ()
    flags: Flag = NONE
    group: str = "generic"
    since: str = "0.1.0"
    summary: str = ""
    complexity: str = ""
    tips: tuple[str, ...] = ()
    acl: tuple[str, ...] = ()
    #: Pairs of tokens that are a syntax error together, in either order.
    exclusive: tuple[tuple[str, str], ...] = ()
    #: Pairs of tokens of which the second is a syntax error after the first.
    blocks: tuple[tuple[str, str], ...] = ()
    #: Whether repeating an option is a syntax error.
    once: bool = False
    #: Stands in for the parser where Redis's errors follow no common grammar.
    parse: Callable[[Request], list[Any]] | None = None
    extra_key_specs: tuple[KeySpec, ...] = ()
    dynamic_keys: Callable[[Request], list[tuple[int, tuple[str, ...]]]] | None = None
    #: What a wrapper such as IDEM carries: a function from its request to the inner one.
    wraps: Callable[[Request], Request] | None = None
    #: Judges a request when MULTI queues it; raises ReplyError.
    check_queued: Callable[[Request], None] | None = None
    min_arity: int | None = None
    #: The request as MONITOR, SLOWLOG and logs may show it, for commands that carry secrets.
    redact: Callable[[Request], Request] | None = None
    reply: str = ""
    #: The error for a word that is no option, where it is no plain syntax error.
    unknown_option: Callable[[bytes], ReplyError] | None = None
    history: tuple[tuple[str, str], ...] = ()
    module: str = ""

    # Derived.
    full_name: str = field(init=False)
    words: int = field(init=False)
    arity: int = field(init=False)
    key_specs: tuple[KeySpec, ...] = field(init=False)
    categories: tuple[str, ...] = field(init=False)
    parser: Parser = field(init=False)
    subcommands: dict[bytes, Command] = field(init=False, default_factory=dict)

    # Counted by the dispatcher, cleared by CONFIG RESETSTAT.
    calls: int = field(init=False, default=0)
    #: How many of the calls were timed, and their sum; hot paths are only counted.
    timed: int = field(init=False, default=0)
    microseconds: int = field(init=False, default=0)
    #: Timed calls by the bit length of their microseconds.
    durations: Counter[int] = field(init=False, default_factory=Counter)
    rejected: int = field(init=False, default=0)
    failed: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.words = len(self.name.split())
        self.full_name = self.name.lower().replace(" ", "|")
        self.parser = Parser(
            self.full_name,
            self.words,
            self.args,
            [(one.encode(), other.encode()) for one, other in self._blocks()],
        )
        self.arity = self._arity()
        self.key_specs = _key_specs(self.args, self.words) + self.extra_key_specs
        self.categories = self._categories()
        if any(spec.counted for spec in self.key_specs):
            self.flags |= Flag.MOVABLEKEYS
        self.is_write = bool(self.flags & Flag.WRITE)
        if self.unknown_option is not None:
            self.parser.unknown_option = self.unknown_option  # type: ignore[assignment]
        self._check()
        self.run = self._runner()

    def _blocks(self) -> Iterator[tuple[str, str]]:
        yield from self.blocks
        for one, other in self.exclusive:
            yield one, other
            yield other, one
        if self.once:
            for arg in self.args:
                choices = arg.choices if isinstance(arg, OneOf) else (arg,)
                yield from ((c.token, c.token) for c in choices if c.token is not None)

    def _arity(self) -> int:
        required = self.words
        variable = False
        for arg in self.args:
            if not arg.optional:
                required += arg.width
            variable = variable or arg.optional or arg.multiple or isinstance(arg, Counted)
        if self.min_arity is not None:
            return -self.min_arity
        return -required if variable else required

    def _categories(self) -> tuple[str, ...]:
        found = set(self.acl)
        if self.group not in _CATEGORY_OF_GROUP:
            raise DeclarationError(f"{self.name}: unknown group {self.group!r}")
        own = _CATEGORY_OF_GROUP[self.group]
        if own and not self.acl:
            found.add(own)
        if self.flags & Flag.WRITE:
            found.add("write")
        if self.flags & Flag.READONLY and self.group != "scripting":
            found.add("read")
        if self.flags & Flag.ADMIN:
            found |= {"admin", "dangerous"}
        if self.flags & Flag.PUBSUB:
            found.add("pubsub")
        if self.flags & Flag.BLOCKING:
            found.add("blocking")
        found.add("fast" if self.flags & Flag.FAST else "slow")
        found.discard("none")
        unknown = found - set(CATEGORIES)
        if unknown:
            raise DeclarationError(f"{self.name}: unknown category {sorted(unknown)}")
        return tuple(category for category in CATEGORIES if category in found)

    def _check(self) -> None:
        if self.flags & Flag.WRITE and self.flags & Flag.READONLY:
            raise DeclarationError(f"{self.name}: both WRITE and READONLY")
        if self.is_write and not self.key_specs and not self.flags & Flag.KEYLESS:
            raise DeclarationError(f"{self.name}: a WRITE command without keys must be KEYLESS")
        if self.handler is None:
            return
        signature = inspect.signature(self.handler).parameters
        if any(each.kind is each.VAR_POSITIONAL for each in signature.values()):
            return  # it takes whatever is declared
        params = list(signature)[1:]
        if params != self.parser.params:
            raise DeclarationError(
                f"{self.name}: the handler takes {params}, the declaration gives "
                f"{self.parser.params}"
            )

    def _runner(self) -> Callable[[Context, Request], Any]:
        handler, words = self.handler, self.words
        parse = self.parse or self.parser.parse
        if handler is None:

            def run(ctx: Context, request: Request) -> Any:
                raise WrongArity(self.full_name)

        elif all(type(arg) in (Key, Bytes) and not arg.optional for arg in self.args) and not any(
            arg.multiple or arg.token for arg in self.args
        ):

            def run(ctx: Context, request: Request) -> Any:
                return handler(ctx, *request[words:])

        else:

            def run(ctx: Context, request: Request) -> Any:
                return handler(ctx, *parse(request))

        return run

    @property
    def flag_names(self) -> list[str]:
        """Redis's names of the flags, in Redis's order, without ours."""
        return [str(flag.name).lower() for flag in Flag if flag in self.flags and not flag & _OURS]

    @property
    def legacy_range(self) -> tuple[int, int, int]:
        """First key, last key and step as COMMAND gave them before key specs; zeros for none."""
        ranges = [spec for spec in self.key_specs if not spec.counted and not spec.keyword]
        if not ranges:
            return 0, 0, 0
        first, final = ranges[0], ranges[-1]
        last = final.last if final.last < 0 else final.index + final.last
        return first.index, last, first.step

    def reset_statistics(self) -> None:
        """CONFIG RESETSTAT."""
        self.calls = self.timed = self.microseconds = self.rejected = self.failed = 0
        self.durations.clear()

    def arity_fits(self, count: int) -> bool:
        """Whether a request of *count* words can be one of this command."""
        return count == self.arity if self.arity > 0 else count >= -self.arity

    def keys(self, request: Request) -> list[tuple[bytes, tuple[str, ...]]]:
        """The keys of a request with their key spec flags. ReplyError if it cannot be told."""
        if self.dynamic_keys is not None:
            return [(request[at], flags) for at, flags in self.dynamic_keys(request)]
        return [
            (request[position], spec.flags)
            for spec in self.key_specs
            for position in spec.positions(request)
        ]


class Registry:
    """All commands by name. Loading a module either adds all its commands or none."""

    def __init__(self) -> None:
        self.commands: dict[str, Command] = {}
        #: Exact spellings seen on the wire; other spellings are upper-cased first.
        self.by_word: dict[bytes, Command] = {}
        #: Replies about all commands that are worth keeping.
        self.replies: dict[tuple[str, bool], Any] = {}

    def add(self, command: Command) -> None:
        """Register; DeclarationError if the name is taken."""
        if command.name in self.commands:
            raise DeclarationError(f"{command.name} is already registered")
        container, _, sub = command.name.rpartition(" ")
        if container:
            parent = self.commands.get(container)
            if parent is None:
                raise DeclarationError(f"{command.name}: there is no command {container}")
            parent.subcommands[sub.encode()] = command
        else:
            self.by_word[command.name.encode()] = command
            self.by_word[command.name.lower().encode()] = command
        self.commands[command.name] = command
        self.replies.clear()

    def remove(self, name: str) -> None:
        """Forget a command; used when a module fails half-way through loading."""
        command = self.commands.pop(name)
        self.replies.clear()
        container, _, sub = name.rpartition(" ")
        if container:
            parent = self.commands.get(container)
            if parent is not None:
                parent.subcommands.pop(sub.encode(), None)
        else:
            self.by_word.pop(command.name.encode(), None)
            self.by_word.pop(command.name.lower().encode(), None)

    def find(self, word: bytes) -> Command | None:
        """The command of that name, in any case."""
        return self.by_word.get(word) or self.by_word.get(word.upper())

    def resolve(self, request: Request) -> Command | None:
        """The command or subcommand that a request names; None if there is none such."""
        command = self.by_word.get(request[0]) or self.by_word.get(request[0].upper())
        if command is not None and command.subcommands and len(request) > 1:
            return command.subcommands.get(request[1].upper())
        return command

    def top_level(self) -> Iterator[Command]:
        """The commands that are not subcommands, in the order of registration."""
        return (command for command in self.commands.values() if command.words == 1)

    def __iter__(self) -> Iterator[Command]:
        return iter(self.commands.values())


def command(name: str, **declaration: Any) -> Callable[[Handler], Handler]:
    """Declare the decorated handler as a command; ``register_all`` finds it in its module."""

    def decorate(handler: Handler) -> Handler:
        declared = Command(name, handler, **declaration)
        handler.__dict__.setdefault("_commands", []).append(declared)
        return handler

    return decorate


def container(name: str, **declaration: Any) -> Command:
    """A command that only holds subcommands, such as CONFIG."""
    return Command(name, None, min_arity=2, **declaration)


def declared_in(namespace: dict[str, Any]) -> Iterator[Command]:
    """The commands declared in a Python module's namespace, containers first.

    They are decorated handlers, containers, and tuples of commands.
    """
    found: dict[int, Command] = {}
    for value in namespace.values():
        declared = getattr(value, "__dict__", {}).get("_commands", ()) if callable(value) else ()
        if isinstance(value, (Command, tuple)):
            several = value if isinstance(value, tuple) else (value,)
            declared = [each for each in several if isinstance(each, Command)]
        found.update((id(each), each) for each in declared)
    return iter(sorted(found.values(), key=lambda each: each.words))
