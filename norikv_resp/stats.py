"""What the server counts about itself: INFO's figures, SLOWLOG and LATENCY."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from norikv_resp.command import Request
from norikv_resp.errors import ReplyError

if TYPE_CHECKING:
    from norikv_resp.config import Config
    from norikv_resp.context import Context

_SAMPLES = 16


class Stats:
    """Counters since the start or since CONFIG RESETSTAT."""

    def __init__(self) -> None:
        self.started = time.time()
        #: When everything was last known to be on disk because somebody asked for it.
        self.last_save = self.started
        self._samples: deque[tuple[float, int, int, int]] = deque(maxlen=_SAMPLES)
        self.reset()

    def reset(self) -> None:
        """CONFIG RESETSTAT."""
        self.connections = 0
        self.rejected_connections = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.protocol_errors = 0
        self.errors: dict[str, int] = {}
        self.error_replies = 0
        self.expired_keys = 0
        self.expired_idempotency = 0
        self.reclaimed_rows = 0
        self.output_limit_disconnections = 0
        self._samples.clear()

    def error(self, error: ReplyError) -> None:
        """Count an error reply under its first word."""
        self.error_replies += 1
        code = error.text.split(b" ", 1)[0].decode("latin-1")
        if code in self.errors or len(self.errors) < 128:
            self.errors[code] = self.errors.get(code, 0) + 1

    def sample(self, commands: int) -> None:
        """Called regularly with the number of commands so far, so that rates can be told."""
        self._samples.append((time.monotonic(), commands, self.bytes_in, self.bytes_out))

    def rates(self) -> tuple[float, float, float]:
        """Commands, bytes in and bytes out per second over the last samples."""
        if len(self._samples) < 2:
            return 0.0, 0.0, 0.0
        first, last = self._samples[0], self._samples[-1]
        seconds = max(last[0] - first[0], 1e-6)
        return (
            (last[1] - first[1]) / seconds,
            (last[2] - first[2]) / seconds,
            (last[3] - first[3]) / seconds,
        )


class SlowEntry(NamedTuple):
    """One line of SLOWLOG GET."""

    id: int
    at: int
    microseconds: int
    arguments: list[bytes]
    peer: str
    name: bytes


class Slowlog:
    """The last slow commands, the newest first."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._entries: deque[SlowEntry] = deque()
        self._next = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, ctx: Context, request: Request, microseconds: int) -> None:
        """Remember a command, its arguments cut to the configured size."""
        most = self._config.slowlog_entry_max_argc
        shown = [self._cut(argument) for argument in request[:most]]
        if len(request) > most:
            shown[-1] = b"... (%d more arguments)" % (len(request) - most + 1)
        self._entries.appendleft(
            SlowEntry(
                self._next, int(time.time()), microseconds, shown, ctx.connection.peer, ctx.name
            )
        )
        self._next += 1
        self.trim()

    def trim(self) -> None:
        """Keep no more entries than slowlog-max-len."""
        while len(self._entries) > self._config.slowlog_max_len:
            self._entries.pop()

    def _cut(self, argument: bytes) -> bytes:
        most = self._config.slowlog_entry_max_string_len
        if len(argument) <= most:
            return argument
        return argument[:most] + b"... (%d more bytes)" % (len(argument) - most)

    def newest(self, count: int) -> list[SlowEntry]:
        """The last *count* entries; all for a negative count."""
        entries = list(self._entries)
        return entries if count < 0 else entries[:count]

    def clear(self) -> None:
        """SLOWLOG RESET."""
        self._entries.clear()


class Latency:
    """Spikes above latency-monitor-threshold: the last 160 of each event, one a second."""

    KEPT = 160

    def __init__(self) -> None:
        self.events: dict[str, deque[tuple[int, int]]] = {}
        self.maximum: dict[str, int] = {}

    def add(self, event: str, microseconds: int) -> None:
        """Record a spike; within one second only the largest is kept."""
        milliseconds = microseconds // 1000
        history = self.events.setdefault(event, deque(maxlen=self.KEPT))
        second = int(time.time())
        if history and history[-1][0] == second:
            history[-1] = (second, max(history[-1][1], milliseconds))
        else:
            history.append((second, milliseconds))
        self.maximum[event] = max(self.maximum.get(event, 0), milliseconds)

    def reset(self, names: list[str]) -> int:
        """Forget these events, all when none is named; how many there were."""
        chosen = [name for name in (names or list(self.events)) if name in self.events]
        for name in chosen:
            del self.events[name], self.maximum[name]
        return len(chosen)
