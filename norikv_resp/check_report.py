"""What a check finds, how it is told, and what would put it right."""

from __future__ import annotations

from collections import Counter

from norikv_resp.commitlog import Finding

#: Lines printed for one kind of damage; the rest is counted.
SHOWN = 10

#: What one round collects at most, in rows and bytes.
ROUND_ROWS, ROUND_BYTES = 200_000, 64 << 20


class Report:
    """What one round has found, and what would put it right."""

    def __init__(self) -> None:
        #: Kinds of damage, with how often each was met.
        self.kinds: Counter[str] = Counter()
        self.facts: list[str] = []
        #: Rows to write, `b""` to delete; the keys to stamp with a new version; what to queue.
        self.rows: dict[bytes, bytes] = {}
        self.restamp: set[bytes] = set()
        self.reclaim: set[tuple[int, int]] = set()
        #: Rows whose collection has to be copied because another key claims it too.
        self.copies: set[bytes] = set()
        #: Rows that are given up, for the copy, and their bytes.
        self.lost: dict[bytes, bytes] = {}
        self.lost_bytes = 0
        #: A version index that the next one has to exceed.
        self.least_index = 0
        self.log_damage: list[Finding] = []
        self.tables_damaged = False

    @property
    def whole(self) -> bool:
        """Whether nothing is damaged."""
        return not self.kinds

    @property
    def full(self) -> bool:
        """Whether enough is to be changed for one round."""
        changes = len(self.rows) + len(self.restamp) + len(self.reclaim)
        return changes >= ROUND_ROWS or self.lost_bytes >= ROUND_BYTES

    def damage(self, kind: str, text: str) -> None:
        """Count a piece of damage and show the first few of each kind."""
        self.kinds[kind] += 1
        if self.kinds[kind] <= SHOWN:
            say(f"DAMAGE  {kind}: {text}")

    def give_up(self, row: bytes, value: bytes) -> None:
        """Have a row deleted, with a copy."""
        self.lost[row] = value
        self.lost_bytes += len(row) + len(value)
        self.rows[row] = b""


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def one_line(text: str) -> str:
    """A text without line breaks."""
    return " ".join(text.split())


def shorten(name: bytes) -> str:
    return repr(name[:60])[1:] + ("…" if len(name) > 60 else "")


def name_of(row: bytes) -> str:
    """A row key for people: as text, or in hex."""
    shown = row[:40]
    readable = shown.isascii() and shown.decode().isprintable()
    return f"row {shown.decode() if readable else shown.hex()}" + ("…" if len(row) > 40 else "")
