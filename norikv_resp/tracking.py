"""Client-side caching: who may hold a copy of which key, and who must hear that it changed.

In the default mode the server remembers, in one bounded table, the keys that a client has read;
the first change of such a key sends the client one invalidation. With BCAST nothing is remembered
per key: the client hears of every changed key under its prefixes. Invalidations are collected while
commands are staged and leave only when the change is committed (or rolled back: a copy dropped
needlessly does no harm, one kept wrongly would).

The table holds client ids, not clients, so that a disconnect costs nothing; ids of clients that are
gone are met and ignored later.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from norikv_resp.command import Command, Flag, Request
from norikv_resp.errors import ReplyError
from norikv_resp.protocol import Push

if TYPE_CHECKING:
    from norikv_resp.context import Context

__all__ = ["Delivery", "Options", "TrackedClient", "Tracking", "TrackingState"]

#: Where a redirected client finds its invalidations in RESP2.
INVALIDATE_CHANNEL = b"__redis__:invalidate"


class TrackedClient(Protocol):
    """What tracking needs of a connection."""

    @property
    def id(self) -> int:
        """The client's number, never reused."""

    @property
    def resp3(self) -> bool:
        """Whether the connection speaks RESP3, and so can be sent pushes at any time."""

    @property
    def subscribed(self) -> bool:
        """Whether the client holds any subscription (what RESP2 needs to receive messages)."""

    @property
    def tracking(self) -> TrackingState | None:
        """The client's tracking state; None while tracking is off."""


Lookup = Callable[[int], TrackedClient | None]

#: A client and the message to send to it.
Delivery = tuple[TrackedClient, Push]


class Options:
    """The options of CLIENT TRACKING ON."""

    __slots__ = ("bcast", "noloop", "optin", "optout", "prefixes", "redirect")

    def __init__(
        self,
        *,
        redirect: int = 0,
        bcast: bool = False,
        optin: bool = False,
        optout: bool = False,
        noloop: bool = False,
        prefixes: Sequence[bytes] = (),
    ) -> None:
        self.redirect = redirect
        self.bcast = bcast
        self.optin = optin
        self.optout = optout
        self.noloop = noloop
        self.prefixes = tuple(prefixes)


class TrackingState:
    """One client's tracking. It lives on the connection while tracking is on."""

    __slots__ = (
        "bcast",
        "broken_redirect",
        "caching",
        "noloop",
        "optin",
        "optout",
        "prefixes",
        "redirect",
    )

    def __init__(self) -> None:
        self.redirect = 0
        self.bcast = False
        self.optin = False
        self.optout = False
        self.noloop = False
        #: CLIENT CACHING was given: it turns the default around for the next command.
        self.caching = False
        #: The client that invalidations are redirected to was found gone.
        self.broken_redirect = False
        self.prefixes: dict[bytes, None] = {}

    def flags(self) -> list[bytes]:
        """Return the flags that CLIENT TRACKINGINFO shows."""
        shown = [b"on"]
        if self.bcast:
            shown.append(b"bcast")
        if self.optin:
            shown.append(b"optin")
            if self.caching:
                shown.append(b"caching-yes")
        if self.optout:
            shown.append(b"optout")
            if self.caching:
                shown.append(b"caching-no")
        if self.noloop:
            shown.append(b"noloop")
        if self.broken_redirect:
            shown.append(b"broken_redirect")
        return shown

    def set_caching(self, yes: bool) -> None:
        """Carry out CLIENT CACHING YES or NO. Raises ReplyError outside of the matching mode."""
        if yes and not self.optin:
            raise ReplyError(
                b"ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode."
            )
        if not yes and not self.optout:
            raise ReplyError(
                b"ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode."
            )
        self.caching = True

    @property
    def remembers(self) -> bool:
        """Whether the keys that the client reads now go into the table."""
        if self.bcast:
            return False
        if self.optin:
            return self.caching
        return not (self.optout and self.caching)


#: What CLIENT CACHING answers a client that does not track.
NOT_TRACKING = ReplyError(
    b"ERR CLIENT CACHING can be called only when the client is in tracking mode"
    b" with OPTIN or OPTOUT mode enabled"
)


class _Change:
    """A changed key, or all keys (None), on its way to the clients that must hear of it."""

    __slots__ = ("holders", "index", "key", "writer")

    def __init__(self, index: int, key: bytes | None, holders: Iterable[int], writer: int) -> None:
        self.index = index
        self.key = key
        self.holders = holders
        self.writer = writer


