"""How a tenant's writes are counted: the keys of a tenant, and the transaction of every write.

One key holds what a tenant uses. Whatever changes a key of the tenant moves that one in the same
transaction, both guarded by the versions that the decision was made on: two writers never both take
the last free place, and the sum is never more or less than its parts. What several tasks of one
process want to write travels together.

A key that expires leaves without telling. The usage therefore carries the time at which the first
of the counted keys expires; when a limit stands in the way after that, the keys are counted anew.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

from norikv_resp.client import (
    ABSENT,
    AlreadyExistsError,
    IdempotencyMismatchError,
    InvalidArgumentError,
    Key,
    NoriKVClient,
    NoriKVError,
    Version,
    VersionMismatchError,
    Word,
)
from norikv_resp.patterns.combining import Combiner
from norikv_resp.patterns.names import part
from norikv_resp.patterns.requests import milliseconds, together
from norikv_resp.patterns.retry import Attempts

#: For how long an idempotency key makes the repetition of a tenant's write harmless.
RETRY_WINDOW_MS = 24 * 3600 * 1000

#: Keys that one step of a walk over a tenant's keys looks at.
STEP = 500

#: What PEXPIRETIME says of a key that does not exist.
_GONE = -2


class TenantNotFoundError(ValueError):
    """There is no such tenant, or it has been deleted since its client was made."""

    def __init__(self, tenant_id: str) -> None:
        super().__init__(f"tenant not found: {tenant_id}")
        self.tenant_id = tenant_id


class QuotaExceededError(ValueError):
    """The write would exceed a limit of the plan; ``limit`` is "keys" or "bytes"."""

    def __init__(self, tenant_id: str, limit: str, needed: int, maximum: int) -> None:
        super().__init__(f"tenant {tenant_id} may have {maximum} {limit}, not {needed}")
        self.tenant_id = tenant_id
        self.limit = limit
        self.maximum = maximum


class Plan(NamedTuple):
    """A plan's limits; None means none."""

    max_keys: int | None
    max_bytes: int | None


@dataclass(frozen=True)
class Usage:
    """How many keys a tenant has, and how many bytes they and their values are.

    ``expires_at``, Unix milliseconds, is when the first of the counted keys expires, 0 if none
    does: until then the count is exact, after that it may be too high until it is made anew.
    """

    keys: int = 0
    bytes: int = 0
    expires_at: int = 0

    def to_json(self) -> str:
        """As the usage key holds it."""
        return json.dumps(asdict(self), separators=(",", ":"))


@dataclass(frozen=True)
class Layout:
    """The keys of one generation of a tenant. They all begin with ``root`` and a colon."""

    tenant_id: str
    root: str
    plan: Plan

    @classmethod
    def of(cls, prefix: str, tenant_id: str, generation: str, plan: Plan) -> Layout:
        """That of a tenant; its name means nothing but itself, whatever is in it."""
        return cls(tenant_id, f"{prefix}:{part(tenant_id)}:{generation}", plan)

    @property
    def usage(self) -> str:
        """How much the tenant uses; it exists exactly as long as the tenant does."""
        return f"{self.root}:usage"

    @property
    def user(self) -> str:
        """The name of the tenant's ACL user, if there is one."""
        return f"{self.root}:user"

    @property
    def data(self) -> bytes:
        """What the tenant's own keys begin with."""
        return f"{self.root}:d:".encode()

    def once(self, key: Key, token: str) -> str:
        """Remembers a write to *key* under an idempotency key."""
        return f"{self.root}:once:{part(key)}:{token}"


class Write(NamedTuple):
    """A change of one key that a caller wants."""

    name: bytes
    command: tuple[Word, ...]
    #: Bytes of key and value afterwards; None for a delete.
    size: int | None
    ttl_ms: int = 0
    #: The version that the key must have, ABSENT for none; None for any.
    expected: Version | None = None
    #: The key that remembers the idempotency key, and the digest of this write.
    once: tuple[str, bytes] | None = None


class _Found(NamedTuple):
    """A key as it was read: ABSENT and 0 when it is not there."""

    version: Version
    size: int
    #: The digest under the idempotency key and the version written under it.
    once: tuple[bytes, Version] | None


