"""Replay recorded conversations with Redis 8.8 against the server under test.

A recording is JSON Lines, one file per command family; strings stand for bytes (decode the JSON,
encode latin-1). Its lines:

    {"family": …}          header
    {"scenario": "title"}  close all connections, open one, FLUSHALL
    {"send": [args…], …}   a command as an array of bulk strings
    {"inline": "text", …}  the text as it is, followed by CRLF
    {"recv": true, …}      send nothing; read what arrives
    {"closed": true}       the server closes the connection and sends nothing more
    {"sleep_ms": n}        wait

"conn" names a connection other than the main one. "resp2" and "resp3" hold the raw reply, which
may be several replies in a row, or empty when nothing is to be received. "match" says how to
compare: exact (when left out), unordered, scan, float, error-code, type, any.

What a scenario cannot show yet is left out by rule, never by hand. A step whose command waits
for a later release is not sent. The keys that it would have written are tainted from there on:
steps that name a tainted key, look at the whole keyspace while there is one, or receive messages
about one, are left out too, and taint what they would have written, until the key is deleted,
overwritten or flushed. In MULTI the element of a command that was left out is taken out of
EXEC's recorded array; an EXEC that watches a tainted write, or whose recorded abort came from a
left-out command, is not compared.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from tests.golden import keyspecs
from tests.support.resp import (
    NotRespError,
    Reply,
    Wire,
    encode,
    parse_replies,
)

if sys.version_info >= (3, 11):
    import tomllib
else:  # pytest brings it where Python does not
    import tomli as tomllib

HERE = Path(__file__).resolve().parent

#: How long to listen when the recording says that nothing is to be received.
QUIET_SECONDS = 0.03

#: How long to wait for a recorded reply.
REPLY_SECONDS = 5.0

#: Largest relative difference between two numbers that match as "float".
TOLERANCE = 1e-6

MATCHES = ("exact", "unordered", "scan", "float", "error-code", "type", "any")

#: Commands whose reply tells about keys that they do not name.
WHOLE_KEYSPACE = {"KEYS", "SCAN", "DBSIZE", "RANDOMKEY", "INFO"}


# -- recordings ---------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    line: int
    fields: dict[str, Any]

    @property
    def connection(self) -> str:
        return str(self.fields.get("conn", ""))

    @property
    def args(self) -> list[str]:
        """The command's arguments; empty for a step that sends none as an array."""
        return list(self.fields.get("send", ()))

    @property
    def name(self) -> str:
        return self.args[0].upper() if self.args else ""

    def recorded(self, resp: int) -> bytes:
        return str(self.fields[f"resp{resp}"]).encode("latin-1")

    def __str__(self) -> str:
        """The step as a person would write it."""
        if "send" in self.fields:
            text = " ".join(map(_quote, self.args))
        elif "inline" in self.fields:
            text = f"(inline) {self.fields['inline']!r}"
        elif "recv" in self.fields:
            text = "(receive)"
        else:
            text = "(the server closes the connection)"
        return f"{self.connection}> {text}" if self.connection else text


@dataclass(frozen=True)
class Scenario:
    family: str
    title: str
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return f"{self.family}: {self.title}"


def load(family: str) -> list[Scenario]:
    """The scenarios of one recording."""
    scenarios: list[tuple[str, list[Step]]] = []
    text = (HERE / f"{family}.jsonl").read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines(), 1):
        fields = json.loads(line)
        if "scenario" in fields:
            scenarios.append((fields["scenario"], []))
        elif "family" not in fields:
            match = fields.get("match", "exact")
            if match not in MATCHES:
                raise ValueError(f"{family}.jsonl:{number}: unknown match {match!r}")
            scenarios[-1][1].append(Step(number, fields))
    return [Scenario(family, title, tuple(steps)) for title, steps in scenarios]


def _quote(arg: str) -> str:
    plain = arg.isascii() and arg.isprintable() and not set(arg) & set(" \"'")
    return arg if plain and arg else json.dumps(arg)


# -- what is left out, what differs -------------------------------------------


