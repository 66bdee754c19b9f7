"""Random command sequences whose meaning Redis 7.0, Redis 8 and Valkey 9 share.

What only one of them has (IFEQ, VER, INCREX …) belongs to the recordings and the model.
"""

from __future__ import annotations

import random
from collections.abc import Callable

Command = tuple[bytes, ...]

KEYS = (b"a", b"b", b"key:1", b"key:2", b"\x00bin\xff", b"")
VALUES = (
    b"",
    b"1",
    b"-12",
    b"007",
    b"3.5",
    b"1e3",
    b" 1",
    b"9223372036854775807",
    b"hello world",
    b"ohmytext",
    b"mynewtext",
    b"\r\n$3\r\n\x00\xff",
    b"x" * 300,
)
NUMBERS = (b"0", b"1", b"-1", b"10", b"-300", b"9223372036854775807", b"-9223372036854775808")
NOT_NUMBERS = (b"", b"abc", b"1.0", b" 1", b"9223372036854775808", b"0x1")
FLOATS = (b"0", b"1", b"-1.5", b"0.1", b"3e2", b"1e400", b"nan", b"inf", b"abc", b"")
OFFSETS = (b"0", b"1", b"-1", b"3", b"-3", b"100", b"-100", b"5")
SECONDS = (b"100", b"1000", b"100000")
MILLIS = (b"100000", b"5000000")
AT_SECONDS = (b"4000000000", b"5000000000")
AT_MILLIS = (b"4000000000000", b"5000000000000")
BAD_TIMES = (b"0", b"-5", b"abc", b"9223372036854775807", b"")
BAD_TIMES_SET = frozenset(BAD_TIMES)
PATTERNS = (b"*", b"key:*", b"?", b"[ab]", b"k*[^1]", b"\\*", b"nothing", b"*\xff")

#: Replies that are times, and how far apart two servers may be, in the reply's own unit.
TIMES = {b"TTL": 3, b"PTTL": 3000, b"EXPIRETIME": 3, b"PEXPIRETIME": 3000}

#: Replies that list keys in no particular order.
UNORDERED = {b"KEYS", b"SCAN"}


