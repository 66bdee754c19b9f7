"""REDUCE: a random projection to fewer dimensions, which keeps distances about as they were.

The matrix is drawn once, when the set is made, and stored as rows of the set: what is projected
later must meet what was projected before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from norikv_resp.encoding import CorruptRecord, prefix_end
from norikv_resp.vector_rows import FLOAT_SIZE, PROJECTION, Definition, projection_row

from .arrays import FLOAT, are_finite, floats, np
from .errors import NOT_FINITE, PROJECTION_TOO_LARGE

if TYPE_CHECKING:
    from norikv_resp.elements import Elements

    from .arrays import Floats

#: Numbers that a matrix may have: 16 MB in the frame of the command that makes the set.
LARGEST_MATRIX = 4 << 20

#: Matrices kept in memory, by collection id.
_kept: dict[int, Floats] = {}
_KEPT_MOST = 4


def draw(definition: Definition) -> Floats:
    """A matrix for a new set; PROJECTION_TOO_LARGE. O(numbers in it)."""
    shape = (definition.dimensions, definition.projected_from)
    if shape[0] * shape[1] > LARGEST_MATRIX:
        raise PROJECTION_TOO_LARGE
    random = np.random.default_rng()
    matrix: Floats = random.standard_normal(shape, np.float32) / np.float32(shape[0] ** 0.5)
    return matrix


def stage(elements: Elements, cid: int, matrix: Floats) -> None:
    """Stage the rows of a new set's matrix."""
    for number, row in enumerate(matrix.astype(FLOAT)):
        elements.put(projection_row(number), row.tobytes())
    _keep(cid, matrix)


def matrix_of(elements: Elements, definition: Definition, cid: int) -> Floats:
    """The matrix of a set that exists; CorruptRecord."""
    matrix = _kept.get(cid)
    if matrix is None:
        rows = elements.range(PROJECTION, prefix_end(PROJECTION))
        width = FLOAT_SIZE * definition.projected_from
        if len(rows) != definition.dimensions or any(len(row) != width for _, row in rows):
            raise CorruptRecord(f"a projection of {len(rows)} rows")
        matrix = floats(b"".join(row for _, row in rows)).reshape(definition.dimensions, -1)
        _keep(cid, matrix)
    return matrix


def apply(matrix: Floats, raw: bytes) -> bytes:
    """The projections of one or several vectors; NOT_FINITE if one is too large for it."""
    given = floats(raw).reshape(-1, matrix.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):
        projected: bytes = (given @ matrix.T).astype(FLOAT).tobytes()
    if not are_finite(projected):
        raise NOT_FINITE
    return projected


def _keep(cid: int, matrix: Floats) -> None:
    if len(_kept) >= _KEPT_MOST:
        del _kept[next(iter(_kept))]
    _kept[cid] = matrix
