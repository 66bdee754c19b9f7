"""How long random tests run, and what repeats one: NORIKV_TEST_EFFORT and NORIKV_TEST_SEED."""

from __future__ import annotations

import os
import random

from hypothesis import HealthCheck, settings

#: More of the same for a long run: NORIKV_TEST_EFFORT=10 takes about ten times as long, 0.5 half.
EFFORT = float(os.environ.get("NORIKV_TEST_EFFORT", "1"))


def scaled(count: int) -> int:
    """How often to do what is done *count* times with the usual effort; at least once."""
    return max(1, round(count * EFFORT))


def patience(seconds: float) -> float:
    """How long a test may take that takes at most *seconds* with the usual effort."""
    return seconds * max(1.0, EFFORT)


def seeded() -> random.Random:
    """A generator whose seed is printed, so that a failure can be repeated with it.

    Where CI is set the seed is always the same, as Hypothesis's examples are there: a change is
    judged by what it does, and new examples are looked for elsewhere.
    """
    usual = 1 if os.environ.get("CI") else random.randrange(1 << 32)
    seed = int(os.environ.get("NORIKV_TEST_SEED", usual))
    print(f"NORIKV_TEST_SEED={seed}")
    return random.Random(seed)


def examples(count: int) -> settings:
    """Hypothesis's settings for tests of which an example is a conversation with a server."""
    return settings(
        max_examples=scaled(count),
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
