"""Loads command families: the core's own and the modules that the configuration names.

A module is a folder with an ``__init__.py`` that defines ``NAME``,
``API_VERSION`` and ``load(api)``. Its files import each other relatively. A
module that fails in any way is refused as a whole: none of its commands stay.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from norikv_resp.bundled import bundled
from norikv_resp.command import Command, DeclarationError, Registry, declared_in
from norikv_resp.config import StartupError
from norikv_resp.hooks import Figures, Hooks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from norikv_resp.context import FastHandler
    from norikv_resp.server import Server
    from norikv_resp.value_types import ValueType

#: Raised by one whenever a module written for the old API could break.
API_VERSION = 1

_PACKAGE = "norikv_modules"


class ModuleError(StartupError):
    """A module cannot be loaded; the text names it and says why."""


@dataclass
class LoadedModule:
    """A module that is in use, for INFO and MODULE LIST."""

    name: str
    path: str
    arguments: list[str]
    commands: list[Command] = field(default_factory=list)


class ModuleAPI:
    """What ``load(api)`` receives: the only way by which a module reaches the server."""

    def __init__(
        self,
        registry: Registry,
        loaded: LoadedModule,
        fast: dict[bytes, FastHandler],
        hooks: Hooks,
    ) -> None:
        self._registry = registry
        self._loaded = loaded
        self._fast = fast
        self._hooks = hooks
        #: The words after the path in the ``loadmodule`` line.
        self.arguments = loaded.arguments

    def commands(self, python_module: ModuleType) -> None:
        """Register every command declared in *python_module*; DeclarationError if one clashes."""
        for declared in declared_in(vars(python_module)):
            declared.module = self._loaded.name
            self._registry.add(declared)
            self._loaded.commands.append(declared)

    def fast(self, name: bytes, handler: FastHandler) -> None:
        """Give one of the module's commands a hot path.

        *handler* answers the common case with an encoded reply, or returns
        None before it has done anything, so that the general path runs.
        """
        command = self._registry.find(name)
        if command is None or command.module != self._loaded.name:
            raise DeclarationError(f"fast path for {name!r}, which is no command of this module")
        self._fast[name.upper()] = self._fast[name.lower()] = handler

    def value_type(self, number: int, methods: ValueType) -> None:
        """Answer for the values of a type: DUMP, RESTORE, MEMORY USAGE."""
        self._hooks.value_types[number] = methods

    def when_opened(self, hook: Callable[[Server], None]) -> None:
        """Call *hook* once the data is open, before any client; what it raises ends the start."""
        self._hooks.opened.append(hook)

    def when_committed(self, hook: Callable[[int], None]) -> None:
        """Call *hook* with the last index of everything that is committed, after each commit."""
        self._hooks.committed.append(hook)

    def when_rolled_back(self, hook: Callable[[], None]) -> None:
        """Call *hook* when a commit has failed: whatever was staged above ``durable`` is gone."""
        self._hooks.rolled_back.append(hook)

    def when_reclaimed(self, hook: Callable[[int], None]) -> None:
        """Call *hook* with the id of a collection of which no row is left, of any type.

        At least once for each deleted collection, restarts included.
        """
        self._hooks.reclaimed.append(hook)

    def when_stopping(self, hook: Callable[[], Awaitable[None]]) -> None:
        """Await *hook* at the stop, a few seconds at most: no client is left, the data is open."""
        self._hooks.stopping.append(hook)

    def info(self, title: str, figures: Callable[[], Figures]) -> None:
        """Add a section to INFO; its name there is the title in small letters."""
        self._hooks.sections[title] = figures


def load_core(registry: Registry, families: list[ModuleType]) -> None:
    """Register the core's command families; they are part of the server, so nothing is caught."""
    for family in families:
        for declared in declared_in(vars(family)):
            registry.add(declared)


def load_module(
    registry: Registry,
    path: Path,
    arguments: list[str],
    fast: dict[bytes, FastHandler],
    hooks: Hooks,
) -> LoadedModule:
    """Load the module in folder *path*. ModuleError, with nothing changed, if it is refused."""
    label = path.name
    loaded = LoadedModule(label, str(path), arguments)
    hot: dict[bytes, FastHandler] = {}
    wanted = Hooks()
    try:
        python_module = _import(path)
        version = getattr(python_module, "API_VERSION", None)
        if version != API_VERSION:
            raise DeclarationError(
                f"it is written for API version {version!r}, this server has {API_VERSION}"
            )
        load = getattr(python_module, "load", None)
        if not callable(load):
            raise DeclarationError("it has no function load(api)")
        loaded.name = str(getattr(python_module, "NAME", label))
        load(ModuleAPI(registry, loaded, hot, wanted))
        if not loaded.commands:
            raise DeclarationError("it registers no command")
    except ModuleError:
        raise
    except Exception as error:  # a module is foreign code: whatever it raises refuses it
        for declared in reversed(loaded.commands):
            registry.remove(declared.name)
        reason = str(error) or type(error).__name__
        if not isinstance(error, DeclarationError):
            reason = f"{type(error).__name__}: {reason}"
        raise ModuleError(f"can't load module {label} from {path}: {reason}") from error
    fast.update(hot)
    hooks.add(wanted)
    return loaded


def bundled_module(name: str) -> Path:
    """Where a module that comes with the server is; ModuleError if there is none of that name."""
    path = bundled("modules") / name
    if not path.is_dir():
        raise ModuleError(f"there is no bundled module {name}")
    return path


def _import(path: Path) -> Any:
    source = path / "__init__.py"
    if not source.is_file():
        raise ModuleError(f"can't load module from {path}: there is no {source.name} in it")
    if _PACKAGE not in sys.modules:
        package = ModuleType(_PACKAGE)
        package.__path__ = []
        sys.modules[_PACKAGE] = package
    name = f"{_PACKAGE}.{path.name}"
    if name in sys.modules:
        raise ModuleError(f"can't load module {path.name} from {path}: it is already loaded")
    spec = importlib.util.spec_from_file_location(
        name, source, submodule_search_locations=[str(path)]
    )
    assert spec is not None and spec.loader is not None
    python_module = importlib.util.module_from_spec(spec)
    sys.modules[name] = python_module
    try:
        spec.loader.exec_module(python_module)
    except BaseException:
        for loaded in [each for each in sys.modules if each == name or each.startswith(name + ".")]:
            del sys.modules[loaded]
        raise
    return python_module