class _Seen(NamedTuple):
    """What a round of writes is decided on, all of one moment."""

    usage: Usage
    version: Version
    found: list[_Found]
    #: The server's clock, Unix milliseconds.
    now: int

    @property
    def is_stale(self) -> bool:
        """Whether keys that are still counted have expired."""
        return 0 < self.usage.expires_at <= self.now


class Writer:
    """Writes the keys of all tenants of one manager and keeps their usage."""

    def __init__(self, client: NoriKVClient) -> None:
        self._client = client
        self._combiner: Combiner[Layout, Write, Version | None] = Combiner(self._round, 200)

    async def write(self, layout: Layout, write: Write) -> Version | None:
        """Carry out *write*; its version, or None for the delete of a key that is not there.

        Raises:
            TenantNotFoundError, QuotaExceededError, VersionMismatchError, AlreadyExistsError,
            IdempotencyMismatchError: nothing has changed.
        """
        return await self._combiner.submit(layout, write)

    async def usage(self, layout: Layout) -> Usage:
        """What a tenant uses now; keys that have expired are found out first."""
        seen = await self._look(layout, [])
        return await self.recount(layout) if seen.is_stale else seen.usage

    async def recount(self, layout: Layout) -> Usage:
        """Count a tenant's keys one by one and correct its usage. O(its keys)."""
        attempts = Attempts()
        while True:
            await anext(attempts)
            version = (await self._look(layout, [])).version
            sizes = await self._sizes(layout)
            deadlines = [at for _, at in sizes.values() if at]
            size = sum(size for size, _ in sizes.values())
            usage = Usage(len(sizes), size, min(deadlines, default=0))
            # Every write of the tenant moves the version, so what was counted is what is there.
            write = ("SET", layout.usage, usage.to_json())
            if await self._client.transaction([write], {layout.usage: version}) is not None:
                return usage

    async def pages(self, prefix: bytes) -> AsyncIterator[list[bytes]]:
        """The keys that begin with *prefix*, in pages; a key may come twice."""
        cursor = b"0"
        while True:
            walk = ("SCAN", cursor, "MATCH", prefix + b"*", "COUNT", STEP)
            try:
                cursor, names = await self._client.execute(*walk)
            except InvalidArgumentError as error:
                if "invalid cursor" not in str(error):
                    raise
                cursor = b"0"  # the server has been restarted and knows the walk no more
                continue
            if names:
                yield names
            if cursor == b"0":
                return

    async def _sizes(self, layout: Layout) -> dict[bytes, tuple[int, int]]:
        """Size and deadline (0: none) of every key of the tenant."""
        sizes: dict[bytes, tuple[int, int]] = {}
        async for names in self.pages(layout.data):
            asked = [(word, name) for name in names for word in ("STRLEN", "PEXPIRETIME")]
            replies = await together(self._client, *asked)
            for name, length, at in zip(names, replies[::2], replies[1::2], strict=True):
                if at != _GONE:
                    sizes[name] = _size(layout, name, length), max(at, 0)
        return sizes

    # -- writing -------------------------------------------------------------

    async def _round(
        self, layout: Layout, writes: list[Write]
    ) -> Sequence[Version | Exception | None]:
        """Carry out what concurrent callers want: one transaction, more if keys repeat."""
        results: dict[int, Version | Exception | None] = {}
        waiting = dict(enumerate(writes))
        while waiting:
            # Of several writes to one key the first goes now: the next is judged on what it left.
            first = {write.name: place for place, write in reversed(waiting.items())}
            now = {place: waiting.pop(place) for place in sorted(first.values())}
            try:
                outcome = await self._together(layout, list(now.values()))
            except Exception as error:  # of these writes alone: earlier ones have been done
                outcome = [error] * len(now)
            results.update(zip(now, outcome, strict=True))
        return [results[place] for place in range(len(writes))]

    async def _together(
        self, layout: Layout, writes: list[Write]
    ) -> list[Version | Exception | None]:
        """Carry out writes to different keys in one transaction; a result for each."""
        attempts = Attempts()
        while True:
            await anext(attempts)
            seen = await self._look(layout, writes)
            results: list[Version | Exception | None] = []
            admitted: list[tuple[Write, _Found]] = []
            usage = seen.usage
            for write, found in zip(writes, seen.found, strict=True):
                try:
                    after = _admit(layout, write, found, usage, seen.now)
                except (NoriKVError, QuotaExceededError) as error:
                    results.append(error)
                    continue
                results.append(found.once[1] if found.once is not None else None)
                if after is not None:
                    usage = after
                    admitted.append((write, found))
            if seen.is_stale and any(isinstance(each, QuotaExceededError) for each in results):
                await self.recount(layout)
                continue
            if not admitted:
                return results
            version = await self._commit(layout, seen.version, usage, admitted)
            if version is not None:
                written = {write.name for write, _ in admitted}
                pairs = zip(writes, results, strict=True)
                return [version if write.name in written else each for write, each in pairs]

    async def _look(self, layout: Layout, writes: Iterable[Write]) -> _Seen:
        """Everything that *writes* are decided on, in one round trip and from one moment."""
        asked: list[tuple[Word, ...]] = [("GETVER", layout.usage), ("TIME",)]
        for write in writes:
            once = write.once[0] if write.once is not None else b""
            asked += [("VER", write.name), ("STRLEN", write.name), ("GETVER", once)]
        counted, time, *rest = await together(self._client, *asked)
        if counted is None:
            raise TenantNotFoundError(layout.tenant_id)
        found = [
            _found(layout, *each)
            for each in zip(writes, rest[::3], rest[1::3], rest[2::3], strict=True)
        ]
        usage = Usage(**json.loads(counted[0]))
        return _Seen(usage, Version.parse(counted[1]), found, milliseconds(time))

    async def _commit(
        self, layout: Layout, seen: Version, usage: Usage, admitted: list[tuple[Write, _Found]]
    ) -> Version | None:
        """Write keys and usage in one transaction; None if anything has changed since."""
        checks: dict[Key, Version | None] = {layout.usage: seen}
        commands: list[tuple[Word, ...]] = [("SETVER", layout.usage, usage.to_json())]
        for write, found in admitted:
            checks[write.name] = found.version
            commands.append(write.command)
            if write.once is not None:
                checks[write.once[0]] = None
                commands.append(("SET", *write.once, "PX", RETRY_WINDOW_MS))
        replies = await self._client.transaction(commands, checks)
        # All writes of a transaction share one version.
        return None if replies is None else Version.parse(replies[0])