def later_commands() -> dict[str, str]:
    """Command name in capitals → why it waits."""
    table = tomllib.loads((HERE / "later_commands.toml").read_text(encoding="utf-8"))
    return {name: group["reason"] for group in table["later"] for name in group["commands"]}


@dataclass(frozen=True)
class Difference:
    family: str
    line: int
    command: str
    reason: str
    resp: tuple[int, ...] = (2, 3)
    reply: bytes | None = None


def differences() -> dict[tuple[str, int], list[Difference]]:
    """The intended differences, by family and line."""
    table = tomllib.loads((HERE / "differences.toml").read_text(encoding="utf-8"))
    found: dict[tuple[str, int], list[Difference]] = {}
    for row in table.get("difference", ()):
        reply = row.get("reply")
        entry = Difference(
            row["family"],
            row["line"],
            row["command"],
            row["reason"],
            tuple(row.get("resp", (2, 3))),
            None if reply is None else reply.encode("latin-1"),
        )
        found.setdefault((entry.family, entry.line), []).append(entry)
    return found


@dataclass
class _Taint:
    """What the left-out steps of a scenario would have changed."""

    keys: set[str] = field(default_factory=set)
    watched: dict[str, set[str]] = field(default_factory=dict)  # by connection
    watch_fired: set[str] = field(default_factory=set)  # connections
    queued: dict[str, int] = field(default_factory=dict)  # connections in MULTI: commands so far
    left_out_of_exec: dict[str, list[int]] = field(default_factory=dict)
    abort_left_out: set[str] = field(default_factory=set)  # connections

    def wrote(self, keys: list[str]) -> None:
        self.keys.update(keys)
        for connection, watched in self.watched.items():
            if watched.intersection(keys):
                self.watch_fired.add(connection)

    def end_multi(self, connection: str) -> None:
        self.queued.pop(connection, None)
        self.left_out_of_exec.pop(connection, None)
        self.abort_left_out.discard(connection)
        self.unwatch(connection)

    def unwatch(self, connection: str) -> None:
        self.watched.pop(connection, None)
        self.watch_fired.discard(connection)


# -- comparing replies ---------------------------------------------------------


def _number(data: bytes) -> float | None:
    try:
        return float(data)
    except ValueError:
        return None


def _same_numbers(want: Reply, got: Reply) -> bool:
    """Equal, but for small differences between the numbers inside."""
    if want.kind != got.kind or len(want.items) != len(got.items):
        return False
    if want.items:
        return all(map(_same_numbers, want.items, got.items))
    if want.data == got.data:
        return True
    a, b = _number(want.data), _number(got.data)
    if a is None or b is None:
        return False
    return a == b or math.isclose(a, b, rel_tol=TOLERANCE)


def _bag(reply: Reply, paired: bool) -> Counter[bytes]:
    """The elements of an aggregate, or its pairs of elements, in no order."""
    raw = [item.raw for item in reply.items]
    if paired:
        raw = [key + value for key, value in zip(raw[::2], raw[1::2], strict=False)]
    return Counter(raw)


def _is_paired(resp2: Reply, resp3: Reply | None) -> bool:
    """Whether a flat RESP2 array holds pairs, as its RESP3 twin shows."""
    if resp2.kind in ("%", "|"):
        return True
    if resp3 is None or resp2.kind != "*":
        return False
    if resp3.kind == "%":
        return len(resp3.items) == len(resp2.items)
    return bool(resp3.items) and len(resp3.items) * 2 == len(resp2.items)


def _same_bag(want: Reply, got: Reply, twin: Reply | None) -> bool:
    if want.kind != got.kind or len(want.items) != len(got.items):
        return False
    if not want.items:
        return want.raw == got.raw
    paired = _is_paired(want, twin)
    return _bag(want, paired) == _bag(got, paired)


