"""A wheel, installed in an environment of its own, runs from anywhere with its modules and conf."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.support.server import ROOT, ServerProcess

pytestmark = [pytest.mark.slow, pytest.mark.limit(180), pytest.mark.norikv]


def run(*command: str, cwd: Path, **more: str) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**clean_environment(), **more},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def clean_environment() -> dict[str, str]:
    """Nothing that leads Python back to the checkout."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("pip") is None:
        pytest.skip("no pip in this environment to build a wheel with")
    target = tmp_path_factory.mktemp("dist")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel"]
    run(*pip, "--no-deps", "--quiet", "--wheel-dir", str(target), str(ROOT), cwd=target)
    (built,) = target.glob("norikv_resp-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The norikv-resp command of an environment that has the wheel, far from the checkout.

    The libraries come from the environment that runs the tests: they are not what is tested.
    """
    home = tmp_path_factory.mktemp("elsewhere")
    venv.create(home / "venv", with_pip=False, symlinks=True)
    python = home / "venv" / "bin" / "python"
    site = Path(
        run(str(python), "-c", "import site; print(site.getsitepackages()[0])", cwd=home).strip()
    )
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    run(*pip, "install", "--no-deps", "--quiet", str(wheel), cwd=home)
    (site / "libraries.pth").write_text(sysconfig.get_paths()["platlib"] + "\n")
    return home / "venv" / "bin" / "norikv-resp"


def test_wheel_carries_modules_and_conf(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for part in (
        "modules/string/__init__.py",
        "conf/norikv.conf",
        "norikv_resp/py.typed",
        "norikv_resp/client/__init__.py",
        "norikv_resp/demos/texts/articles.jsonl",
        "norikv_resp/demos/scripts/semantic.sh",
    ):
        assert any(name.endswith(part) for name in names), f"no {part} in the wheel"
    assert not [name for name in names if name.startswith("tests/")]


def test_installed_command_says_its_version(installed: Path, tmp_path: Path) -> None:
    from norikv_resp import __version__

    assert __version__ in run(str(installed), "--version", cwd=tmp_path)
    assert "--port" in run(str(installed), "--help", cwd=tmp_path)


def test_installed_server_serves_and_keeps(installed: Path, tmp_path: Path) -> None:
    with ServerProcess(
        command=[str(installed)],
        directory=tmp_path / "data",
        cwd=tmp_path,
        env=clean_environment(),
    ) as server:
        version = server.ask("SETVER", "k", "v")
        server.restart()
        assert server.ask("GETVER", "k") == [b"v", version]
        assert server.ask("COMMAND", "INFO", "CAS")[0] is not None


def test_installed_code_is_not_the_checkout(installed: Path, tmp_path: Path) -> None:
    code = "import norikv_resp; print(norikv_resp.__file__)"
    where = run(str(installed.with_name("python")), "-c", code, cwd=tmp_path)
    assert not Path(where.strip()).is_relative_to(ROOT / "norikv_resp")


def test_programs_that_use_the_installed_client_are_typed(installed: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed")
    program = tmp_path / "user_program.py"
    program.write_bytes((ROOT / "tests" / "norikv_client" / "user_program.py").read_bytes())
    mypy = [sys.executable, "-m", "mypy", "--strict", "--python-executable"]
    run(*mypy, str(installed.with_name("python")), str(program), cwd=tmp_path)