class Tracking:
    """The invalidation table, the broadcast prefixes and the invalidations under way.

    :meth:`remember` and :meth:`touch` cost O(1) a key (touch: plus the number of distinct prefix
    lengths). While nobody tracks, ``active`` is False and neither needs to be called.
    """

    def __init__(self, lookup: Lookup, max_keys: int = 1_000_000) -> None:
        self._lookup = lookup
        #: Keys that the table remembers at most; 0 means no bound. May change at run time.
        self.max_keys = max_keys
        #: Whether any client tracks: test it before calling touch.
        self.active = False
        # By key, in the order of first reading, so that the oldest are forgotten first. One id is
        # held as itself: most keys have one reader, and a set costs 200 bytes.
        self._table: OrderedDict[bytes, int | set[int]] = OrderedDict()
        self._items = 0
        self._clients: dict[int, TrackingState] = {}
        self._prefixes: dict[bytes, set[int]] = {}
        self._prefix_lengths: list[int] = []
        self._changes: deque[_Change] = deque()

    # Switching on and off.

    def enable(self, client: TrackedClient, options: Options) -> TrackingState:
        """Turn tracking on, or change its options, and return the state to keep on the client.

        Raises ReplyError if the options contradict each other or the client's present mode;
        nothing has changed then.
        """
        state = client.tracking
        self._check(state, options)
        if state is None:
            state = TrackingState()
        state.broken_redirect = False
        state.redirect = options.redirect
        state.bcast = options.bcast
        state.optin = options.optin
        state.optout = options.optout
        state.noloop = options.noloop
        if options.bcast:
            for prefix in options.prefixes or (b"",):
                state.prefixes[prefix] = None
                self._prefixes.setdefault(prefix, set()).add(client.id)
            self._measure_prefixes()
        self._clients[client.id] = state
        self.active = True
        return state

    def _check(self, state: TrackingState | None, options: Options) -> None:
        if options.prefixes and not options.bcast:
            raise ReplyError(b"ERR PREFIX option requires BCAST mode to be enabled")
        if state is not None and state.bcast != options.bcast:
            raise ReplyError(
                b"ERR You can't switch BCAST mode on/off before disabling tracking for this client,"
                b" and then re-enabling it with a different mode."
            )
        if options.bcast and (options.optin or options.optout):
            raise ReplyError(b"ERR OPTIN and OPTOUT are not compatible with BCAST")
        if options.optin and options.optout:
            raise ReplyError(b"ERR You can't specify both OPTIN mode and OPTOUT mode")
        if state is not None and (
            (options.optin and state.optout) or (options.optout and state.optin)
        ):
            raise ReplyError(
                b"ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client,"
                b" and then re-enabling it with a different mode."
            )
        self._check_prefixes(state, options.prefixes)

    @staticmethod
    def _check_prefixes(state: TrackingState | None, prefixes: Sequence[bytes]) -> None:
        """Refuse prefixes of which one begins another: a key would be announced twice."""

        def overlap(one: bytes, other: bytes) -> bool:
            return one.startswith(other) or other.startswith(one)

        for number, prefix in enumerate(prefixes):
            for held in state.prefixes if state is not None else ():
                if overlap(prefix, held):
                    raise ReplyError(
                        b"ERR Prefix '%b' overlaps with an existing prefix '%b'."
                        b" Prefixes for a single client must not overlap." % (prefix, held)
                    )
            for other in prefixes[number + 1 :]:
                if overlap(prefix, other):
                    raise ReplyError(
                        b"ERR Prefix '%b' overlaps with another provided prefix '%b'."
                        b" Prefixes for a single client must not overlap." % (prefix, other)
                    )

    def disable(self, client: TrackedClient) -> None:
        """Turn tracking off for *client* (also when it disconnects). The caller drops the state."""
        state = self._clients.pop(client.id, None)
        if state is None:
            return
        for prefix in state.prefixes:
            clients = self._prefixes[prefix]
            clients.discard(client.id)
            if not clients:
                del self._prefixes[prefix]
        self._measure_prefixes()
        if not self._clients:
            # Nobody is left to hear of anything.
            self.active = False
            self._table.clear()
            self._items = 0
            self._changes.clear()

    def _measure_prefixes(self) -> None:
        self._prefix_lengths = sorted(set(map(len, self._prefixes)))

    # Reads and changes.

    def executed(self, ctx: Context, command: Command, request: Request) -> None:
        """Called after each command of a client that tracks: remember what it has read.

        CLIENT CACHING holds for one command or one EXEC, other CLIENT commands not counted.
        """
        state = ctx.tracking
        if state is None:
            return
        if command.flags & Flag.READONLY and not command.flags & Flag.PUBSUB and state.remembers:
            try:
                keys = command.keys(request)
            except ReplyError:
                keys = []
            self.remember(ctx, [key for key, _ in keys])
        if ctx.queue is None and not ctx.executing and not command.full_name.startswith("client|"):
            state.caching = False

    def remember(self, client: TrackedClient, keys: Iterable[bytes]) -> None:
        """Note that a read command has shown *keys* to *client*, as far as its mode wants it."""
        state = client.tracking
        if state is None or not state.remembers:
            return
        table = self._table
        number = client.id
        for key in keys:
            holders = table.get(key)
            if holders is None:
                table[key] = number
            elif isinstance(holders, set):
                if number in holders:
                    continue
                holders.add(number)
            elif holders != number:
                table[key] = {holders, number}
            else:
                continue
            self._items += 1

    def touch(self, key: bytes, index: int, writer: int = 0) -> None:
        """Note that the change with *index* altered *key*; indices must not decrease.

        *writer* is the id of the client that did it, 0 for the server itself (expiry). The key
        leaves the table at once: who reads it from now on reads the new value.
        """
        holders = self._forget(key)
        if holders or self._prefixes:
            self._changes.append(_Change(index, key, holders, writer))

    def touch_all(self, index: int) -> None:
        """Note that FLUSHDB, FLUSHALL or SWAPDB changed everything: copies of all keys are void."""
        self._table.clear()
        self._items = 0
        self._changes.append(_Change(index, None, (), 0))

    def _forget(self, key: bytes) -> Sequence[int]:
        holders = self._table.pop(key, None)
        if holders is None:
            return ()
        numbers = sorted(holders) if isinstance(holders, set) else (holders,)
        self._items -= len(numbers)
        return numbers

    # Messages.

    def flush(self, settled: int) -> list[Delivery]:
        """Return the invalidations of the changes whose index is at most *settled*, in order.

        Settled means committed or rolled back. Call it once per loop turn while ``active``; the
        keys of a turn reach a BCAST client in one message per prefix. It also brings the table
        back under its bound, with an invalidation for each key that it forgets.
        """
        deliveries: list[Delivery] = []
        broadcast: dict[bytes, dict[bytes, int]] = {}
        changes = self._changes
        while changes and changes[0].index <= settled:
            change = changes.popleft()
            key = change.key
            if key is None:
                for number in self._clients:
                    self._invalidate(number, None, deliveries)
                continue
            self._invalidate_holders(change.holders, key, change.writer, deliveries)
            for length in self._prefix_lengths:
                if length > len(key):
                    break
                prefix = key[:length]
                if prefix in self._prefixes:
                    broadcast.setdefault(prefix, {})[key] = change.writer
        while self.max_keys and len(self._table) > self.max_keys:
            oldest = next(iter(self._table))
            self._invalidate_holders(self._forget(oldest), oldest, 0, deliveries)
        for prefix, keys in broadcast.items():
            self._broadcast(prefix, keys, deliveries)
        return deliveries

    def _invalidate_holders(
        self, holders: Iterable[int], key: bytes, writer: int, deliveries: list[Delivery]
    ) -> None:
        for number in holders:
            state = self._clients.get(number)
            # A client may have switched to BCAST, or off, since it read the key.
            if state is None or state.bcast or (state.noloop and number == writer):
                continue
            self._invalidate(number, [key], deliveries)

    def _broadcast(self, prefix: bytes, keys: dict[bytes, int], deliveries: list[Delivery]) -> None:
        everything = list(keys)
        for number in sorted(self._prefixes.get(prefix, ())):
            if self._clients[number].noloop:
                foreign = [key for key, writer in keys.items() if writer != number]
                if foreign:
                    self._invalidate(number, foreign, deliveries)
            else:
                self._invalidate(number, everything, deliveries)

    def _invalidate(
        self, number: int, keys: list[bytes] | None, deliveries: list[Delivery]
    ) -> None:
        """Address an invalidation of *keys* (None: of all) to client *number* or its redirect."""
        client = self._lookup(number)
        if client is None:
            return
        state = self._clients[number]
        redirect = state.redirect
        target = self._lookup(redirect) if redirect else client
        if target is None:
            state.broken_redirect = True
            if client.resp3:
                deliveries.append((client, Push([b"tracking-redir-broken", redirect])))
        elif target.resp3:
            deliveries.append((target, Push([b"invalidate", keys])))
        elif redirect and target.subscribed:
            deliveries.append((target, Push([b"message", INVALIDATE_CHANNEL, keys])))

    def stats(self) -> dict[str, int]:
        """Return the counts that INFO shows."""
        return {
            "tracking_clients": len(self._clients),
            "tracking_total_keys": len(self._table),
            "tracking_total_items": self._items,
            "tracking_total_prefixes": len(self._prefixes),
        }
