"""Tests of the bundled modules, through a socket; their pure parts also by themselves."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from norikv_resp.bundled import bundled

#: Not the loader's name, so that a test of the loader finds nothing loaded.
_PACKAGE = "norikv_modules_alone"


def part(name: str) -> ModuleType:
    """One file of a bundled module without a server: ``part("string.lcs")``."""
    if _PACKAGE not in sys.modules:
        package = ModuleType(_PACKAGE)
        package.__path__ = [str(bundled("modules"))]
        sys.modules[_PACKAGE] = package
    return importlib.import_module(f"{_PACKAGE}.{name}")
