"""What the core asks the module whose commands work on a type of value.

Everything else about a value is rows (docs/storage-format.md), which the core moves, copies and
reclaims without knowing what is in them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from norikv_resp.database import Database
    from norikv_resp.encoding import Collection
    from norikv_resp.store import Store

#: Numbers and strings, what a value is when it leaves in DUMP.
Parts = Sequence["int | bytes"]


class ValueType(Protocol):
    """The values of one type number."""

    @property
    def module_id(self) -> int:
        """What DUMP calls the type; see ``rdb.module_id``."""

    def dump(self, keys: Database, collection: Collection) -> Iterable[int | bytes]:
        """The parts of a value; ReplyError if it is too large."""

    def parse(self, parts: Parts) -> Any:
        """What ``restore`` takes; BadPayloadError if *parts* are not those of a value."""

    def restore(self, keys: Database, parsed: Any) -> Collection:
        """Stage the element rows of a value, under a new collection id."""

    def usage(self, store: Store, collection: Collection, samples: int) -> int:
        """The bytes of the element rows, by *samples* elements; 0 for all."""