class Sequences:
    """Draws commands from one source of randomness, which hypothesis can shrink."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        names = sorted(name for name in dir(self) if name.startswith("make_"))
        names.sort(key=lambda name: name != "make_get")  # what a failing case shrinks to
        self.makers: list[Callable[[], Command]] = [getattr(self, name) for name in names]

    def command(self) -> Command:
        command = self.rng.choice(self.makers)()
        roll = self.rng.random()
        if roll < 0.02:
            return command[:-1] or command
        if roll < 0.03:
            return (*command, b"surplus")
        if roll < 0.06:
            return (command[0].lower(), *command[1:])
        return command

    # -- parts ------------------------------------------------------------------

    def key(self) -> bytes:
        return self.rng.choice(KEYS)

    def value(self) -> bytes:
        return self.rng.choice(VALUES)

    def pick(self, *choices: bytes) -> bytes:
        return self.rng.choice(choices)

    def number(self) -> bytes:
        return self.rng.choice(NUMBERS if self.rng.random() < 0.8 else NOT_NUMBERS)

    def expiry(self, *more: bytes) -> Command:
        """An expiry option, or none, or a bad one."""
        name = self.pick(b"", b"EX", b"PX", b"EXAT", b"PXAT", *more)
        if not name:
            return ()
        if name in more:
            return (name,)
        if self.rng.random() < 0.1:
            return (name, self.rng.choice(BAD_TIMES))
        spans = {b"EX": SECONDS, b"PX": MILLIS, b"EXAT": AT_SECONDS, b"PXAT": AT_MILLIS}
        return (name, self.rng.choice(spans[name]))

    def database(self) -> bytes:
        return self.pick(b"0", b"0", b"1", b"1", b"15", b"16", b"x")

    # -- strings ----------------------------------------------------------------

    def make_set(self) -> Command:
        when = (name,) if (name := self.pick(b"", b"", b"NX", b"XX")) else ()
        get = (b"GET",) if self.rng.random() < 0.2 else ()
        groups = [when, get, self.expiry(b"KEEPTTL")]
        self.rng.shuffle(groups)
        return (b"SET", self.key(), self.value(), *(arg for group in groups for arg in group))

    def make_plain_set(self) -> Command:
        return (b"SET", self.key(), self.value())

    def make_set_number(self) -> Command:
        return (b"SET", self.key(), self.rng.choice(NUMBERS))

    def make_get(self) -> Command:
        return (self.pick(b"GET", b"GETDEL", b"STRLEN", b"TYPE"), self.key())

    def make_getset(self) -> Command:
        return (self.pick(b"GETSET", b"SETNX", b"APPEND"), self.key(), self.value())

    def make_getex(self) -> Command:
        # With a bad time and no key, servers disagree on which of the two is looked at first.
        option = self.expiry(b"PERSIST")
        return (b"GETEX", self.key(), *(() if BAD_TIMES_SET.intersection(option) else option))

    def make_setex(self) -> Command:
        name = self.pick(b"SETEX", b"PSETEX")
        span = self.rng.choice(MILLIS if self.rng.random() < 0.9 else BAD_TIMES)
        return (name, self.key(), span, self.value())

    def make_mset(self) -> Command:
        pairs = [part for _ in range(self.rng.randint(1, 3)) for part in (self.key(), self.value())]
        return (self.pick(b"MSET", b"MSET", b"MSETNX"), *pairs)

    def make_mget(self) -> Command:
        return (b"MGET", *(self.key() for _ in range(self.rng.randint(1, 4))))

    def make_range(self) -> Command:
        name = self.pick(b"GETRANGE", b"GETRANGE", b"SUBSTR")
        return (name, self.key(), self.rng.choice(OFFSETS), self.rng.choice(OFFSETS))

    def make_setrange(self) -> Command:
        return (b"SETRANGE", self.key(), self.rng.choice(OFFSETS), self.value())

    def make_incr(self) -> Command:
        return (self.pick(b"INCR", b"DECR"), self.key())

    def make_incrby(self) -> Command:
        return (self.pick(b"INCRBY", b"DECRBY"), self.key(), self.number())

    def make_incrbyfloat(self) -> Command:
        return (b"INCRBYFLOAT", self.key(), self.rng.choice(FLOATS))

    def make_lcs(self) -> Command:
        options = self.rng.choice(
            ((), (b"LEN",), (b"IDX",), (b"IDX", b"WITHMATCHLEN"), (b"IDX", b"MINMATCHLEN", b"2"))
        )
        return (b"LCS", self.key(), self.key(), *options)

    # -- keys --------------------------------------------------------------------

    def make_del(self) -> Command:
        name = self.pick(b"DEL", b"UNLINK", b"EXISTS", b"TOUCH")
        return (name, *(self.key() for _ in range(self.rng.randint(1, 3))))

    def make_rename(self) -> Command:
        return (self.pick(b"RENAME", b"RENAMENX"), self.key(), self.key())

    def make_copy(self) -> Command:
        options = self.rng.choice(((), (b"REPLACE",), (b"DB", self.database())))
        return (b"COPY", self.key(), self.key(), *options)

    def make_move(self) -> Command:
        return (b"MOVE", self.key(), self.database())

    def make_expire(self) -> Command:
        name = self.pick(b"EXPIRE", b"PEXPIRE", b"EXPIREAT", b"PEXPIREAT")
        spans = {b"EXPIRE": SECONDS, b"PEXPIRE": MILLIS}
        at = AT_SECONDS if name == b"EXPIREAT" else AT_MILLIS
        when = self.rng.choice(spans.get(name, at))
        if self.rng.random() < 0.15:
            when = self.rng.choice(BAD_TIMES)
        flags = self.rng.choice(
            ((), (), (b"NX",), (b"XX",), (b"GT",), (b"LT",), (b"XX", b"GT"), (b"NX", b"LT"))
        )
        return (name, self.key(), when, *flags)

    def make_ttl(self) -> Command:
        return (self.pick(*TIMES, b"PERSIST"), self.key())

    def make_keys(self) -> Command:
        return (b"KEYS", self.rng.choice(PATTERNS))

    def make_scan(self) -> Command:
        options = self.rng.choice(
            ((), (b"MATCH", self.rng.choice(PATTERNS)), (b"TYPE", b"string"), (b"TYPE", b"list"))
        )
        return (b"SCAN", b"0", b"COUNT", b"1000", *options)

    def make_dbsize(self) -> Command:
        return (b"DBSIZE",)

    def make_select(self) -> Command:
        return (b"SELECT", self.database())

    def make_whole_database(self) -> Command:
        return self.rng.choice(
            ((b"FLUSHDB",), (b"SWAPDB", self.database(), self.database()), (b"DBSIZE",))
        )

    # -- transactions ------------------------------------------------------------

    def make_multi(self) -> Command:
        return (self.pick(b"MULTI", b"MULTI", b"EXEC", b"EXEC", b"EXEC", b"DISCARD"),)

    def make_watch(self) -> Command:
        return (b"WATCH", *(self.key() for _ in range(self.rng.randint(1, 2))))

    def make_unwatch(self) -> Command:
        return (b"UNWATCH",)

    def make_other(self) -> Command:
        return self.rng.choice(
            ((b"PING",), (b"ECHO", self.value()), (b"NOSUCHCOMMAND", b"x", b"y"))
        )
