"""Versions, conditions, TTL and idempotency agree with a dictionary, through restarts too."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import StartServer
from tests.model.driver import Driver
from tests.support.effort import examples, patience, scaled, seeded
from tests.support.server import LATE_LOG, SMALL_SIZES, ServerProcess

pytestmark = pytest.mark.norikv


@pytest.mark.limit(patience(120))
@examples(60)
@given(
    rng=st.randoms(use_true_random=False), steps=st.integers(1, 40), resp=st.sampled_from([2, 3])
)
def test_replies_and_versions_agree(
    shared_server: ServerProcess, rng: random.Random, steps: int, resp: int
) -> None:
    with shared_server.wire() as wire:
        wire.ok("FLUSHALL")
    driver = Driver(shared_server, rng, resp)
    try:
        for _ in range(steps):
            driver.step()
    finally:
        driver.close()


@pytest.mark.limit(patience(120))
@pytest.mark.parametrize(
    "options",
    [
        {"appendfsync": "always"},
        {"appendfsync": "everysec"},
        {"appendfsync": "no", **SMALL_SIZES},
        {"appendfsync": "always", "commit-log": LATE_LOG},
    ],
    ids=["always", "everysec", "no, small sizes", "always, late log"],
)
def test_agreement_survives_restarts(start_server: StartServer, options: dict[str, str]) -> None:
    """Clean stops and kill -9 alike: all that was answered is there, and the term has grown."""
    rng = seeded()
    server = start_server(**options)
    driver = Driver(server, rng, rng.choice((2, 3)))
    try:
        for number in range(scaled(4)):
            for _ in range(rng.randint(10, 200)):
                driver.step()
            driver.restart(clean=number % 2 == 1)
        for _ in range(30):
            driver.step()
    finally:
        driver.close()
