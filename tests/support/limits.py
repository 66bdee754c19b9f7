"""A limit on the time a test may take, so that a hang names its place instead of the build's.

``@pytest.mark.limit(seconds)`` changes the default. When the time is up the stacks of all
threads are printed and the test fails where it stands. The alarm reaches the main thread only;
a C call that never returns is ended by faulthandler a minute later.
"""

from __future__ import annotations

import faulthandler
import signal
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

#: Where the stacks go: past pytest's capture.
_STDERR = sys.__stderr__ or sys.stderr

DEFAULT_SECONDS = 60.0

#: How long after the alarm a process that did not react is ended.
GRACE_SECONDS = 60.0


class TestTookTooLong(BaseException):
    """Not an Exception, so that neither the code under test nor a retry loop swallows it."""

    __test__ = False


def seconds_for(item: pytest.Item) -> float:
    marker = item.get_closest_marker("limit")
    return float(marker.args[0]) if marker is not None else DEFAULT_SECONDS


@contextmanager
def _limited(item: pytest.Item) -> Iterator[None]:
    seconds = seconds_for(item)

    def ring(signum: int, frame: FrameType | None) -> None:
        faulthandler.dump_traceback(file=_STDERR, all_threads=True)
        raise TestTookTooLong(f"still running after {seconds:g} s")

    previous = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(seconds + GRACE_SECONDS, exit=True, file=_STDERR)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    with _limited(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    with _limited(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    with _limited(item):
        return (yield)