def _same_scan(want: Reply, got: Reply, command: str) -> bool:
    """[cursor, elements]: the same cursor, the elements in any order."""
    if want.kind != got.kind or want.is_error or len(want.items) != 2:
        return want.raw == got.raw
    if len(got.items) != 2 or want.items[0].raw != got.items[0].raw:
        return False
    w, g = want.items[1], got.items[1]
    paired = command in ("HSCAN", "ZSCAN") and len(w.items) % 2 == 0
    same_shape = w.kind == g.kind and len(w.items) == len(g.items)
    return same_shape and _bag(w, paired) == _bag(g, paired)


def matches(
    match: str, want: Reply, got: Reply, twin: Reply | None = None, command: str = ""
) -> bool:
    """Whether *got* agrees with the recorded reply *want* under *match*.

    *twin* is the RESP3 recording of the same reply, *command* the upper-case command name; both
    only help to tell flat lists of pairs from plain lists.
    """
    if match == "any":
        return True
    if match == "type":
        return want.kind == got.kind
    if match == "error-code" and want.is_error:
        return want.kind == got.kind and want.data.split(b" ")[0] == got.data.split(b" ")[0]
    if match == "unordered":
        return _same_bag(want, got, twin)
    if match == "scan":
        return _same_scan(want, got, command)
    if match == "float":
        return _same_numbers(want, got)
    return want.raw == got.raw


# -- replaying -----------------------------------------------------------------


class Verdict(Enum):
    PASSED = "passed"
    FAILED = "failed"
    LEFT_OUT = "left out"
    INTENDED = "intended difference"


@dataclass(frozen=True)
class Outcome:
    """What became of one recorded step."""

    scenario: Scenario
    line: int
    resp: int
    command: str
    verdict: Verdict
    expected: bytes = b""
    got: bytes = b""
    note: str = ""

    def __str__(self) -> str:
        note = f"  ({self.note})" if self.note else ""
        return (
            f"{self.scenario.family}.jsonl:{self.line}: [resp{self.resp}] {self.scenario.title}\n"
            f"    command   {self.command}\n"
            f"    expected  {_show(self.expected)}\n"
            f"    got       {_show(self.got)}{note}"
        )


def _show(data: bytes, limit: int = 600) -> str:
    text = repr(data)[1:]
    return text if len(text) <= limit else f"{text[:limit]}... ({len(data)} bytes)"


