"""A cache in the process that is told by the server when its copies are out of date."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from redis import exceptions
from redis.asyncio import ConnectionPool

from norikv_resp.client import ConnectionError as DisconnectedError
from norikv_resp.client import InvalidArgumentError, Version
from norikv_resp.client.replies import error_of
from norikv_resp.client.timeouts import timeout
from norikv_resp.patterns.combining import Combiner
from norikv_resp.patterns.retry import OUTAGE, Attempts

if TYPE_CHECKING:
    from norikv_resp.client import NoriKVClient, Word

T = TypeVar("T")

#: Where a RESP2 connection hears of keys that have changed.
_CHANNEL = b"__redis__:invalidate"

#: Seconds of silence after which the listening connection is asked whether it lives; after as
#: many again without a word it does not.
_HEARTBEAT = 1.0

#: What a broken connection raises.
_BROKEN = (exceptions.ConnectionError, exceptions.TimeoutError, asyncio.TimeoutError, OSError)

#: Milliseconds for which the token of a put or delete is kept: longer than it is repeated.
_TOKEN_MS = 300_000

#: PTTL of a key that does not expire.
_FOR_EVER = -1


@dataclass(frozen=True)
class CacheStats:
    """What a cache has done so far.

    Attributes:
        hits: gets that were answered without the server.
        misses: gets that went to the server.
        evictions: entries that made room for others.
        invalidations: entries dropped because the key had changed elsewhere, or could have.
        size: entries now.
    """

    hits: int
    misses: int
    evictions: int
    invalidations: int
    size: int

    @property
    def hit_rate(self) -> float:
        """The part of all gets that were hits; 0 before the first."""
        gets = self.hits + self.misses
        return self.hits / gets if gets else 0.0


@dataclass(frozen=True)
class _Entry:
    """A copy and until when, by time.monotonic, it may be served."""

    value: bytes
    until: float


@dataclass(frozen=True)
class _Call:
    """The commands of one call, all about one key; a reading of it comes last, if any."""

    key: bytes
    commands: Sequence[Sequence[Word]]


class CachedClient:
    """Reads through and writes through a bounded cache that is never behind what it was told.

    All reads and writes take one connection of the cache's own, on which the server tracks what
    was read (CLIENT TRACKING); a second one hears when such a key changes, whoever changed it. A
    copy is served until that moment, its time to live, the key's own expiry or eviction. When
    either connection breaks, all copies go. Concurrent calls travel together.

    What the cache holds are bytes: every get parses anew, so nobody changes another's copy.

    Args:
        client: a connected client; the cache uses its address and options.
        ttl_ms: how long a copy is served at most.
        max_size: entries at most; the least recently used goes first.
    """

    def __init__(self, client: NoriKVClient, ttl_ms: int = 60_000, max_size: int = 1000) -> None:
        if ttl_ms < 1 or max_size < 1:
            raise InvalidArgumentError("a cache needs ttl_ms >= 1 and max_size >= 1")
        self._client = client
        self._ttl = ttl_ms / 1000
        self._max_size = max_size
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        #: Keys of the round under way of which no change has been heard since it began.
        self._unchanged: set[bytes] = set()
        self._link: _Link | None = None
        self._combiner: Combiner[None, _Call, list[Any]] = Combiner(self._round)
        self._hits = self._misses = self._evictions = self._invalidations = 0

    # -- the cache -----------------------------------------------------------------

    async def get(self, key: str | bytes, parser: Callable[[bytes], T]) -> T | None:
        """The key's value, parsed; None if there is none. No round trip, or one."""
        name = _bytes(key)
        entry = self._entries.get(name)
        if entry is not None and self._fresh(entry):
            self._hits += 1
            self._entries.move_to_end(name)
            return parser(entry.value)
        self._misses += 1
        found, _ = await self._combiner.submit(None, _Call(name, _read(name)))
        return None if found is None else parser(found[0])

    async def put(self, key: str | bytes, value: T, serializer: Callable[[T], bytes]) -> Version:
        """Write a value to the server and keep a copy; the version of the write. One round trip."""
        name = _bytes(key)
        write = (*_once(), "SETVER", name, serializer(value))
        self._entries.pop(name, None)
        version, *_ = await self._combiner.submit(None, _Call(name, [write, *_read(name)]))
        return Version.parse(version)

    async def delete(self, key: str | bytes) -> bool:
        """Delete a key; whether there was one. One round trip."""
        name = _bytes(key)
        self._entries.pop(name, None)
        (deleted,) = await self._combiner.submit(None, _Call(name, [(*_once(), "DEL", name)]))
        return bool(deleted)

    def invalidate(self, key: str | bytes) -> None:
        """Drop the copy of *key*: the next get asks the server."""
        self._forget(_bytes(key))

    def invalidate_all(self) -> None:
        """Drop all copies."""
        self._invalidations += len(self._entries)
        self._entries.clear()
        self._unchanged.clear()

    def get_stats(self) -> CacheStats:
        """What the cache has done so far."""
        return CacheStats(
            self._hits, self._misses, self._evictions, self._invalidations, len(self._entries)
        )

    async def close(self) -> None:
        """Drop all copies and close the cache's connections."""
        await self._unlink()

    async def __aenter__(self) -> CachedClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    # -- copies --------------------------------------------------------------------

    def _fresh(self, entry: _Entry) -> bool:
        return time.monotonic() < entry.until and self._link is not None and self._link.alive

    def _forget(self, name: bytes) -> None:
        self._unchanged.discard(name)
        if self._entries.pop(name, None) is not None:
            self._invalidations += 1

    def _heard(self, keys: list[bytes] | None) -> None:
        """Keys have changed, all of them if None."""
        if keys is None:
            self.invalidate_all()
            return
        for name in keys:
            self._forget(name)

    def _keep(self, name: bytes, value: bytes, ttl_ms: int, sent: float) -> None:
        """Copy what was read by a request sent at *sent*, of a key that expires in *ttl_ms*."""
        life = self._ttl if ttl_ms == _FOR_EVER else min(self._ttl, ttl_ms / 1000)
        self._entries[name] = _Entry(value, sent + life)
        self._entries.move_to_end(name)
        if len(self._entries) > self._max_size:
            self._entries.popitem(last=False)
            self._evictions += 1

    # -- rounds --------------------------------------------------------------------

    async def _round(self, _: None, calls: list[_Call]) -> list[list[Any] | Exception]:
        """Send the commands of all *calls* in one write; the replies of each."""
        attempts = Attempts(backoff=OUTAGE)
        async for _attempt in attempts:
            try:
                link = await self._linked()
                self._unchanged = {call.key for call in calls}
                sent = time.monotonic()
                replies = await link.exchange([each for call in calls for each in call.commands])
            except _BROKEN as error:
                await self._unlink()
                attempts.last_error = DisconnectedError(str(error))
                continue
            remaining = iter(replies)
            results = [[next(remaining) for _ in call.commands] for call in calls]
            self._copy(calls, results, sent)
            return [_first_error(result) or result for result in results]
        raise AssertionError("Attempts ends with an error")

    def _copy(self, calls: list[_Call], results: list[list[Any]], sent: float) -> None:
        """Keep what the round has read, the last reading of each key, unless it has changed."""
        last = {call.key: result for call, result in zip(calls, results, strict=True)}
        for name, result in last.items():
            if name in self._unchanged and len(result) > 1 and isinstance(result[-2], list):
                self._keep(name, result[-2][0], result[-1], sent)
            else:
                self._entries.pop(name, None)
        self._unchanged = set()

    async def _linked(self) -> _Link:
        if self._link is None or not self._link.alive:
            await self._unlink()
            self._link = await _Link.open(self._client, self._heard)
        return self._link

    async def _unlink(self) -> None:
        """Without the link nobody would tell of a change: all copies go."""
        link, self._link = self._link, None
        self.invalidate_all()
        if link is not None:
            await link.close()


