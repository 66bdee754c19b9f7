"""Counters: one key, and a key split into shards."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from norikv_resp.client import (
    InvalidArgumentError,
    NoriKVError,
    RetryExhaustedError,
    TransientError,
)
from norikv_resp.patterns.combining import Combiner
from norikv_resp.patterns.requests import together
from norikv_resp.patterns.retry import Attempts, cas_retry

if TYPE_CHECKING:
    from norikv_resp.client import NoriKVClient

#: What INCRBY can count to as well.
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1


class DistributedCounter:
    """A number that any process adds to, without losing an increment.

    Increments are compare-and-sets that start from what was last seen: one round trip each while
    nobody else writes, one more for every lost race, with backoff and jitter. Increments by
    several tasks of one object travel together in one. The key holds decimal digits, so INCRBY,
    GET and this class may be mixed freely.

    Args:
        client: a connected client.
        key: the counter's key.
    """

    def __init__(self, client: NoriKVClient, key: str | bytes) -> None:
        self._client = client
        self.key = key
        #: The number and the version under which it was last seen: no more than a good guess.
        self._number = 0
        self._version: str | bytes = "0"
        self._combiner: Combiner[None, int, int] = Combiner(self._add)
        self._by_token: Combiner[None, tuple[int, str], int] = Combiner(self._add_once)

    async def initialize(self) -> None:
        """Create the counter at 0; one that exists stays what it is. One round trip."""
        done, version, held = await self._client.execute("CAS", self.key, "0", "0")
        self._number, self._version = (0 if done else self._parse(held)), version

    async def increment(self) -> int:
        """Add one; the new number."""
        return await self.increment_by(1)

    async def increment_by(self, n: int, token: str | None = None) -> int:
        """Add *n*, which may be negative; the new number.

        With a *token*, at most once for that token, whoever repeats it within the server's
        idempotency window: the repeat gets the number that the first one made. Without, the
        increment is safe against broken connections, but a process that dies before it has the
        answer cannot know whether it counted.

        Raises:
            InvalidArgumentError: the key does not hold an integer, or the sum has over 64 bits.
            RetryExhaustedError: the race was lost until the deadline.
        """
        if token is not None:
            return await self._by_token.submit(None, (n, token))
        return await self._combiner.submit(None, n)

    async def get(self) -> int:
        """The number now, 0 if there is no counter. One round trip."""
        return self._parse(await self._client.execute("GET", self.key))

    async def _add(self, _: None, amounts: list[int]) -> list[int]:
        """One compare-and-set for all *amounts*; the number after each of them."""
        total = sum(amounts)
        async for _attempt in Attempts():
            number = self._number + total
            if not _SMALLEST <= number <= _LARGEST:
                raise InvalidArgumentError(f"{number} does not fit a counter of 64 bits")
            done, self._version, held = await self._client.execute(
                "CAS", self.key, self._version, number, "KEEPTTL"
            )
            if done:
                break
            self._number = self._parse(held)
        results = []
        for amount in amounts:
            self._number += amount
            results.append(self._number)
        return results

    async def _add_once(
        self, _: None, wanted: list[tuple[int, str]]
    ) -> list[int] | list[int | Exception]:
        """One transaction for several increments, each under its own token."""
        if len(wanted) > 1:
            commands = [("IDEM", token, "INCRBY", self.key, n) for n, token in wanted]
            try:
                return await together(self._client, *commands)
            except (TransientError, RetryExhaustedError):
                raise
            except NoriKVError:
                pass
        # Alone, or one of them was refused: their tokens make it safe to ask for each again.
        return [await self._once(n, token) for n, token in wanted]

    async def _once(self, n: int, token: str) -> int | Exception:
        try:
            return int(await self._client.execute("INCRBY", self.key, n, token=token))
        except NoriKVError as error:
            return error

    def _parse(self, held: bytes | None) -> int:
        try:
            return 0 if held is None else int(held)
        except ValueError:
            raise InvalidArgumentError(f"{self.key!r} does not hold an integer") from None


class ShardedCounter:
    """A counter for more writers than one key can take: every increment goes to a random shard.

    Shard i is the key ``NAME:shard:i``, made by a compare-and-set against absence at its first
    increment. `get` reads all shards with one MGETVER, of one moment. ``NAME:shards`` holds the
    largest number of shards that any process has used, so that a process configured for fewer
    still counts them all.

    Args:
        client: a connected client.
        name: the prefix of the counter's keys.
        num_shards: how many shards this process spreads its increments over.
    """

    def __init__(self, client: NoriKVClient, name: str, num_shards: int = 10) -> None:
        if num_shards < 1:
            raise InvalidArgumentError("a counter has at least one shard")
        self._client = client
        self._name = name
        self._shards = [
            DistributedCounter(client, self._shard_key(number)) for number in range(num_shards)
        ]
        #: The largest number of shards that any process is known to use.
        self._known = num_shards
        self._announced = False

    async def increment(self, n: int = 1) -> None:
        """Add *n* to one of the shards. As DistributedCounter.increment_by otherwise."""
        if not self._announced:
            await self._announce()
        await random.choice(self._shards).increment_by(n)

    async def get(self) -> int:
        """The sum of all shards at one moment. One round trip."""
        while True:
            keys = [self._shard_key(number) for number in range(self._known)]
            stored, *shards = await self._client.execute("MGETVER", self._shards_key, *keys)
            if stored is None or int(stored[0]) <= self._known:
                return sum(int(pair[0]) for pair in shards if pair is not None)
            self._known = int(stored[0])

    async def _announce(self) -> None:
        """Let every reader know how many shards there are, before the first one is written."""
        mine = len(self._shards)

        def at_least_mine(held: bytes | None) -> bytes | None:
            return None if held is not None and int(held) >= mine else b"%d" % mine

        stored = await cas_retry(self._client, self._shards_key, at_least_mine)
        assert stored is not None
        self._known = max(self._known, int(stored.value))
        self._announced = True

    @property
    def _shards_key(self) -> str:
        return f"{self._name}:shards"

    def _shard_key(self, number: int) -> str:
        return f"{self._name}:shard:{number}"
