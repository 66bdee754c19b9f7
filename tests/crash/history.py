"""Judging what concurrent clients saw of a few keys, with their own clocks for order.

Every value written is the token of the operation that wrote it, and is used once. All versions
come from one commit order, so a version names one operation wherever it shows.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from tests.support.versions import MISSING, Version


class HistoryError(AssertionError):
    """The history cannot have come from a server that keeps its contract."""


@dataclass(frozen=True)
class Seen:
    """A client saw that *key* had *value* at *version*, at some moment between two times."""

    key: str
    version: Version
    value: str | None
    invoked: float
    completed: float


@dataclass(frozen=True)
class Attempt:
    """A write of *token* on condition that each key is at the version given for it.

    *won* is the version it made; None with *settled* means that it was refused for good, without
    that its outcome is unknown.
    """

    token: str
    expected: tuple[tuple[str, Version], ...]
    invoked: float
    completed: float
    won: Version | None
    settled: bool = True


def check(attempts: list[Attempt], seen: list[Seen]) -> None:
    """Raise HistoryError unless the history is one of versioned compare-and-set, exactly once."""
    _one_operation_per_version(attempts, seen)
    _one_winner_per_version(attempts)
    _nothing_between(attempts, seen)
    _nothing_goes_back(attempts, seen)
    _refused_never_show(attempts, seen)


def _one_operation_per_version(attempts: list[Attempt], seen: list[Seen]) -> None:
    tokens: dict[Version, str] = {}
    facts = [(a.won, a.token) for a in attempts if a.won is not None]
    facts += [(s.version, s.value) for s in seen if s.value is not None]
    for version, token in facts:
        if tokens.setdefault(version, token) != token:
            raise HistoryError(f"{version} is of {tokens[version]} and of {token}")
    versions: dict[str, Version] = {}
    for version, token in tokens.items():
        if versions.setdefault(token, version) != version:
            raise HistoryError(f"{token} was done twice: {versions[token]} and {version}")


def _one_winner_per_version(attempts: list[Attempt]) -> None:
    winners: dict[tuple[str, Version], str] = {}
    for attempt in attempts:
        if attempt.won is None:
            continue
        for place in attempt.expected:
            if place in winners:
                raise HistoryError(f"{place} was won by {winners[place]} and by {attempt.token}")
            winners[place] = attempt.token


def _nothing_between(attempts: list[Attempt], seen: list[Seen]) -> None:
    """A win replaced the very version it expected: the key never had one in between."""
    versions: dict[str, set[Version]] = defaultdict(set)
    for sight in seen:
        versions[sight.key].add(sight.version)
    for attempt in attempts:
        for key, _ in attempt.expected:
            if attempt.won is not None:
                versions[key].add(attempt.won)
    for attempt in attempts:
        if attempt.won is None:
            continue
        for key, expected in attempt.expected:
            between = [v for v in versions[key] if expected < v < attempt.won]
            if between:
                raise HistoryError(
                    f"{attempt.token} took {key} from {expected} to {attempt.won}, past {between}"
                )


def _nothing_goes_back(attempts: list[Attempt], seen: list[Seen]) -> None:
    """What completed before something began is not older in what that something shows."""
    shows: dict[str, list[tuple[float, float, Version, Version]]] = defaultdict(list)
    for sight in seen:
        shows[sight.key].append((sight.invoked, sight.completed, sight.version, sight.version))
    for attempt in attempts:
        if attempt.won is not None:
            for key, expected in attempt.expected:
                shows[key].append((attempt.invoked, attempt.completed, expected, attempt.won))
    for key, events in shows.items():
        completions = sorted((completed, version) for _, completed, _, version in events)
        position, floor = 0, MISSING
        for invoked, _, lower, _ in sorted(events):
            while position < len(completions) and completions[position][0] < invoked:
                floor = max(floor, completions[position][1])
                position += 1
            if lower < floor:
                raise HistoryError(f"{key} was at {floor} before {invoked}, and then at {lower}")


def _refused_never_show(attempts: list[Attempt], seen: list[Seen]) -> None:
    refused = {a.token for a in attempts if a.settled and a.won is None}
    known = {a.token for a in attempts}
    for sight in seen:
        if sight.value is None:
            continue
        if sight.value in refused:
            raise HistoryError(f"{sight.value} was refused, but {sight.key} had it")
        if sight.value not in known:
            raise HistoryError(f"{sight.key} had {sight.value}, which nobody wrote")
