"""The rows of the table: what is compared, its goal, and the figures collected for it."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median


@dataclass(frozen=True)
class Row:
    """One line of the table.

    A row with a `unit` is about this server's own figures, each given in that unit; the others
    are ratios, this server's figure divided by the peer's of the same round.
    """

    name: str
    title: str
    #: The goal for the median, None for a figure that only explains another row.
    goal: float | None
    #: Whether more is better; otherwise less is.
    more: bool = True
    stretch: float | None = None
    unit: str = ""
    #: Rows whose figures come from the same run: they are measured together.
    group: str = "relaxed"

    def wanted(self) -> str:
        """The goal as people write it."""
        if self.goal is None:
            return ""
        sign = "≥" if self.more else "≤"
        text = f"{sign} {self.goal:g}{' ' + self.unit if self.unit else ''}"
        return text + (f" ({self.stretch:g})" if self.stretch is not None else "")


@dataclass
class Figures:
    """What the rounds gave for one row."""

    ours: list[float] = field(default_factory=list)
    peers: list[float] = field(default_factory=list)

    def add(self, ours: float, peers: float | None) -> None:
        """The figures of one round."""
        self.ours.append(ours)
        if peers is not None:
            self.peers.append(peers)

    def values(self, row: Row) -> list[float]:
        """What is compared with the goal, round by round."""
        if row.unit:
            return self.ours
        return [ours / peers for ours, peers in zip(self.ours, self.peers, strict=True)]

    def met(self, row: Row) -> bool | None:
        """Whether the median reaches the goal; None if there is no goal."""
        if row.goal is None:
            return None
        middle = median(self.values(row))
        return middle >= row.goal if row.more else middle <= row.goal


ROWS = (
    Row("get", "GET, no", 0.9, stretch=1.0),
    Row("set", "SET, no", 0.9, stretch=1.0),
    Row("get-16", "GET, no, pipeline 16", 0.45, stretch=0.55),
    Row("set-16", "SET, no, pipeline 16", 0.35, stretch=0.45),
    Row("set-always", "SET, always", 1.0, group="durable"),
    Row("set-always-16", "SET, always, pipeline 16", 0.6, stretch=0.8, group="durable"),
    Row("cas", "CAS loop / WATCH loop, always", 2.0, group="durable"),
    Row("cas-stay", "CAS loop, each client on the counter it drew", 2.0, group="durable"),
    Row("cas-library", "the same, WATCH as libraries send it", None, group="durable"),
    Row("get-p99", "p99 of GET while 50 clients SET, always", 2.0, more=False, group="durable"),
    Row("load-p99", "loading: p99 of SET, no, pipeline 16", 20, False, unit="ms", group="load"),
    Row("load-longest", "loading: longest pause", 200, False, unit="ms", group="load"),
    Row("load-rate", "loading: keys a second", None, group="load"),
    Row("memory", "memory with the keys on disk", 400, False, unit="MB", group="load"),
    Row("memory-peak", "memory at most while loading", None, False, unit="MB", group="load"),
    Row("start-clean", "start after a clean stop", 1, False, unit="s", group="load"),
    Row("start-killed", "start after kill -9 while loading", 1, False, unit="s", group="load"),
)

BY_NAME = {row.name: row for row in ROWS}


def add_options(parser: argparse.ArgumentParser, names: Collection[str]) -> None:
    """Let the command line say which of the rows of these *names*, and where figures go."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument(
        "--only",
        action="append",
        choices=sorted(names),
        metavar="ROW",
        help="measure this row; may be given again. Rows: " + ", ".join(names),
    )


def table(results: dict[str, Figures], rows: Sequence[Row] = ROWS) -> list[str]:
    """The lines of the table, a header first."""
    lines = [
        (
            f"{'':42} {'median':>8} {'min':>8} {'max':>8}  {'goal (stretch)':16} {'met':4}"
            f" {'here':>11} {'peer':>11}"
        )
    ]
    for row in rows:
        figures = results.get(row.name)
        if figures is None or not figures.ours:
            continue
        values = figures.values(row)
        met = {True: "yes", False: "NO", None: ""}[figures.met(row)]
        if row.stretch is not None and met == "yes" and median(values) >= row.stretch:
            met = "yes+"
        peers = _short(median(figures.peers)) if figures.peers else ""
        lines.append(
            f"{row.title:42} {_short(median(values)):>8} {_short(min(values)):>8}"
            f" {_short(max(values)):>8}  {row.wanted():16} {met:4}"
            f" {_short(median(figures.ours)):>11} {peers:>11}"
        )
    return lines


def _short(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.3g}"
