"""Random steps for a server and its model, compared after each."""

from __future__ import annotations

import random
import time
from collections import deque
from typing import Any

from tests.model.model import (
    ABORTED,
    ANY_ERROR,
    INVALID_VERSION,
    MISMATCH,
    READS,
    Command,
    Fresh,
    Model,
    now_ms,
)
from tests.support.resp import ErrorReply
from tests.support.server import ServerProcess
from tests.support.versions import MISSING, Version

KEYS = (b"a", b"b", b"c", b"d")
VALUES = (b"1", b"22", b"-7", b"text", b"", b"\x00\xff")
LONG_MS = (60_000, 3_600_000)

#: A deadline that passes while the driver sleeps, and the sleep, ms.
SHORT_MS, SLEEP_MS = 150, 200

#: How far the server's clock and the test's may see the same moment apart, ms.
TTL_SLACK = 2_000


#: What the model's transactions leave out: other databases, and reads, whose place in IDEM is an
#: error that may come at queueing or at EXEC.
_NOT_IN_A_TRANSACTION = {b"SELECT", b"SWAPDB", b"FLUSHDB", b"CHECK", *READS}


class Driver:
    """Sends random commands; every reply and every key's version must be the model's."""

    def __init__(self, server: ServerProcess, rng: random.Random, resp: int) -> None:
        self.server = server
        self.rng = rng
        self.resp = resp
        self.model = Model()
        self.newest = MISSING
        self.term: int | None = None  # what a restart makes of the term
        self.epoch = 0  # tokens of one epoch are not used after a SWAPDB
        self.repeatable: deque[Command] = deque(maxlen=6)
        self.log: deque[str] = deque(maxlen=25)
        self.short_lived = False
        self.connect()

    def connect(self) -> None:
        self.wire = self.server.wire(self.resp, timeout=20.0)
        self.watcher = self.server.wire(self.resp, timeout=20.0)
        for wire in (self.wire, self.watcher):
            wire.ok("SELECT", self.model.selected)

    def close(self) -> None:
        self.wire.close()
        self.watcher.close()

    def restart(self, clean: bool) -> None:
        """Everything acknowledged is there afterwards, and the term is the next one."""
        self.log.append(f"restart clean={clean}")
        self.close()
        self.server.restart(clean)
        if self.newest != MISSING:
            self.term = self.newest.term + 1
        self.connect()
        self.compare_state()

    # -- one step ----------------------------------------------------------------

    def step(self) -> None:
        watched = self._watch() if self.rng.random() < 0.25 else None
        if self.rng.random() < 0.2:
            self._transaction()
        else:
            self._single()
        if self.short_lived:
            self.watcher.ok("UNWATCH")
            time.sleep(SLEEP_MS / 1000)
            self.short_lived = False
            self.compare_state()
            return
        self._settle_watch(watched)
        if self.rng.random() < 0.8:
            self.compare_state()

    def _single(self) -> None:
        args = self._idempotent_or_plain()
        reply = self.wire.call(*args)
        expected = self.model.run(args)
        self._judge(args, expected, reply)
        if args[0] == b"SELECT":
            self.watcher.ok(*args)
        if args[0] == b"SWAPDB" or b"SWAPDB" in args:
            self.epoch += 1
            self.repeatable.clear()
        self._learn()

    def _transaction(self) -> None:
        queue: list[Command] = [self._guard() for _ in range(self.rng.randint(0, 2))]
        for _ in range(self.rng.randint(1, 3)):
            args = self._idempotent_or_plain()
            if not _NOT_IN_A_TRANSACTION.intersection(args) and args.count(b"IDEM") < 2:
                queue.append(args)
        style = self.rng.choice(("plain", "plain", "idem exec", "idem queued"))
        token = self._token(b"x" if style == "idem exec" else b"q")
        if style == "idem queued":
            queue.insert(self.rng.randint(0, len(queue)), (b"IDEM", token))
        malformed = self.rng.random() < 0.05
        if malformed:
            queue.append((b"CHECK", self._key(), b"1-x"))
        last: Command = (b"IDEM", token, b"EXEC") if style == "idem exec" else (b"EXEC",)
        again = style != "plain" and not self.short_lived and self.rng.random() < 0.4
        for _ in range(1 + again):
            replies = self.wire.pipeline([(b"MULTI",), *queue, last])
            for args, reply in zip(queue, replies[1:-1], strict=True):
                refused = malformed and args == queue[-1]
                self._judge(args, INVALID_VERSION if refused else b"QUEUED", reply)
            if malformed:
                expected: Any = ABORTED
            else:
                given = token if style == "idem exec" else None
                expected = self.model.run_transaction(queue, given)
            self._judge(
                (b"MULTI", *(b" ".join(args) for args in queue), *last), expected, replies[-1]
            )
            self._learn()

    # -- choosing ------------------------------------------------------------------

    def _key(self) -> bytes:
        return self.rng.choice(KEYS)

    def _value(self) -> bytes:
        return self.rng.choice(VALUES)

    def _token(self, prefix: bytes = b"t") -> bytes:
        return b"%s%d-%d" % (prefix, self.epoch, self.rng.randint(0, 3))

    def _version(self, key: bytes) -> bytes:
        """A version that is likely, but not sure, to be the key's."""
        kind = self.rng.random()
        entry = self.model.keys.get(key)
        if kind < 0.6 and entry is not None and entry.version.known:
            return str(entry.version.known).encode()
        if kind < 0.75:
            return b"0"
        if kind < 0.8:
            return b"0-0"
        if kind < 0.83:
            return self.rng.choice((b"x", b"1", b"-1-1", b"1-", b"1-2-3", b""))
        return b"%d-%d" % (self.newest.term, max(self.newest.index - self.rng.randint(0, 9), 0))

    def _guard(self) -> Command:
        key = self._key()
        entry = self.model.keys.get(key)
        if entry is None:
            return (b"CHECK", key, b"0")
        if self.rng.random() < 0.8 and entry.version.known:
            return (b"CHECK", key, str(entry.version.known).encode())
        return (b"CHECK", key, b"%d-%d" % (self.newest.term, max(self.newest.index - 1, 0)))

    def _ms(self) -> bytes:
        if self.rng.random() < 0.15:
            self.short_lived = True
            return b"%d" % SHORT_MS
        return b"%d" % self.rng.choice(LONG_MS)

    def _expiry(self, *names: bytes) -> Command:
        if self.rng.random() < 0.6:
            return ()
        name = self.rng.choice(names)
        if name == b"KEEPTTL":
            return (name,)
        if name == b"EX":
            return (name, b"%d" % (self.rng.choice(LONG_MS) // 1000))
        if name == b"TTL" and self.rng.random() < 0.2:
            return (name, b"0")
        return (name, self._ms())

    def _shuffled(self, *groups: Command) -> Command:
        order = [group for group in groups if group]
        self.rng.shuffle(order)
        return tuple(arg for group in order for arg in group)

    def _plain(self) -> Command:
        rng, key, value = self.rng, self._key(), self._value()
        kind = rng.randint(0, 23)
        if kind < 6:
            name = rng.choice((b"SET", b"SETVER", b"set"))
            condition = rng.choice((b"", b"", b"VER", b"NX", b"XX", b"IFEQ", b"IFNE"))
            when: Command = (condition,) if condition else ()
            if condition == b"VER":
                when = (b"VER", self._version(key))
            elif condition in (b"IFEQ", b"IFNE"):
                when = (condition, self._value())
            more: Command = ()
            if name != b"SETVER":
                more = rng.choice(((), (), (b"WITHVER",), (b"GET",)))
            expiry = self._expiry(b"TTL", b"EX", b"PX", b"KEEPTTL")
            return (name, key, value, *self._shuffled(when, expiry, more))
        if kind < 10:
            expiry = self._expiry(b"TTL", b"EX", b"PX", b"KEEPTTL")
            return (b"CAS", key, self._version(key), value, *expiry)
        if kind < 12:
            when = rng.choice(
                ((), (b"VER", self._version(key)), (b"IFEQ", value), (b"IFNE", value))
            )
            return (b"DELEX", key, *when)
        if kind == 12:
            return (b"DEL", key, *rng.choice(((), (self._key(),))))
        if kind == 13:
            return (b"MSET", key, value, self._key(), self._value())
        if kind == 14:
            return (b"APPEND", key, value)
        if kind == 15:
            return (b"INCR", key)
        if kind == 16:
            return (b"GETDEL", key)
        if kind == 17:
            return (b"PEXPIRE", key, rng.choice((self._ms(), b"-1")))
        if kind == 18:
            return (b"PERSIST", key)
        if kind == 19:
            return (b"RENAME", key, self._key())
        if kind == 20:
            return (rng.choice((b"GETVER", b"VER", b"GET", b"EXISTS")), key)
        if kind == 21:
            return (b"CHECK", key, self._version(key))
        if kind == 22:
            return (b"SELECT", b"%d" % rng.randint(0, 1))
        if rng.random() < 0.5 and self.model.keys:
            return (b"FLUSHDB",)
        if any(self.model.databases) and rng.random() < 0.5:
            return (b"SWAPDB", b"0", b"1")
        return (b"MGETVER", *KEYS)

    def _idempotent_or_plain(self) -> Command:
        roll = self.rng.random()
        if roll < 0.15 and self.repeatable:
            args = self.rng.choice(self.repeatable)
            if b"FLUSHDB" not in args or self.model.keys:
                return args
        args = self._plain()
        if roll > 0.6 or args[0] in (b"SELECT", b"CHECK"):
            return args
        if args[0] in (b"SET", b"SETVER", b"CAS", b"DELEX") and self.rng.random() < 0.5:
            args = (*args, b"IDEM", self._token())
            if self.rng.random() < 0.03:
                return (b"IDEM", self._token(), *args)
        else:
            window: Command = (b"TTL", self._ms()) if self.rng.random() < 0.2 else ()
            args = (b"IDEM", self._token(), *window, *args)
        self.repeatable.append(args)
        return args

    # -- comparing -------------------------------------------------------------------

    def _judge(self, args: Command, expected: Any, reply: Any) -> None:
        self.log.append(f"db{self.model.selected} {_text(args)} -> {reply!r}")
        if not self._agrees(expected, reply):
            history = "\n  ".join(self.log)
            raise AssertionError(
                f"expected {expected!r}, got {reply!r}; the last steps:\n  {history}"
            )

    def _agrees(self, expected: Any, reply: Any) -> bool:
        if isinstance(expected, Fresh):
            return isinstance(reply, bytes) and self._is(expected, Version.parse(reply))
        if isinstance(expected, list):
            return (
                isinstance(reply, list)
                and len(reply) == len(expected)
                and all(map(self._agrees, expected, reply))
            )
        if expected is ANY_ERROR:
            return isinstance(reply, ErrorReply)
        if expected is MISMATCH:
            return isinstance(reply, ErrorReply) and reply.code == MISMATCH.code
        return bool(expected == reply and type(expected) is type(reply))

    def _is(self, fresh: Fresh, shown: Version) -> bool:
        if fresh.known is not None:
            return fresh.known == shown
        if shown <= self.newest:
            self.log.append(f"{shown} is not newer than {self.newest}")
            return False
        if self.term is not None and shown.term != self.term:
            self.log.append(f"{shown} should be of term {self.term}")
            return False
        if self.term is None and self.newest != MISSING and shown.term != self.newest.term:
            self.log.append(f"{shown}: the term changed without a restart")
            return False
        self.term = None
        fresh.known = self.newest = shown
        return True

    def _learn(self) -> None:
        """See the version that the step made, unless what has it is about to expire."""
        fresh = self.model.fresh
        if fresh.known is not None or not self.model.changed or self.short_lived:
            return
        here = self.model.selected
        for database in (here, 1 - here):
            for key, entry in self.model.databases[database].items():
                if entry.version is fresh:
                    shown = self.wire.pipeline(
                        [(b"SELECT", database), (b"VER", key), (b"SELECT", here)]
                    )[1]
                    self._judge((b"VER", key), fresh, shown)
                    return

    def compare_state(self) -> None:
        """Values, versions and deadlines of all keys."""
        commands: list[Command] = [(b"MGETVER", *KEYS)]
        commands += [(b"PTTL", key) for key in KEYS]
        replies = self.wire.pipeline(commands)
        now = now_ms()
        self.model.begin()
        self._judge(commands[0], self.model.mgetver(*KEYS), replies[0])
        for key, left in zip(KEYS, replies[1:], strict=True):
            entry = self.model.keys.get(key)
            if entry is None or entry.deadline is None:
                self._judge((b"PTTL", key), -2 if entry is None else -1, left)
            elif abs(now + left - entry.deadline) > TTL_SLACK:
                self._judge((b"PTTL", key), entry.deadline - now, left)

    # -- WATCH sees what the version sees ------------------------------------------------

    def _watch(self) -> tuple[int, bytes, Any]:
        key = self._key()
        before = self.watcher.pipeline([(b"WATCH", key), (b"VER", key)])[1]
        return self.model.selected, key, before

    def _settle_watch(self, watched: tuple[int, bytes, Any] | None) -> None:
        if watched is None:
            return
        database, key, before = watched
        if database != self.model.selected:
            self.watcher.ok("UNWATCH")
            return
        replies = self.watcher.pipeline([(b"VER", key), (b"MULTI",), (b"PING",), (b"EXEC",)])
        fired = replies[3] is None
        self.log.append(f"WATCH {key!r} at {before!r}, then {replies[0]!r}: EXEC {replies[3]!r}")
        if before is None and replies[0] is None:
            return  # Absence has no version: a key that came and went fires as well.
        if fired != (before != replies[0]):
            history = "\n  ".join(self.log)
            raise AssertionError(f"WATCH and the version disagree; the last steps:\n  {history}")


def _text(args: Command) -> str:
    return " ".join(repr(arg)[1:] for arg in args)
