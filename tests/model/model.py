"""The contract of versions, conditions, TTL and idempotency as a small dictionary program.

A model reply is the reply's value, except that a version which the command has just made is a
`Fresh`: the first real reply that shows it decides what it is, and it must then be newer than
every version seen before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.support.resp import ErrorReply
from tests.support.versions import MISSING, Version

Command = tuple[bytes, ...]

WRONG = "(any error)"  # an error whose words the contract leaves open

INVALID_VERSION = ErrorReply("ERR invalid version")
MISMATCH = ErrorReply("IDEMMISMATCH")
ABORTED = ErrorReply("EXECABORT Transaction discarded because of previous errors.")
ANY_ERROR = ErrorReply(WRONG)


def now_ms() -> int:
    return int(time.time() * 1000)


@dataclass(eq=False)
class Fresh:
    """The version of one commit, not known until a reply shows it."""

    known: Version | None = None

    def __repr__(self) -> str:
        return str(self.known) if self.known else "a fresh version"


@dataclass
class Entry:
    value: bytes
    version: Fresh
    deadline: int | None = None  # ms since the epoch


@dataclass
class Stored:
    request: tuple[Any, ...]
    reply: Any
    deadline: int


class RefusedError(Exception):
    def __init__(self, error: ErrorReply) -> None:
        self.error = error


#: How many leading arguments of a command are no options.
_OPTIONS_FROM = {b"SET": 3, b"SETVER": 3, b"CAS": 4, b"DELEX": 2}

_OPTIONS_WITH_VALUE = {b"VER", b"TTL", b"EX", b"PX", b"IFEQ", b"IFNE", b"IDEM"}

READS = {b"GET", b"GETVER", b"MGETVER", b"VER", b"EXISTS"}

#: idempotency-window, ms.
_WINDOW = 24 * 3600 * 1000


def options_of(args: Command) -> dict[bytes, bytes]:
    """Option name → its value (b"" when it takes none)."""
    found = {}
    rest = list(args[_OPTIONS_FROM.get(args[0].upper(), len(args)) :])
    while rest:
        name = rest.pop(0).upper()
        found[name] = rest.pop(0) if name in _OPTIONS_WITH_VALUE else b""
    return found


def parse_version(text: bytes) -> Version:
    if text == b"0":
        return MISSING
    try:
        return Version.parse(text)
    except ValueError:
        raise RefusedError(INVALID_VERSION) from None


@dataclass
class Model:
    """The state of two databases and what is stored for retries."""

    databases: list[dict[bytes, Entry]] = field(default_factory=lambda: [{}, {}])
    stored: dict[tuple[int, bytes | None, bytes], Stored] = field(default_factory=dict)
    selected: int = 0
    changed: bool = False  # by the command or transaction that runs
    fresh: Fresh = field(default_factory=Fresh)
    now: int = 0

    # -- one command or transaction ------------------------------------------------

    def run(self, args: Command) -> Any:
        """Carry out one command on its own."""
        self.begin()
        return self._judged(args)

    def run_transaction(self, queue: list[Command], token: bytes | None = None) -> Any:
        """EXEC, or ``IDEM token EXEC``, after these commands were queued without an error."""
        self.begin()
        alone = [args[1] for args in queue if args[0] == b"IDEM" and len(args) == 2]
        token = alone[0] if alone else token
        if token is None:
            return self._transaction(queue)
        request = tuple(queue)
        return self._once(None, token, request, _WINDOW, lambda: self._transaction(queue))

    def _transaction(self, queue: list[Command]) -> Any:
        guards = [args for args in queue if args[0] == b"CHECK"]
        if not all(self._check(*args[1:]) for args in guards):
            return None
        replies: list[Any] = []
        changed = False
        for args in queue:
            self.changed = False
            if args[0] == b"CHECK":
                replies.append(1)
            elif args[0] == b"IDEM" and len(args) == 2:
                replies.append(b"OK")
            else:
                replies.append(self._judged(args))
            changed = changed or self.changed
        self.changed = changed
        return replies

    def begin(self) -> None:
        self.now = now_ms()
        self.changed = False
        self.fresh = Fresh()
        for database in self.databases:
            for key in [k for k, e in database.items() if (e.deadline or self.now + 1) <= self.now]:
                del database[key]
        for scope in [s for s, r in self.stored.items() if r.deadline <= self.now]:
            del self.stored[scope]

    def _judged(self, args: Command) -> Any:
        """One command with its token, outside or inside a transaction."""
        name = args[0].upper()
        try:
            if name == b"IDEM":
                token, rest, window = args[1], args[2:], _WINDOW
                if rest[0].upper() == b"TTL":
                    window, rest = int(rest[1]), rest[2:]
                inner = rest[0].upper()
                if inner in READS or inner == b"IDEM" or b"IDEM" in options_of(rest):
                    return ANY_ERROR
                return self._idempotent(rest, token, window)
            if b"IDEM" in options_of(args):
                where = [arg.upper() for arg in args].index(b"IDEM", _OPTIONS_FROM[name])
                plain = args[:where] + args[where + 2 :]
                return self._idempotent(plain, args[where + 1], _WINDOW)
            return self._plain(args)
        except RefusedError as refused:
            return refused.error

    def _idempotent(self, args: Command, token: bytes, window: int) -> Any:
        name = args[0].upper()
        key = args[1] if len(args) > 1 and name not in (b"FLUSHDB", b"SWAPDB") else None
        return self._once(key, token, (name, *args[1:]), window, lambda: self._plain(args))

    def _once(
        self,
        key: bytes | None,
        token: bytes,
        request: tuple[Any, ...],
        window: int,
        act: Callable[[], Any],
    ) -> Any:
        scope = (self.selected, key, token)
        record = self.stored.get(scope)
        if record is not None:
            return record.reply if record.request == request else MISMATCH
        reply = act()
        if self.changed:
            self.stored[scope] = Stored(request, reply, self.now + window)
        return reply

    def _plain(self, args: Command) -> Any:
        handler = getattr(self, "_" + args[0].decode().lower())
        return handler(*args[1:])

    # -- the state -------------------------------------------------------------------

    @property
    def keys(self) -> dict[bytes, Entry]:
        return self.databases[self.selected]

    def _put(self, key: bytes, value: bytes, deadline: int | None = None) -> None:
        self.keys[key] = Entry(value, self.fresh, deadline)
        self.changed = True

    def _drop(self, key: bytes) -> int:
        gone = self.keys.pop(key, None)
        self.changed = self.changed or gone is not None
        return int(gone is not None)

    def _is_version(self, key: bytes, text: bytes) -> bool:
        wanted, entry = parse_version(text), self.keys.get(key)
        if entry is None:
            return wanted == MISSING
        return entry.version.known == wanted

    # -- commands ----------------------------------------------------------------------

    def _set(self, key: bytes, value: bytes, *options: bytes) -> Any:
        given = options_of((b"SET", key, value, *options))
        old = self.keys.get(key)
        met = True
        if b"VER" in given:
            met = self._is_version(key, given[b"VER"])
        elif b"NX" in given:
            met = old is None
        elif b"XX" in given:
            met = old is not None
        elif b"IFEQ" in given:
            met = old is not None and old.value == given[b"IFEQ"]
        elif b"IFNE" in given:
            met = old is None or old.value != given[b"IFNE"]
        if met:
            self._put(key, value, self._deadline(given, old))
        if b"GET" in given:
            return old.value if old else None
        if not met:
            return None
        return self.fresh if b"WITHVER" in given else b"OK"

    def _deadline(self, given: dict[bytes, bytes], old: Entry | None) -> int | None:
        if b"KEEPTTL" in given:
            return old.deadline if old else None
        span = int(given.get(b"TTL", given.get(b"PX", b"0"))) + 1000 * int(given.get(b"EX", b"0"))
        return self.now + span if span else None

    def _setver(self, key: bytes, value: bytes, *options: bytes) -> Any:
        return self._set(key, value, *options, b"WITHVER")

    def _get(self, key: bytes) -> Any:
        entry = self.keys.get(key)
        return entry.value if entry else None

    def _getver(self, key: bytes) -> Any:
        entry = self.keys.get(key)
        return [entry.value, entry.version] if entry else None

    def mgetver(self, *keys: bytes) -> Any:
        return [self._getver(key) for key in keys]

    _mgetver = mgetver

    def _ver(self, key: bytes) -> Any:
        entry = self.keys.get(key)
        return entry.version if entry else None

    def _exists(self, key: bytes) -> int:
        return int(key in self.keys)

    def _cas(self, key: bytes, version: bytes, value: bytes, *options: bytes) -> Any:
        old = self.keys.get(key)
        if self._is_version(key, version):
            given = options_of((b"CAS", key, version, value, *options))
            self._put(key, value, self._deadline(given, old))
            return [1, self.fresh, None]
        return [0, old.version, old.value] if old else [0, b"0-0", None]

    def _delex(self, key: bytes, *options: bytes) -> int:
        given = options_of((b"DELEX", key, *options))
        if b"VER" in given and not self._is_version(key, given[b"VER"]):
            return 0
        old = self.keys.get(key)
        if old is None or (b"IFEQ" in given and old.value != given[b"IFEQ"]):
            return 0
        if b"IFNE" in given and old.value == given[b"IFNE"]:
            return 0
        return self._drop(key)

    def _check(self, key: bytes, version: bytes) -> int:
        return int(self._is_version(key, version))

    def _del(self, *keys: bytes) -> int:
        return sum(self._drop(key) for key in keys)

    def _mset(self, *pairs: bytes) -> Any:
        for key, value in zip(pairs[::2], pairs[1::2], strict=False):
            self._put(key, value)
        return b"OK"

    def _append(self, key: bytes, tail: bytes) -> int:
        old = self.keys.get(key)
        value = (old.value if old else b"") + tail
        self._put(key, value, old.deadline if old else None)
        return len(value)

    def _incr(self, key: bytes) -> Any:
        old = self.keys.get(key)
        try:
            value = int(old.value) + 1 if old else 1
        except ValueError:
            return ErrorReply("ERR value is not an integer or out of range")
        self._put(key, b"%d" % value, old.deadline if old else None)
        return value

    def _getdel(self, key: bytes) -> Any:
        old = self.keys.get(key)
        self._drop(key)
        return old.value if old else None

    def _pexpire(self, key: bytes, span: bytes) -> int:
        old = self.keys.get(key)
        if old is None:
            return 0
        if int(span) <= 0:
            return self._drop(key)
        self._put(key, old.value, self.now + int(span))
        return 1

    def _persist(self, key: bytes) -> int:
        old = self.keys.get(key)
        if old is None or old.deadline is None:
            return 0
        self._put(key, old.value)
        return 1

    def _rename(self, key: bytes, to: bytes) -> Any:
        old = self.keys.get(key)
        if old is None:
            return ErrorReply("ERR no such key")
        if key != to:
            self._drop(key)
            self._put(to, old.value, old.deadline)
        return b"OK"

    def _flushdb(self) -> Any:
        self.changed = self.changed or bool(self.keys)
        self.keys.clear()
        for scope in [scope for scope in self.stored if scope[0] == self.selected]:
            del self.stored[scope]
        return b"OK"

    def _swapdb(self, one: bytes, other: bytes) -> Any:
        a, b = int(one), int(other)
        self.databases[a], self.databases[b] = self.databases[b], self.databases[a]
        for database in self.databases:
            for entry in database.values():
                entry.version = self.fresh
        self.changed = True
        return b"OK"

    def _select(self, number: bytes) -> Any:
        self.selected = int(number)
        return b"OK"
