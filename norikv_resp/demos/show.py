"""What the demos print: tables, and a bar for what takes seconds."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType

WIDTH = 30


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print *rows* under *headings*, numbers to the right."""
    texts = [[_text(cell) for cell in row] for row in rows]
    widths = [
        max(len(line[column]) for line in [list(headings), *texts])
        for column in range(len(headings))
    ]
    right = [
        bool(rows) and all(isinstance(row[column], (int, float)) for row in rows)
        for column in range(len(headings))
    ]
    print()
    for line in [list(headings), ["-" * width for width in widths], *texts]:
        cells = (
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        )
        print(f"  {'  '.join(cells)}".rstrip())
    print()


def _text(cell: object) -> str:
    return f"{cell:.2f}" if isinstance(cell, float) else str(cell)


class Progress:
    """``with Progress("indexing", 200) as bar: … bar.step()``: a bar on a terminal, else nothing.

    It is drawn on standard error and wiped away at the end.
    """

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = max(total, 1)
        self._done = 0
        self._shown = -1
        self._visible = sys.stderr.isatty()

    def step(self, count: int = 1) -> None:
        """*count* more are done."""
        self._done += count
        filled = min(WIDTH, WIDTH * self._done // self._total)
        if self._visible and filled != self._shown:
            self._shown = filled
            bar = "#" * filled + "." * (WIDTH - filled)
            print(f"\r  {self._what} [{bar}]", end="", file=sys.stderr, flush=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._visible:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
