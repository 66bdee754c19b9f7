"""The checker of histories finds each kind of violation, and passes what is right."""

from __future__ import annotations

import pytest

from tests.crash.history import Attempt, HistoryError, Seen, check
from tests.support.versions import MISSING, Version


def v(index: int) -> Version:
    return Version(1, index)


def win(
    token: str, old: Version, new: int, at: float, key: str = "k", lasted: float = 0.5
) -> Attempt:
    return Attempt(token, ((key, old),), at, at + lasted, v(new))


GOOD = [win("a", MISSING, 1, 1.0), win("b", v(1), 2, 2.0), win("c", v(2), 5, 3.0)]


def test_chain_of_wins_passes() -> None:
    check(GOOD, [Seen("k", v(2), "b", 2.6, 2.7), Seen("k", MISSING, None, 0.1, 0.2)])


def test_two_winners_of_one_version() -> None:
    with pytest.raises(HistoryError, match="was won by"):
        check([*GOOD, win("d", v(1), 7, 4.0)], [])


def test_one_version_for_two_operations() -> None:
    with pytest.raises(HistoryError, match="is of"):
        check([*GOOD, win("d", MISSING, 5, 4.0, key="other")], [])


def test_operation_done_twice() -> None:
    with pytest.raises(HistoryError, match="done twice"):
        check(GOOD, [Seen("k", v(6), "a", 4.0, 4.1)])


def test_version_between_expected_and_won() -> None:
    unknown = Attempt("u", (("k", v(2)),), 0.0, 9.0, None, settled=False)
    with pytest.raises(HistoryError, match="past"):
        check([*GOOD, unknown], [Seen("k", v(4), "u", 0.0, 9.0)])


def test_reading_the_past() -> None:
    with pytest.raises(HistoryError, match="and then at"):
        check(GOOD, [Seen("k", v(1), "a", 5.0, 5.1)])


def test_refused_write_that_shows() -> None:
    refused = Attempt("r", (("k", v(1)),), 5.0, 5.1, None)
    with pytest.raises(HistoryError, match="was refused"):
        check([*GOOD, refused], [Seen("k", v(8), "r", 6.0, 6.1)])


def test_value_from_nowhere() -> None:
    with pytest.raises(HistoryError, match="nobody wrote"):
        check(GOOD, [Seen("k", v(8), "ghost", 6.0, 6.1)])


def test_unknown_outcome_may_show() -> None:
    unknown = Attempt("u", (("k", v(5)),), 5.0, 5.1, None, settled=False)
    check([*GOOD, unknown], [Seen("k", v(8), "u", 6.0, 6.1)])