def _size(layout: Layout, name: bytes, length: int) -> int:
    """What a key and its value count."""
    return len(name) - len(layout.data) + length


def _found(
    layout: Layout, write: Write, version: bytes | None, length: int, once: list[bytes] | None
) -> _Found:
    there = version is not None
    return _Found(
        Version.parse(version) if version is not None else ABSENT,
        _size(layout, write.name, length) if there else 0,
        (once[0], Version.parse(once[1])) if once is not None else None,
    )


def _admit(layout: Layout, write: Write, found: _Found, usage: Usage, now: int) -> Usage | None:
    """The usage after *write*; None if there is nothing to write. Raises what stands against it."""
    if found.once is not None:
        if write.once is None or found.once[0] != write.once[1]:
            raise IdempotencyMismatchError("the idempotency key was used for another write")
        return None
    _judge_version(write, found.version)
    there = found.version != ABSENT
    if write.size is None and not there:
        return None
    deadlines = [usage.expires_at, now + write.ttl_ms if write.ttl_ms else 0]
    after = Usage(
        usage.keys - there + (write.size is not None),
        usage.bytes - found.size + (write.size or 0),
        min((at for at in deadlines if at), default=0),
    )
    for limit, before, needed, maximum in (
        ("keys", usage.keys, after.keys, layout.plan.max_keys),
        ("bytes", usage.bytes, after.bytes, layout.plan.max_bytes),
    ):
        if maximum is not None and needed > max(maximum, before):
            raise QuotaExceededError(layout.tenant_id, limit, needed, maximum)
    return after


def _judge_version(write: Write, actual: Version) -> None:
    if write.expected is None or write.expected == actual:
        return
    if write.expected == ABSENT:
        raise AlreadyExistsError(f"the key exists: {write.name!r}", write.name)
    found = None if actual == ABSENT else actual
    text = f"{write.name!r} has version {found or 'none'}, not {write.expected}"
    raise VersionMismatchError(text, write.name, write.expected, found)
