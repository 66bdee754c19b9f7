"""Which node leads and which are lost, as requests have found out, and who wants to be told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from norikv_resp.client.types import (
    ClusterNode,
    ClusterView,
    LeaderChange,
    ShardInfo,
    ShardReplica,
    TopologyChangeEvent,
    TopologyStats,
    Version,
)

Listener = Callable[[TopologyChangeEvent], object]

_log = logging.getLogger(__name__)


class Topology:
    """What the client knows of its nodes; it asks nothing itself.

    ``epoch`` grows by one with every change that a listener is told of.
    """

    def __init__(self, addresses: Sequence[str], total_shards: int) -> None:
        """The first of *addresses* leads until something else is reported."""
        self.epoch = 1
        self._addresses = list(addresses)
        self._total_shards = total_shards
        self._current = self._addresses[0]
        self._lost: frozenset[str] = frozenset()
        #: The highest term of a version that this client has written.
        self._term = 0
        self._listeners: dict[object, Listener] = {}

    @property
    def leader(self) -> str | None:
        """The address in use, None while it is lost."""
        return None if self._current in self._lost else self._current

    def report(self, current: str, lost: frozenset[str]) -> None:
        """*current* is the address in use now, *lost* are those without a connection."""
        before, gone = self.leader, self._lost
        self._current, self._lost = current, lost
        if (before, gone) != (self.leader, lost):
            self._changed(before, gone)

    def wrote(self, version: Version) -> None:
        """A write made *version*. A server begins a new term whenever it starts.

        An older term is that of a write which is told once more, not of another server.
        """
        if version.term > self._term:
            known, self._term = self._term, version.term
            if known:
                self._changed(self.leader, self._lost)

    def _changed(self, leader: str | None, lost: frozenset[str]) -> None:
        """Tell the listeners that it was *leader* and *lost*."""
        self.epoch += 1
        if not self._listeners:
            return
        moves = {}
        if leader != self.leader:
            moves = dict.fromkeys(range(self._total_shards), LeaderChange(leader, self.leader))
        event = TopologyChangeEvent(
            previous_epoch=self.epoch - 1,
            current_epoch=self.epoch,
            added_nodes=sorted(lost - self._lost),
            removed_nodes=sorted(self._lost - lost),
            leader_changes=moves,
        )
        for listener in list(self._listeners.values()):
            try:
                listener(event)
            except Exception:  # a request of somebody else must not fail of it
                _log.exception("a topology listener failed")

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Tell *listener* of every change until the function returned is called."""
        ticket = object()
        self._listeners[ticket] = listener

        def unsubscribe() -> None:
            self._listeners.pop(ticket, None)

        return unsubscribe

    def view(self) -> ClusterView:
        """All nodes, and the one in use as leader of every shard unless it is lost."""
        leader = self.leader
        nodes = [
            ClusterNode(address, address, "leader" if address == leader else "follower")
            for address in self._addresses
        ]
        here = [ShardReplica(self._current, leader=leader is not None)]
        shards = [ShardInfo(number, here) for number in range(self._total_shards)]
        return ClusterView(self.epoch, nodes, shards)

    def stats(self) -> TopologyStats:
        """The figures of `view`."""
        return TopologyStats(
            current_epoch=self.epoch,
            total_nodes=len(self._addresses),
            total_shards=self._total_shards,
            cached_leaders=self._total_shards if self.leader is not None else 0,
            listener_count=len(self._listeners),
        )
