"""The rows of one collection's elements, as modules read and stage them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from norikv_resp.encoding import element_prefix

if TYPE_CHECKING:
    from norikv_resp.store import Store


class Elements:
    """Element rows under a collection id; keys are what follows the id (docs/storage-format.md).

    Writing stages rows in the running command's frame and nothing else: the caller puts the
    key's record as well (``Database.put_record``), which gives the key its version, tells its
    watchers and makes readers wait for the commit. Who reads elements has read that record.
    """

    __slots__ = ("_prefix", "_stop", "_store")

    def __init__(self, store: Store, cid: int) -> None:
        self._store = store
        self._prefix = element_prefix(cid)
        self._stop = element_prefix(cid + 1)

    def get(self, key: bytes) -> bytes | None:
        """The value of a row, staged ones included; None if there is none."""
        return self._store.get(self._prefix + key)

    def put(self, key: bytes, value: bytes) -> None:
        """Stage a row. An empty value would delete it, so *value* must not be empty."""
        self._store.open[self._prefix + key] = value

    def delete(self, key: bytes) -> None:
        """Stage the end of a row, whether or not it is there."""
        self._store.open[self._prefix + key] = b""

    def range(
        self,
        start: bytes = b"",
        stop: bytes | None = None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> list[tuple[bytes, bytes]]:
        """Rows from *start* up to *stop*, which is excluded (None: to the last), by key.

        With *reverse* from the end on; *limit* bounds the number. O(rows).
        """
        prefix = self._prefix
        high = self._stop if stop is None else prefix + stop
        found = self._store.range(prefix + start, high, reverse=reverse, limit=limit)
        size = len(prefix)
        return [(row[size:], value) for row, value in found]
