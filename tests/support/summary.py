"""The last lines of a run: what was skipped, and why.

Tests skip with a reason; parts of a test that were left out (recorded steps that wait for a
later command) are reported by ``record_property(LEFT_OUT, {reason: count})``. Both are counted
by reason and printed, one line each, after everything but pytest's own closing line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from typing import Any

import pytest

#: The property under which a test reports what it left out: {reason: number of steps}.
LEFT_OUT = "left_out"


def _reason(report: Any) -> str:
    longrepr = getattr(report, "longrepr", None)
    if isinstance(longrepr, tuple) and len(longrepr) == 3:
        return str(longrepr[2]).removeprefix("Skipped: ")
    return str(longrepr)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any) -> Generator[None, object, object]:
    result = yield
    skipped = Counter(_reason(report) for report in terminalreporter.stats.get("skipped", []))
    left_out: Counter[str] = Counter()
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            if getattr(report, "when", "call") == "call":
                for name, value in getattr(report, "user_properties", []):
                    if name == LEFT_OUT:
                        left_out.update(value)
    if not skipped and not left_out:
        return result
    terminalreporter.section("skipped, and why", sep="-")
    for reason, count in sorted(skipped.items()):
        terminalreporter.write_line(f"{count} test{'s'[: count > 1]}: {reason}")
    for reason, count in sorted(left_out.items()):
        terminalreporter.write_line(f"{count} recorded step{'s'[: count > 1]}: {reason}")
    return result
