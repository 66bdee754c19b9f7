"""Redis 8.8's recorded answers, step by step, in both protocols."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.golden.replay import (
    Outcome,
    Replay,
    Scenario,
    Verdict,
    differences,
    later_commands,
    load,
)
from tests.support.server import ServerProcess, is_foreign
from tests.support.summary import LEFT_OUT

FAMILIES = (
    "strings",
    "keys",
    "transactions",
    "connection",
    "server",
    "arity",
    "pubsub",
    "vectorsets",
)

SCENARIOS = [scenario for family in FAMILIES for scenario in load(family)]


class GoldenServer:
    """A server with default settings; scenarios change settings, so a failed one is replaced."""

    def __init__(self) -> None:
        self.process = ServerProcess()

    def renew(self) -> None:
        self.process.close()
        self.process = ServerProcess()


@pytest.fixture(scope="module")
def golden_server() -> Iterator[GoldenServer]:
    server = GoldenServer()
    yield server
    server.process.close()


@pytest.mark.parametrize("protocol", [2, 3], ids=["resp2", "resp3"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_recorded_replies(
    scenario: Scenario,
    protocol: int,
    golden_server: GoldenServer,
    record_property: Callable[[str, object], None],
) -> None:
    server = golden_server.process
    everything: dict[str, Any] = {"later": {}, "intended": {}} if is_foreign() else {}
    outcomes: list[Outcome] = []
    try:
        outcomes += Replay(scenario, server.address, protocol, **everything).run()
    except BaseException:
        golden_server.renew()
        raise
    left_out = Counter(
        f"{outcome.verdict.value}: {outcome.note}"
        if outcome.verdict is Verdict.INTENDED
        else outcome.note
        for outcome in outcomes
        if outcome.verdict in (Verdict.LEFT_OUT, Verdict.INTENDED)
    )
    if left_out:
        record_property(LEFT_OUT, dict(left_out))
    failed = [outcome for outcome in outcomes if outcome.verdict is Verdict.FAILED]
    if failed:
        log = server.log_tail(10)
        golden_server.renew()
        report = "\n".join(map(str, failed))
        pytest.fail(f"{len(failed)} of {len(outcomes)} steps\n{report}\n{log}", pytrace=False)


def test_later_commands_are_unknown(golden_server: GoldenServer) -> None:
    """A command that the server has by now is replayed, not left out."""
    names = sorted(later_commands())
    with golden_server.process.wire() as wire:
        infos = wire.ok("COMMAND", "INFO", *names)
    known = [name for name, info in zip(names, infos, strict=True) if info is not None]
    if is_foreign():
        pytest.skip("the server under test is not NoriKV")
    assert not known, "these commands exist: take them out of later_commands.toml"


def test_differences_name_recorded_steps() -> None:
    """Each listed difference points to the step that it quotes."""
    steps = {(s.family, step.line): str(step) for s in SCENARIOS for step in s.steps}
    for place, entries in differences().items():
        for entry in entries:
            assert steps.get(place) == entry.command, f"{place}: no such step"
            assert entry.reason
