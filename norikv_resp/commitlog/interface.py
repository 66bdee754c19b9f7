"""What the store knows of a commit log: frames in, outcomes back, in one order.

`SegmentLog` keeps the order on this machine's disk.  A replicated log is meant to take its place,
so every outcome may come late, and nothing here names a file except in reports of damage.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

Outcome = Literal["not applied", "unknown"]


@dataclass(slots=True)
class Frame:
    """Everything that one turn of the loop changed; applied whole or not at all.

    `rows` maps row keys to row values, and `b""` deletes.  The log reads it during `append` only.
    """

    first: int  # index of the first write command in the frame
    last: int  # index of the last one; frames of a log have growing indices
    term: int  # incarnation that staged the frame
    clock: int  # server time in ms, never smaller than in an earlier frame
    rows: dict[bytes, bytes]


class CommitError(Exception):
    """A frame was not committed.

    `outcome` is "not applied" when no restart can bring the frame back, and "unknown" when it may
    have reached the disk (a retry needs an idempotency token).
    """

    def __init__(self, cause: str, outcome: Outcome) -> None:
        super().__init__(f"{cause} ({outcome})")
        self.cause = cause
        self.outcome: Outcome = outcome


class LogError(Exception):
    """The log cannot be opened; the text is one line for an operator."""


class LogDamage(LogError):
    """Frames that were synced are missing or unreadable.

    `path` and `offset` name the place, `saved_through` is the last index before it.
    """

    def __init__(self, path: str, offset: int, reason: str, saved_through: int) -> None:
        self.path = path
        self.offset = offset
        self.reason = reason
        self.saved_through = saved_through
        self.remedy = (
            f"restore a backup, or keep everything through index {saved_through} and give up what"
            " came after it with: norikv-resp check DIR --repair"
        )
        super().__init__(
            f"commit log damaged: {path} at byte {offset}: {reason};"
            f" readable through index {saved_through}; {self.remedy}"
        )


class LogListener(Protocol):
    """Receives outcomes on the loop's thread, in commit order, possibly during `append`."""

    def on_commit(self, last: int) -> None:
        """Every frame through `last` is committed as its `sync` asked."""

    def on_failure(self, error: CommitError) -> None:
        """Every frame appended so far and not reported as committed is dropped."""

    def on_synced(self, last: int) -> None:
        """Every committed frame through `last` is on disk, also those appended with sync=False."""


class CommitLog(Protocol):
    """An ordered, durable sequence of frames."""

    @property
    def committed(self) -> int:
        """Last index reported by `on_commit`, or recovered."""

    @property
    def synced(self) -> int:
        """Last index known to be on disk."""

    @property
    def term(self) -> int:
        """Highest term found by recovery, or the running one after `start`."""

    @property
    def clock(self) -> int:
        """Highest server time in any frame, in ms."""

    def recover(self, after: int) -> Iterator[Frame]:
        """Yield the frames with `last` > `after` in order; to be exhausted before `start`."""

    def start(self, term: int, listener: LogListener) -> int:
        """Open for appending in `term`, durably; return the lowest index that may be used."""

    def append(self, frame: Frame, sync: bool) -> None:
        """Order and write `frame`; the outcome goes to the listener, perhaps before the return.

        With `sync` committed means on disk, otherwise handed to the operating system.
        """

    def sync(self) -> None:
        """Make everything appended so far durable; `on_synced` follows, perhaps at once."""

    def free(self, through: int) -> None:
        """Allow frames with `last` <= `through` to be forgotten."""

    def close(self) -> None:
        """Sync and close; CommitError when acknowledged frames could not be synced."""

    def stats(self) -> Mapping[str, int | float | str]:
        """Return figures for INFO."""
