"""What docs/patterns.md shows gives what it says; commands have a server of their own."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.clients.documents import blocks, play, run_python, sessions
from tests.conftest import StartServer
from tests.support.server import ROOT, ServerProcess

pytestmark = pytest.mark.norikv

PAGE = (ROOT / "docs" / "patterns.md").read_text()

#: The sections by their headings.
SECTIONS = dict(re.findall(r"^## ([^\n]*)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))

PRINTED = {
    "Counters": "11 100\n",
    "Sessions": "ada ['reader', 'editor']\nTrue None\n",
    "Inventory": "only 2 left\n1\n",
    "Cache": "{'name': 'ann'} 1\n",
    "Rate limiter": "True 2\nTrue 1\nTrue 0\nFalse 0\n",
    "Leader election": "wrote as the leader: node-1\nover\n",
    "Event sourcing": "there are 2 events by now\n2 Paid {'cents': 4200}\n",
    "An account made of events": "refused: 70 are left\n",
    "Tenants": "b'{}' Usage(keys=1, bytes=8, expires_at=0)\nTrue\n",
    "Semantic search": "Baking bread - Flour and a hot oven.\n",
    "Recommendations": "p2 Road shoes running\n",
    "Near-duplicates": (
        "DeduplicationResult(is_duplicate=False, duplicate_of=None, similarity=0.0)\nTrue d1 0.93\n"
    ),
}


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="redis-cli is not installed")
@pytest.mark.parametrize("heading", [each for each in SECTIONS if sessions(SECTIONS[each])])
def test_the_commands_print_what_the_page_says(
    start_server: StartServer, tmp_path: Path, heading: str
) -> None:
    play(sessions(SECTIONS[heading]), start_server(), tmp_path)


@pytest.mark.parametrize("heading", PRINTED)
def test_the_python_example_runs(server: ServerProcess, heading: str) -> None:
    (example,) = blocks(SECTIONS[heading], "python")
    assert run_python(example, server) == PRINTED[heading]


def test_every_section_is_in_the_table() -> None:
    """Anchors of the table lead to headings."""
    anchors = set(re.findall(r"\]\(#([\w-]+)\)", PAGE))
    assert anchors <= {heading.lower().replace(" ", "-") for heading in SECTIONS}
