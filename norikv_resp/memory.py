"""What the process and single keys take, in bytes."""

from __future__ import annotations

import os
import resource
import sys
from typing import TYPE_CHECKING, NamedTuple

from norikv_resp.encoding import (
    CHUNK,
    HEAD_SIZE,
    Chunks,
    Collection,
    Record,
    element_prefix,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from norikv_resp.store import Store
    from norikv_resp.value_types import ValueType

#: Elements of a collection that are looked at unless the client says how many.
SAMPLES = 5

#: A metadata row's key has a family byte and a namespace before the user's key; an element's
#: row has a family byte and a collection id.
_KEY_PREFIX, _ELEMENT_PREFIX = 5, 9
_BODY = 16
_DEADLINE = 8
_EXPIRY_ROW = 14


class ProcessMemory(NamedTuple):
    """What the kernel says about this process."""

    resident: int
    #: Resident memory that no file backs: without LevelDB's mapped tables.
    anonymous: int
    peak: int


def process() -> ProcessMemory:
    """The memory of this process; on systems without /proc all figures are the peak."""
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    try:
        with open("/proc/self/statm", "rb") as file:
            fields = file.read().split()
    except OSError:
        return ProcessMemory(peak, peak, peak)
    page = os.sysconf("SC_PAGE_SIZE")
    resident, shared = int(fields[1]) * page, int(fields[2]) * page
    return ProcessMemory(resident, resident - shared, max(peak, resident))


def usage(
    store: Store,
    key: bytes,
    record: Record,
    samples: int,
    value_types: Mapping[int, ValueType],
) -> int:
    """The bytes of a key's rows. *samples* elements stand for all of a collection, 0 is every one.

    *value_types* know better what is in a collection of their type. O(samples).
    """
    size = _KEY_PREFIX + len(key) + HEAD_SIZE
    if record.expire_at:
        size += _DEADLINE + _EXPIRY_ROW + len(key)
    value = record.value
    if isinstance(value, bytes):
        return size + len(value)
    if isinstance(value, Chunks):
        chunks = -(-value.length // CHUNK)
        return size + _BODY + value.length + chunks * (_ELEMENT_PREFIX + 4)
    size += _BODY + len(value.extra)
    methods = value_types.get(record.type)
    if methods is not None:
        return size + methods.usage(store, value, samples)
    return size + _elements(store, value, samples)


def _elements(store: Store, value: Collection, samples: int) -> int:
    start = element_prefix(value.cid)
    rows = store.range(start, element_prefix(value.cid + 1), limit=samples or None)
    if not rows:
        return 0
    seen = sum(len(row) + len(content) for row, content in rows)
    return seen if not samples else seen * max(value.count, len(rows)) // len(rows)
