"""Starts the index process: `python .../indexer/__main__.py FD DIRECTORY THREADS LIBRARY`.

Not with `-m`: the package `vector` is a module of the server, whose import would bring all commands
along. Here it is only a name for the folder above, so that relative imports work. `LIBRARY` is
the folder in which `norikv_resp` is.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import sys
from pathlib import Path
from types import ModuleType


def _name_packages() -> None:
    above = Path(__file__).resolve().parent.parent
    for name, path in (("norikv_modules", []), ("norikv_modules.vector", [str(above)])):
        package = ModuleType(name)
        package.__path__ = path
        sys.modules[name] = package


#: prctl's number for the signal that a process gets when its parent is gone.
_PR_SET_PDEATHSIG = 1


def _end_with_parent() -> None:
    """A closed socket ends this process everywhere, but not while it is stopped."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _main() -> int:
    fd, directory, threads, library = sys.argv[1:]
    _end_with_parent()
    # Threads of BLAS would spin beside the server's loop.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.path[0] = library  # instead of this folder
    _name_packages()
    process = importlib.import_module("norikv_modules.vector.indexer.process")
    status: int = process.main(int(fd), Path(directory), int(threads))
    return status


if __name__ == "__main__":
    status = _main()
    sys.stderr.flush()
    os._exit(status)  # without freeing graph by graph
