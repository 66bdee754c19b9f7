"""All that Redis 8.8 answered about strings, the steps that need a list or a set included."""

from __future__ import annotations

import pytest

from tests.golden.replay import Replay, Scenario, Verdict, load
from tests.support.server import ServerProcess

pytestmark = pytest.mark.norikv


@pytest.mark.parametrize("scenario", load("strings"), ids=str)
def test_recorded_replies(scenario: Scenario, resp: int, typed_server: ServerProcess) -> None:
    outcomes = list(Replay(scenario, typed_server.address, resp, later={}).run())
    wrong = [str(outcome) for outcome in outcomes if outcome.verdict is not Verdict.PASSED]
    assert not wrong, "\n".join(wrong)
