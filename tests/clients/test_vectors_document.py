"""What docs/vectors.md shows gives what it says."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.clients.documents import blocks, play, run_python, sessions
from tests.conftest import StartServer
from tests.modules import part
from tests.support.server import ROOT

DOCUMENT = (ROOT / "docs" / "vectors.md").read_text()


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="redis-cli is not installed")
def test_sessions_print_what_is_shown(start_server: StartServer, tmp_path: Path) -> None:
    steps = sessions(DOCUMENT)
    assert len(steps) >= 15
    play(steps, start_server(), tmp_path)


def test_python_examples_run(start_server: StartServer) -> None:
    server = start_server()
    printed = [run_python(example, server) for example in blocks(DOCUMENT, "python")]
    assert printed == ["doc:1 a pot of tea\n", "[b'doc:1']\n"]


def test_filters_of_the_table_can_be_read() -> None:
    rows = re.findall(r"^\| `(.+?)` \|", DOCUMENT.split("## Filters")[1], re.MULTILINE)
    filters = [row.replace("\\|", "|") for row in rows if row.startswith((".", "!", "'", "not "))]
    assert len(filters) >= 9
    for text in filters:
        assert part("vector.filters").parse(text.encode()).paths


def test_pictures_are_there() -> None:
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", DOCUMENT):
        assert (ROOT / "docs" / picture).is_file()