class _Link:
    """Two connections: one reads and writes, the other hears of changes to what was read."""

    def __init__(self, data: Any, listener: Any, seconds: float) -> None:
        self._data = data
        self._listener = listener
        self._seconds = seconds
        #: Whether changes are still heard of.
        self.alive = True
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, client: NoriKVClient, heard: Callable[[list[bytes] | None], None]) -> _Link:
        """Connect both and let *heard* know of every change from now on."""
        pool = client.redis.connection_pool
        options = {**pool.connection_kwargs, "protocol": 2}
        # Typed as Any: redis-py has the methods of connections, but not their types.
        alike: Any = ConnectionPool(connection_class=pool.connection_class, **options)
        link = cls(alike.make_connection(), alike.make_connection(), client.config.attempt_seconds)
        try:
            (number,) = await link._ask(link._listener, [("CLIENT", "ID")])
            await link._ask(link._listener, [("SUBSCRIBE", _CHANNEL)])
            tracking = ("CLIENT", "TRACKING", "ON", "REDIRECT", number, "NOLOOP")
            await link._ask(link._data, [tracking])
        except BaseException:
            await link.close()
            raise
        link._task = asyncio.create_task(link._listen(heard))
        return link

    async def exchange(self, commands: Sequence[Sequence[Word]]) -> list[Any]:
        """Send *commands* in one write; their replies, error replies as errors of the client."""
        return await self._ask(self._data, commands)

    async def _ask(self, connection: Any, commands: Sequence[Sequence[Word]]) -> list[Any]:
        async with timeout(self._seconds):
            await connection.connect()
            packed = connection.pack_commands(commands)
            await connection.send_packed_command(packed, check_health=False)
            replies: list[Any] = []
            for _ in commands:
                try:
                    replies.append(await connection.read_response(disable_decoding=True))
                except exceptions.ResponseError as error:
                    replies.append(error_of(error))
        return replies

    async def _listen(self, heard: Callable[[list[bytes] | None], None]) -> None:
        """Until the connection breaks, or is silent for two heartbeats."""
        asked = False
        try:
            while True:
                message = await self._listener.read_response(
                    disable_decoding=True, timeout=_HEARTBEAT
                )
                if message is not None:
                    asked = False
                    if message[0] == b"message":
                        heard(message[2])
                elif asked:
                    break
                else:
                    asked = True
                    ping = self._listener.pack_commands([("PING",)])
                    await self._listener.send_packed_command(ping, check_health=False)
        except _BROKEN:
            pass
        finally:
            self.alive = False
            heard(None)

    async def close(self) -> None:
        """Close both connections."""
        self.alive = False
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        for connection in (self._data, self._listener):
            with suppress(*_BROKEN):
                await connection.disconnect(nowait=True)


def _read(key: bytes) -> list[Sequence[Word]]:
    """The commands that read a key and for how long it will be there."""
    return [("GETVER", key), ("PTTL", key)]


def _once() -> tuple[Word, ...]:
    """The words before a write that make it happen once, however often it is sent."""
    return ("IDEM", uuid.uuid4().hex, "TTL", _TOKEN_MS)


def _bytes(key: str | bytes) -> bytes:
    return key.encode() if isinstance(key, str) else key


def _first_error(replies: list[Any]) -> Exception | None:
    return next((reply for reply in replies if isinstance(reply, Exception)), None)
