"""The commit log against a disk that keeps any subset of the unsynced pages."""

from __future__ import annotations

import os

import pytest

from norikv_resp.commitlog import Limits
from tests.support.log_model import Model

SEEDS = range(int(os.environ.get("LOG_SEEDS", "60")))
LIMITS = Limits(large=8192)  # frames over 8 KB go the way of those over a megabyte


@pytest.mark.parametrize("mode", ["always", "no", "mixed"])
def test_power_loss_at_random_points(mode: str) -> None:
    for seed in SEEDS:
        model = Model(seed, mode=mode, limits=LIMITS)
        for _ in range(4):
            model.run(model.rng.randint(1, 60))
            model.lose_power()


@pytest.mark.parametrize("mode", ["always", "no", "mixed"])
def test_power_loss_after_failed_writes_and_syncs(mode: str) -> None:
    for seed in SEEDS:
        model = Model(seed, mode=mode, limits=LIMITS)
        for _ in range(4):
            model.run(model.rng.randint(1, 60), faults=0.06)
            if model.rng.random() < 0.3:
                model.kill()
            else:
                model.lose_power()


def test_two_crashes_in_a_row_with_frames_of_equal_length() -> None:
    """A stale frame behind a torn tail has the right length and the right index: not the chain."""
    for seed in SEEDS:
        model = Model(seed, mode="no", limits=LIMITS)
        for _ in range(5):
            for _ in range(model.rng.randint(0, 12)):
                model.append(1000)
            if model.rng.random() < 0.5:
                model.log.sync()
            model.lose_power()


def test_segment_switches_with_unsynced_segments_behind() -> None:
    for seed in SEEDS:
        model = Model(seed, size=12288, mode="no", limits=LIMITS)
        for _ in range(3):
            model.run(50)
            model.lose_power()


def test_kill_keeps_what_was_handed_to_the_system() -> None:
    for seed in SEEDS:
        model = Model(seed, mode="mixed", limits=LIMITS)
        for _ in range(3):
            model.run(model.rng.randint(1, 60))
            model.kill()