class Replay:
    """Plays one scenario over connections of its own."""

    def __init__(
        self,
        scenario: Scenario,
        address: tuple[str, int],
        resp: int,
        later: dict[str, str] | None = None,
        intended: dict[tuple[str, int], list[Difference]] | None = None,
    ) -> None:
        self.scenario = scenario
        self.address = address
        self.resp = resp
        self.later = later if later is not None else later_commands()
        self.intended = intended if intended is not None else differences()
        self.connections: dict[str, Wire] = {}
        self.taint = _Taint()

    def run(self) -> Iterator[Outcome]:
        """Yield an Outcome for each step that expects something."""
        try:
            self._connection("").reply("FLUSHALL")
            line = 0
            for step in self.scenario.steps:
                if "sleep_ms" in step.fields:
                    time.sleep(step.fields["sleep_ms"] / 1000)
                    continue
                line = step.line
                yield self._play(step)
            stray = b"".join(wire.pending() for wire in self.connections.values())
            if stray:
                yield Outcome(
                    self.scenario,
                    line,
                    self.resp,
                    "(end of scenario)",
                    Verdict.FAILED,
                    got=stray,
                    note="never expected",
                )
        finally:
            for wire in self.connections.values():
                wire.close()

    # -- one step --------------------------------------------------------------

    def _play(self, step: Step) -> Outcome:
        reason = self._reason_to_leave_out(step)
        if reason is not None:
            return self._outcome(step, Verdict.LEFT_OUT, note=reason)
        try:
            passed, expected, got, note = self._check(step)
        except OSError as error:
            passed, expected, got = False, step.recorded(self.resp), b""
            note = f"connection failed: {error}"
        if not passed and step.name == "EXEC" and note == _NOT_COMPARED:
            return self._outcome(step, Verdict.LEFT_OUT, note="waits for what it executes")
        entry = self._difference(step)
        if entry is None:
            verdict = Verdict.PASSED if passed else Verdict.FAILED
            return self._outcome(step, verdict, expected, got, note)
        if passed:
            note = "listed in differences.toml but agrees: take it out"
        elif entry.command != str(step):
            note = f"differences.toml calls this step {entry.command!r}"
        elif entry.reply is not None and not got.startswith(entry.reply):
            note = f"differences.toml expects {_show(entry.reply)}; {note}"
        else:
            return self._outcome(step, Verdict.INTENDED, expected, got, entry.reason)
        return self._outcome(step, Verdict.FAILED, expected, got, note)

    def _difference(self, step: Step) -> Difference | None:
        for entry in self.intended.get((self.scenario.family, step.line), ()):
            if self.resp in entry.resp:
                return entry
        return None

    def _outcome(
        self,
        step: Step,
        verdict: Verdict,
        expected: bytes = b"",
        got: bytes = b"",
        note: str = "",
    ) -> Outcome:
        return Outcome(self.scenario, step.line, self.resp, str(step), verdict, expected, got, note)

    # -- taint -----------------------------------------------------------------

    def _reason_to_leave_out(self, step: Step) -> str | None:
        """Why a step cannot be played yet; keeps the account of what that changes."""
        args, name, conn, taint = step.args, step.name, step.connection, self.taint
        if "recv" in step.fields and self._tells_of_taint(step):
            return "waits for keys that it tells about"
        if not args:
            return None
        refused = step.recorded(self.resp).startswith(b"-")
        reason = self.later.get(name)
        if name == "COMMAND" and self._tells_of_later_command(step):
            return "waits for the commands that it tells about"
        keys = keyspecs.keys_of(args)
        in_multi = conn in taint.queued
        if reason is None and name in ("FLUSHALL", "FLUSHDB") and not in_multi:
            taint.keys.clear()
        if reason is None and taint.keys:
            if taint.keys.intersection(keys):
                reason = "waits for the key that it names"
            elif name in WHOLE_KEYSPACE and not refused:
                reason = "waits for keys that it would see"
        if reason is None:
            self._account(step, keys, refused)
            return None
        if name in ("DEL", "UNLINK") and not in_multi:
            self._connection(conn).reply(*map(_latin, args))
            taint.keys.difference_update(keys)
            return reason
        overwrites = name == "MSET" or (name == "SET" and len(args) == 3)
        if overwrites and not refused and not in_multi:
            taint.keys.difference_update(keys)
            return None
        if in_multi:
            if refused:
                taint.abort_left_out.add(conn)
            else:
                taint.left_out_of_exec.setdefault(conn, []).append(taint.queued[conn])
                taint.queued[conn] += 1
        if name == "WATCH":
            taint.watch_fired.add(conn)
        if keyspecs.writes(args) and not refused:
            taint.wrote(keys)
        return reason

    def _tells_of_later_command(self, step: Step) -> bool:
        """Whether COMMAND is asked, or was recorded to answer, about a command to come."""
        words = [word.upper() for word in step.args[1:]]
        if words and words[0] in ("GETKEYS", "GETKEYSANDFLAGS"):
            return bool(self.later.keys() & words[1:2])
        names = {
            item.data.decode("latin-1").upper()
            for reply in parse_replies(step.recorded(self.resp))
            for item in reply.items
        }
        return bool(self.later.keys() & {*words[1:], *names})

    def _tells_of_taint(self, step: Step) -> bool:
        """Whether messages are recorded here about keys that left-out steps wrote."""
        words = list(parse_replies(step.recorded(self.resp)))
        while words:
            word = words.pop()
            words += word.items
            # A keyspace event names its key alone or at the end of the channel.
            if word.data.decode("latin-1").rpartition("__:")[2] in self.taint.keys:
                return True
        return False

    def _account(self, step: Step, keys: list[str], refused: bool) -> None:
        """Follow MULTI and WATCH on the connection of a step that is played."""
        name, conn, taint = step.name, step.connection, self.taint
        if name == "MULTI" and not refused:
            taint.queued.setdefault(conn, 0)
        elif name in ("DISCARD", "RESET", "QUIT"):
            taint.end_multi(conn)
        elif name == "UNWATCH" and conn not in taint.queued:
            taint.unwatch(conn)
        elif name == "WATCH" and not refused:
            taint.watched.setdefault(conn, set()).update(keys)
        elif conn in taint.queued and name != "EXEC" and not refused:
            taint.queued[conn] += 1

    # -- sending and comparing -------------------------------------------------

    def _connection(self, name: str) -> Wire:
        if name not in self.connections:
            self.connections[name] = Wire(self.address, self.resp, REPLY_SECONDS)
        return self.connections[name]

    def _drop(self, name: str) -> None:
        """Forget a connection whose replies can no longer be trusted."""
        self.connections.pop(name).close()

    def _check(self, step: Step) -> tuple[bool, bytes, bytes, str]:
        """Carry out one step; return (passed, expected, got, note)."""
        wire = self._connection(step.connection)
        if "closed" in step.fields:
            passed = wire.closed_by_server()
            rest = wire.pending()
            self._drop(step.connection)
            return passed, b"", rest, "" if passed else "still open, or more was sent"

        stray = b""
        if "recv" not in step.fields:
            stray = wire.pending()
            try:
                wire.send(self._request(step))
            except OSError:
                self._drop(step.connection)
                return False, b"", b"", "connection closed"

        expected = step.recorded(self.resp)
        want = parse_replies(expected)
        if not want:
            got_bytes = wire.pending(QUIET_SECONDS)
            return not got_bytes and not stray, expected, got_bytes, ""
        twins = parse_replies(str(step.fields["resp3"]).encode("latin-1"))
        uncompared = False
        if step.name == "EXEC":
            want, uncompared = self._executed(step.connection, want)
            expected = b"".join(reply.raw for reply in want)
        replies, note = self._receive(wire, want)
        if note:
            self._drop(step.connection)
        if uncompared:
            return False, expected, b"", _NOT_COMPARED
        passed = len(replies) == len(want) and all(
            matches(
                step.fields.get("match", "exact"),
                w,
                g,
                twins[i] if len(twins) == len(want) else None,
                step.name,
            )
            for i, (w, g) in enumerate(zip(want, replies, strict=True))
        )
        if stray:
            passed, note = False, f"unexpected before this step: {_show(stray)}"
        return passed, expected, b"".join(reply.raw for reply in replies), note

    def _request(self, step: Step) -> bytes:
        if "send" in step.fields:
            return encode(*map(_latin, step.args))
        return str(step.fields["inline"]).encode("latin-1") + b"\r\n"

    def _executed(self, connection: str, want: list[Reply]) -> tuple[list[Reply], bool]:
        """EXEC's recorded reply without what was left out, and whether it must not be compared."""
        taint = self.taint
        uncompared = connection in taint.watch_fired or connection in taint.abort_left_out
        missing = set(taint.left_out_of_exec.get(connection, ()))
        if missing and want[0].kind == "*":
            kept = [item for i, item in enumerate(want[0].items) if i not in missing]
            raw = b"*%d\r\n" % len(kept) + b"".join(item.raw for item in kept)
            want = [*parse_replies(raw), *want[1:]]
        taint.end_multi(connection)
        return want, uncompared

    def _receive(self, wire: Wire, want: list[Reply]) -> tuple[list[Reply], str]:
        """Read as many replies as were recorded; say why, if there are fewer."""
        got: list[Reply] = []
        while len(got) < len(want):
            try:
                got.append(wire.read_reply())
            except TimeoutError:
                return got, "timed out"
            except (EOFError, OSError):
                return got, "connection closed"
            except NotRespError as error:
                return got, f"not RESP: {error}"
            if got[-1].is_error and not want[len(got) - 1].is_error:
                break
        return got, ""


#: The note of an EXEC that depends on steps that were left out.
_NOT_COMPARED = "not compared"


def _latin(arg: str) -> bytes:
    return arg.encode("latin-1")
