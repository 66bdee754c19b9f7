"""Files that are written from the option table are up to date."""

from __future__ import annotations

from pathlib import Path

import pytest

from norikv_resp import option_docs
from norikv_resp.config import Config
from norikv_resp.options import TABLE


@pytest.mark.parametrize("path", option_docs.generated(), ids=lambda path: str(path.name))
def test_generated_file_is_up_to_date(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == option_docs.generated()[path], "run `make docs`"


def test_the_shipped_configuration_says_what_is_the_default_anyway() -> None:
    shipped = Config.from_argv([str(option_docs.ROOT / "conf" / "norikv.conf")])
    plain = Config.from_argv([])
    assert shipped.warnings == []
    for row in TABLE:
        assert getattr(shipped, row.attribute) == getattr(plain, row.attribute), row.name


def test_its_commented_lines_are_valid(tmp_path: Path) -> None:
    names = {f"# {row.name} " for row in TABLE if not row.directive}
    lines = [
        line.removeprefix("# ")
        for line in option_docs.conf_text().split("\n")
        if any(line.startswith(name) for name in names)
    ]
    assert len(lines) > 40
    path = tmp_path / "all.conf"
    path.write_text("\n".join(lines))
    config = Config.from_argv([str(path)])
    assert config.warnings == []


def test_stale_files_are_found_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(option_docs, "ROOT", tmp_path)
    assert option_docs.main(["--check"]) == 1
    assert "run `make docs`" in capsys.readouterr().err
    assert option_docs.main(["--write"]) == 0
    assert option_docs.main(["--check"]) == 0
    assert option_docs.main([]) == 2
