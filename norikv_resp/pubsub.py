"""Who is subscribed to what, and who receives a message.

Three kinds of subscription live side by side: channels by name, patterns over channel names, and
shard channels, a name space of their own. The hub knows no sockets: it answers a publication with
:data:`Delivery` pairs, each one message and the subscribers that it is for, so that the caller can
encode a message once per protocol however many receive it. What a client is subscribed to is kept
on the client, where it is looked at for every request.

A message that was published on top of changes that are not committed yet must not leave before
them: :meth:`Hub.defer` keeps it, in order, until :meth:`Hub.release` says that they are durable, or
:meth:`Hub.discard` says that they never will be.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Generic, Protocol, TypeVar

from norikv_resp.glob import Matcher, compile_glob
from norikv_resp.protocol import Push

__all__ = ["Delivery", "Hub", "Kind", "Subscriber"]


class Kind(Enum):
    """The three kinds of subscription, by the letter in front of SUBSCRIBE and MESSAGE."""

    CHANNEL = b""
    PATTERN = b"p"
    SHARD = b"s"

    @property
    def subscribe_verb(self) -> bytes:
        """First element of the confirmation of a subscription."""
        return self.value + b"subscribe"

    @property
    def unsubscribe_verb(self) -> bytes:
        """First element of the confirmation of a cancelled subscription."""
        return self.value + b"unsubscribe"


class Subscriber(Protocol):
    """What the hub needs of a client: a place for the names it holds, which only the hub fills."""

    channels: set[bytes]
    patterns: set[bytes]
    shard_channels: set[bytes]


S = TypeVar("S", bound=Subscriber)

#: One message and the subscribers that receive it, in the order of their subscriptions.
Delivery = tuple[Push, list[S]]


def _held(client: Subscriber, kind: Kind) -> set[bytes]:
    """The names of one kind that a client holds."""
    if kind is Kind.CHANNEL:
        return client.channels
    return client.patterns if kind is Kind.PATTERN else client.shard_channels


def _count(client: Subscriber, kind: Kind) -> int:
    """The number in a confirmation: shard channels count by themselves."""
    if kind is Kind.SHARD:
        return len(client.shard_channels)
    return len(client.channels) + len(client.patterns)


class _Pattern(Generic[S]):
    """A pattern, compiled, with its subscribers in order."""

    __slots__ = ("matches", "subscribers")

    def __init__(self, pattern: bytes) -> None:
        self.matches: Matcher = compile_glob(pattern)
        self.subscribers: dict[S, None] = {}


class Hub(Generic[S]):
    """All subscriptions of the server, and the messages that wait for a commit.

    Subscribing and cancelling cost O(1) a name. Publishing costs O(subscribers of the channel +
    patterns of the server).
    """

    def __init__(self) -> None:
        self._channels: dict[bytes, dict[S, None]] = {}
        self._shards: dict[bytes, dict[S, None]] = {}
        self._patterns: dict[bytes, _Pattern[S]] = {}
        self._clients: set[S] = set()
        self._waiting: deque[tuple[int, bytes, bytes, bool]] = deque()
        #: Called when a message is kept; the server sees to it that ``release`` follows.
        self.wake: Callable[[], None] = lambda: None

    # Subscriptions.

    def subscribe(self, kind: Kind, client: S, names: Iterable[bytes]) -> list[Push]:
        """Add subscriptions and return a confirmation for each name, in order."""
        held = _held(client, kind)
        confirmations = []
        for name in names:
            if name not in held:
                held.add(name)
                self._add(kind, client, name)
            confirmations.append(Push([kind.subscribe_verb, name, _count(client, kind)]))
        self._clients.add(client)
        return confirmations

    def unsubscribe(self, kind: Kind, client: S, names: Sequence[bytes]) -> list[Push]:
        """Cancel subscriptions and return a confirmation for each name, in order.

        Without names it cancels all of the kind; a client that has none gets one confirmation
        that names nothing. Names that are not subscribed are confirmed too.
        """
        held = _held(client, kind)
        confirmations = []
        for name in names or sorted(held):
            if name in held:
                held.remove(name)
                self._remove(kind, client, name)
            confirmations.append(Push([kind.unsubscribe_verb, name, _count(client, kind)]))
        if not (client.channels or client.patterns or client.shard_channels):
            self._clients.discard(client)
        return confirmations or [Push([kind.unsubscribe_verb, None, _count(client, kind)])]

    def drop(self, client: S) -> None:
        """Cancel everything *client* holds, without confirmations: it disconnects or resets."""
        if client not in self._clients:
            return
        self._clients.remove(client)
        for kind in Kind:
            held = _held(client, kind)
            for name in held:
                self._remove(kind, client, name)
            held.clear()

    def _add(self, kind: Kind, client: S, name: bytes) -> None:
        if kind is Kind.PATTERN:
            pattern = self._patterns.get(name)
            if pattern is None:
                pattern = self._patterns[name] = _Pattern(name)
            pattern.subscribers[client] = None
        else:
            self._named(kind).setdefault(name, {})[client] = None

    def _remove(self, kind: Kind, client: S, name: bytes) -> None:
        if kind is Kind.PATTERN:
            subscribers = self._patterns[name].subscribers
            del subscribers[client]
            if not subscribers:
                del self._patterns[name]
            return
        named = self._named(kind)
        subscribers = named[name]
        del subscribers[client]
        if not subscribers:
            del named[name]

    def _named(self, kind: Kind) -> dict[bytes, dict[S, None]]:
        return self._shards if kind is Kind.SHARD else self._channels

    # Messages.

    def publish(self, channel: bytes, message: bytes, *, shard: bool = False) -> list[Delivery[S]]:
        """Return the deliveries of a message: channel subscribers first, then each pattern's."""
        deliveries: list[Delivery[S]] = []
        if shard:
            subscribers = self._shards.get(channel)
            if subscribers:
                deliveries.append((Push([b"smessage", channel, message]), list(subscribers)))
            return deliveries
        subscribers = self._channels.get(channel)
        if subscribers:
            deliveries.append((Push([b"message", channel, message]), list(subscribers)))
        for name, pattern in self._patterns.items():
            if pattern.matches(channel):
                push = Push([b"pmessage", name, channel, message])
                deliveries.append((push, list(pattern.subscribers)))
        return deliveries

    def receivers(self, channel: bytes, *, shard: bool = False) -> int:
        """Return how many messages a publication would send now: PUBLISH's reply."""
        if shard:
            return len(self._shards.get(channel, ()))
        count = len(self._channels.get(channel, ()))
        for pattern in self._patterns.values():
            if pattern.matches(channel):
                count += len(pattern.subscribers)
        return count

    @property
    def listening(self) -> bool:
        """Whether anyone holds a channel or a pattern, so that a message could reach someone."""
        return bool(self._channels or self._patterns)

    def defer(self, index: int, channel: bytes, message: bytes, *, shard: bool = False) -> None:
        """Keep a message until everything up to *index* is committed.

        Indices must not decrease. Receivers are looked up on release, so that a client that has
        unsubscribed meanwhile gets nothing after its confirmation.
        """
        self._waiting.append((index, channel, message, shard))
        self.wake()

    def release(self, committed: int) -> list[Delivery[S]]:
        """Return the deliveries of the kept messages whose index is at most *committed*."""
        deliveries: list[Delivery[S]] = []
        waiting = self._waiting
        while waiting and waiting[0][0] <= committed:
            _, channel, message, shard = waiting.popleft()
            deliveries += self.publish(channel, message, shard=shard)
        return deliveries

    def discard(self, committed: int) -> None:
        """Forget the kept messages beyond *committed*: their changes were rolled back."""
        waiting = self._waiting
        while waiting and waiting[-1][0] > committed:
            waiting.pop()

    # Introspection: PUBSUB's subcommands and INFO.

    def channels(self, pattern: bytes | None = None, *, shard: bool = False) -> list[bytes]:
        """Return the channels that have subscribers, or those of them that match a pattern."""
        names = self._shards if shard else self._channels
        if pattern is None:
            return list(names)
        return list(filter(compile_glob(pattern), names))

    def numsub(self, names: Iterable[bytes], *, shard: bool = False) -> list[bytes | int]:
        """Return each name followed by the number of its subscribers (patterns not counted)."""
        table = self._shards if shard else self._channels
        reply: list[bytes | int] = []
        for name in names:
            reply += (name, len(table.get(name, ())))
        return reply

    def numpat(self) -> int:
        """Return the number of distinct patterns."""
        return len(self._patterns)

    def stats(self) -> dict[str, int]:
        """Return the counts that INFO shows."""
        return {
            "pubsub_channels": len(self._channels),
            "pubsub_patterns": len(self._patterns),
            "pubsubshard_channels": len(self._shards),
            "pubsub_clients": len(self._clients),
        }
