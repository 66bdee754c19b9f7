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

Modules import all that a declaration needs from here; the vocabulary itself
is in ``arguments.py``, what is derived from it in ``parser.py`` and
``keyspecs.py``.
"""

from __future__ import annotations

import enum
import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from norikv_resp.arguments import (
    INT64_MAX,
    INT64_MIN,
    Arg,
    Block,
    Bytes,
    Counted,
    DeclarationError,
    ExpireAt,
    ExpireTime,
    Float,
    Idem,
    Int,
    Key,
    OneOf,
    Pattern,
    Request,
    Rest,
    Token,
    UnixTime,
    Version,
    deadline,
    expiry_option,
    parse_float,
    parse_int,
    parse_version,
)
from norikv_resp.errors import ReplyError, WrongArity
from norikv_resp.keyspecs import KeySpec, key_specs_of
from norikv_resp.parser import Parser

if TYPE_CHECKING:
    from norikv_resp.context import Context

__all__ = [
    "ADMIN",
    "CATEGORIES",
    "DENYOOM",
    "FAST",
    "INT64_MAX",
    "INT64_MIN",
    "LOADING",
    "NONE",
    "NOSCRIPT",
    "READONLY",
    "STALE",
    "WRITE",
    "Arg",
    "Block",
    "Bytes",
    "Command",
    "Counted",
    "DeclarationError",
    "ExpireAt",
    "ExpireTime",
    "Flag",
    "Float",
    "Handler",
    "Idem",
    "Int",
    "Key",
    "KeySpec",
    "OneOf",
    "Parser",
    "Pattern",
    "Registry",
    "Request",
    "Rest",
    "Token",
    "UnixTime",
    "Version",
    "command",
    "container",
    "deadline",
    "declared_in",
    "expiry_option",
    "parse_float",
    "parse_int",
    "parse_version",
]

Handler = Callable[..., Any]


# --------------------------------------------------------------------------
# Flags and categories


class Flag(enum.Flag):
    """What Redis prints as command flags, in the order in which it prints them."""

    WRITE = enum.auto()
    READONLY = enum.auto()
    DENYOOM = enum.auto()
    MODULE = enum.auto()
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
# A declared command


@dataclass(eq=False)
class Command:
    """A command and everything derived from its declaration.

    ``name`` is in upper case, words separated by spaces; ``full_name`` is as
    Redis prints it (``config|get``; what is a module in Redis keeps its capitals).
    ``run`` is called by the dispatcher with a request of fitting arity.
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
    #: Stands in for the parser where Redis's errors follow no common grammar. ``args`` then only
    #: describe the command: the handler takes what this returns.
    parse: Callable[[Request], list[Any]] | None = None
    #: Where the word IDEM stands in a request, 0 for nowhere, for such a grammar.
    idem_at: Callable[[Request], int] | None = None
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
        self.full_name = self.name.replace(" ", "|")
        if self.group == "module":
            self.flags |= Flag.MODULE
        else:
            self.full_name = self.full_name.lower()
        self.parser = Parser(
            self.full_name,
            self.words,
            self.args,
            [(one.encode(), other.encode()) for one, other in self._blocks()],
            described=self.parse is not None,
        )
        if self.idem_at is not None:
            self.parser.idem_at = self.idem_at  # type: ignore[assignment]
        self.arity = self._arity()
        self.key_specs = key_specs_of(self.args, self.words) + self.extra_key_specs
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
        if self.group == "module":
            return self.acl  # Redis gives the commands of its modules no category
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
        if self.handler is None or self.parse is not None:
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
