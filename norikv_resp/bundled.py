"""Where the files that come with the package are: `modules` and `conf`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def bundled(name: str) -> Path:
    """The folder `name`: beside the package in a checkout, inside it in a wheel.

    Raises FileNotFoundError when neither is there.
    """
    checkout = _PACKAGE.parent
    if (checkout / "pyproject.toml").is_file() and (checkout / name).is_dir():
        return checkout / name
    inside = _PACKAGE / "_bundled" / name
    if inside.is_dir():
        return inside
    raise FileNotFoundError(f"this installation has no {name}/ folder: {inside}")


def module_names(chosen: Iterable[str]) -> list[str]:
    """The bundled modules that the option `bundled-modules` means: `all` is every one."""
    names: list[str] = []
    for word in chosen:
        if word == "all":
            names += sorted(path.parent.name for path in bundled("modules").glob("*/__init__.py"))
        else:
            names.append(word)
    return list(dict.fromkeys(names))
