"""What one client has been promised, and whether a restarted server kept it.

A client's operations are numbered and sent in order over one connection. Each writes its number
under the keys of its kind, so what a crash leaves is explained by one number m: every kind holds
its last operation up to m, whole, and m is at least the last acknowledged one.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any

from tests.support.resp import ErrorReply, Wire
from tests.support.versions import MISSING, Version

Command = tuple[Any, ...]

KINDS = ("set", "pair", "batch", "large", "count", "toggle")


def large_value(number: int) -> bytes:
    """A value that shows its number in every place; most above 64 KB, some above 1 MB."""
    size = 2_000_000 if number % 17 == 0 else 70_000 + number % 7 * 30_000
    word = b"<%d>" % number
    return (word * (size // len(word) + 1))[:size]


@dataclass
class Operation:
    number: int
    kind: str
    commands: list[Command]


@dataclass
class Ledger:
    """The operations of one client."""

    client: int
    sent: dict[str, list[int]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    next_number: int = 1
    acknowledged: int = 0  # the last operation that was answered
    versions: dict[str, tuple[int, Version]] = field(default_factory=dict)  # of acknowledged ones
    count_replies: dict[int, int] = field(default_factory=dict)  # operation → what INCR answered
    unsettled_counts: list[int] = field(default_factory=list)  # sent under IDEM, unanswered

    def key(self, name: str) -> bytes:
        return b"%d:%s" % (self.client, name.encode())

    def token(self, number: int) -> bytes:
        return b"%d/%d" % (self.client, number)

    # -- making operations -----------------------------------------------------

    def operation(self, rng: random.Random) -> Operation:
        kind = rng.choices(KINDS, (8, 5, 5, 1, 5, 3))[0]
        number, self.next_number = self.next_number, self.next_number + 1
        self.sent[kind].append(number)
        if kind == "count":
            self.unsettled_counts.append(number)
        return Operation(number, kind, self._commands(kind, number))

    def _commands(self, kind: str, n: int) -> list[Command]:
        key = self.key
        if kind == "set":
            return [("SETVER", key("set"), n)]
        if kind == "pair":
            pair = [("SETVER", key("pair1"), n), ("SETVER", key("pair2"), n)]
            return [("MULTI",), *pair, ("EXEC",)]
        if kind == "batch":
            return [("MSET", key("batch1"), n, key("batch2"), n, key("batch3"), n)]
        if kind == "large":
            return [("SETVER", key("large"), large_value(n))]
        if kind == "count":
            return [self.count_command(n)]
        there = len(self.sent["toggle"]) % 2 == 0
        change = ("DEL", key("toggle")) if there else ("SET", key("toggle"), n)
        return [("MULTI",), change, ("SET", key("toggled"), n), ("EXEC",)]

    def count_command(self, number: int) -> Command:
        return ("IDEM", self.token(number), "INCR", self.key("count"))

    # -- taking replies --------------------------------------------------------

    def answered(self, operation: Operation, replies: list[Any]) -> None:
        """Note an acknowledgement. Errors and refusals are not expected under plain load."""
        wrong = [reply for reply in replies if isinstance(reply, ErrorReply) or reply is None]
        assert not wrong, f"client {self.client}, {operation}: {replies}"
        assert operation.number > self.acknowledged
        self.acknowledged = operation.number
        if operation.kind in ("set", "large"):
            self.versions[operation.kind] = (operation.number, Version.parse(replies[0]))
        elif operation.kind == "pair":
            first, second = replies[-1]
            assert first == second, f"two versions in one transaction: {first}, {second}"
            self.versions["pair1"] = self.versions["pair2"] = (
                operation.number,
                Version.parse(first),
            )
        elif operation.kind == "count":
            self.count_settled(operation.number, replies[0])

    def count_settled(self, number: int, reply: int) -> None:
        assert number not in self.count_replies
        assert reply == len(self.count_replies) + 1, f"count {reply} after {self.count_replies}"
        self.count_replies[number] = reply
        self.unsettled_counts.remove(number)

    @property
    def newest_version(self) -> Version:
        return max((version for _, version in self.versions.values()), default=MISSING)

    # -- judging a restart -----------------------------------------------------

    def survivors(self, wire: Wire) -> dict[str, int]:
        """The number that each kind holds now (0 for none); fails on a half operation."""
        return {
            "set": self._number(wire, "set"),
            "pair": self._number(wire, "pair1", "pair2"),
            "batch": self._number(wire, "batch1", "batch2", "batch3"),
            "large": self._large(wire),
            "toggle": self._toggled(wire),
        }

    def _number(self, wire: Wire, *names: str) -> int:
        values = [wire.ok("GETVER", self.key(name)) for name in names]
        numbers = {int(value[0]) if value else 0 for value in values}
        assert len(numbers) == 1, f"half of {names} is there: {values}"
        versions = {value[1] for value in values if value}
        assert len(versions) <= 1, f"{names} were written at once, but {values}"
        number = numbers.pop()
        self._check_version(names[0], number, versions.pop() if versions else None)
        return number

    def _large(self, wire: Wire) -> int:
        value = wire.ok("GETVER", self.key("large"))
        if value is None:
            return 0
        data, version = value
        number = int(data[1 : data.index(b">")])
        assert data == large_value(number), f"large value {number} is damaged ({len(data)} bytes)"
        self._check_version("large", number, version)
        return number

    def _toggled(self, wire: Wire) -> int:
        """A key set and deleted in turn, together with a record of the operation that did it."""
        recorded = int(wire.ok("GET", self.key("toggled")) or 0)
        value = wire.ok("GET", self.key("toggle"))
        done = self.sent["toggle"].index(recorded) + 1 if recorded else 0
        expected = b"%d" % recorded if done % 2 else None
        assert value == expected, f"toggle is {value!r} after operation {recorded}"
        return recorded

    def _check_version(self, name: str, number: int, version: bytes | None) -> None:
        if name not in self.versions:
            return
        promised_number, promised = self.versions[name]
        assert version is not None, f"{self.key(name)!r} is gone, promised {promised}"
        found = Version.parse(version)
        kept = found == promised if number == promised_number else found > promised
        assert kept, f"{self.key(name)!r} holds operation {number} at {found}, promised {promised}"

    def check(self, wire: Wire) -> None:
        """All that was promised is there, nothing is half there, nothing came out of order."""
        found = self.survivors(wire)
        last = max(self.acknowledged, *found.values())
        for kind, number in found.items():
            history = self.sent[kind]
            upto = bisect_right(history, last)
            expected = history[upto - 1] if upto else 0
            assert number == expected, (
                f"client {self.client}: {kind} holds operation {number}, not {expected}, "
                f"although operation {last} is there (acknowledged: {self.acknowledged})"
            )
            del history[upto:]  # lost for good: the next operations follow the survivors
        self._check_retries(wire)

    def _check_retries(self, wire: Wire) -> None:
        """Retries of what was answered say the same again; of the rest, each runs once."""
        for number in sorted(self.count_replies)[-3:]:
            reply = wire.ok(*self.count_command(number))
            assert reply == self.count_replies[number], f"retry of {number} answered {reply}"
        for number in list(self.unsettled_counts):
            self.count_settled(number, wire.ok(*self.count_command(number)))
        stored = wire.ok("GET", self.key("count"))
        assert int(stored or 0) == len(self.count_replies), "a token ran twice, or not at all"
