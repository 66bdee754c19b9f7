"""NumPy, loaded when its first function is called.

Importing it takes as long as the rest of the server's start, which servers without vectors are
spared. Modules here take ``np`` from this one.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from math import isfinite
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Doubles = npt.NDArray[np.float64]
    Labels = npt.NDArray[np.uint64]
    Places = npt.NDArray[np.intp]


def _lazy(name: str) -> ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.loader is not None
    loader = importlib.util.LazyLoader(spec.loader)
    spec.loader = loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader.exec_module(module)
    return module


# Threads of BLAS wait for each other by spinning: on busy cores that took twenty times as long
# as a small set's search, and it would be the loop's time.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

if not TYPE_CHECKING:
    np = _lazy("numpy")

#: How vectors are stored: little-endian single precision.
FLOAT = "<f4"


def floats(raw: bytes) -> Floats:
    """The numbers of a stored vector, or of several, without a copy; read-only."""
    return np.frombuffer(raw, FLOAT)


def are_finite(raw: bytes) -> bool:
    """Whether no number is NaN or infinite. O(n)."""
    # In double precision no sum of single ones overflows: it is finite if all of them are.
    return isfinite(np.add.reduce(floats(raw), dtype=np.float64))


__all__ = ["FLOAT", "are_finite", "floats", "np"]
