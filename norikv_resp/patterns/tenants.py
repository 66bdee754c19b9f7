"""Many tenants in one database: each has keys of its own, a plan with limits, and its own user.

A tenant's keys begin with its name and its *generation*, a random word that every creation draws
anew, so that a tenant never meets what an earlier one of the same name has left. Deleting a tenant
deletes its usage first, and with it every write that was on its way.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import NamedTuple

from redis.asyncio import Redis

from norikv_resp.client import (
    ABSENT,
    AlreadyExistsError,
    DeleteOptions,
    GetOptions,
    GetResult,
    InvalidArgumentError,
    Key,
    NoriKVClient,
    PutOptions,
    Value,
    Version,
    as_client,
)
from norikv_resp.patterns.names import part
from norikv_resp.patterns.tenant_writes import (
    Layout,
    Plan,
    QuotaExceededError,
    TenantNotFoundError,
    Usage,
    Write,
    Writer,
)

__all__ = [
    "PLANS",
    "Plan",
    "QuotaExceededError",
    "TenantClient",
    "TenantCredentials",
    "TenantManager",
    "TenantMetadata",
    "TenantNotFoundError",
    "Usage",
]

MEGABYTE = 1 << 20

PLANS = {
    "free": Plan(1_000, 10 * MEGABYTE),
    "pro": Plan(100_000, 1_000 * MEGABYTE),
    "enterprise": Plan(None, None),
}

#: What a tenant's own user may run, on its own keys. Nothing that names or counts other keys.
READ_COMMANDS = (
    *("get", "mget", "getver", "mgetver", "ver", "getrange", "strlen", "exists", "type"),
    *("ttl", "pttl", "expiretime", "pexpiretime", "ping", "echo", "hello", "auth", "reset"),
    *("client|setinfo", "client|setname", "client|getname", "client|id"),
)


@dataclass(frozen=True)
class TenantMetadata:
    """A tenant; ``created_at`` in Unix milliseconds, ``generation`` tells namesakes apart."""

    id: str
    name: str
    plan: str
    created_at: int
    generation: str

    @property
    def limits(self) -> Plan:
        """The limits of its plan."""
        return PLANS[self.plan]


class TenantCredentials(NamedTuple):
    """With which a tenant logs in itself (AUTH username password)."""

    username: str
    password: str


class TenantClient:
    """One tenant's keys: put, get and delete as the plain client has them.

    Keys may be any bytes. Several clients, in any processes, share the tenant's limits.
    """

    def __init__(self, client: NoriKVClient, writer: Writer, layout: Layout) -> None:
        self._client = client
        self._writer = writer
        self._layout = layout

    def get_tenant_id(self) -> str:
        """The tenant's name."""
        return self._layout.tenant_id

    @property
    def limits(self) -> Plan:
        """The limits of the tenant's plan."""
        return self._layout.plan

    async def get(self, key: Key, options: GetOptions | None = None) -> GetResult:
        """The value and version of a key; KeyNotFoundError. One round trip."""
        return await self._client.get(self._name(key), options)

    async def put(self, key: Key, value: Value, options: PutOptions | None = None) -> Version:
        """Write a key within the plan's limits. Two round trips, more when processes meet.

        Raises:
            QuotaExceededError: the write would exceed a limit; nothing has changed.
            TenantNotFoundError: the tenant has been deleted.
            VersionMismatchError, AlreadyExistsError: as the plain client's put.
        """
        options = options or PutOptions()
        if options.if_not_exists and options.if_match_version is not None:
            raise InvalidArgumentError("if_not_exists excludes if_match_version")
        name, ttl = self._name(key), options.ttl_ms or 0
        data = value.encode() if isinstance(value, str) else bytes(value)
        write = Write(
            name,
            ("SET", name, data, "TTL", ttl) if ttl else ("SET", name, data),
            len(name) - len(self._layout.data) + len(data),
            ttl,
            ABSENT if options.if_not_exists else options.if_match_version,
            self._once(key, options.idempotency_key, b"put" + data),
        )
        version = await self._writer.write(self._layout, write)
        assert version is not None, "a put writes or raises"
        return version

    async def delete(self, key: Key, options: DeleteOptions | None = None) -> bool:
        """Delete a key; False if it did not exist. Two round trips, one if it did not exist.

        Raises:
            TenantNotFoundError: the tenant has been deleted.
            VersionMismatchError: as the plain client's delete.
        """
        options = options or DeleteOptions()
        name = self._name(key)
        once = self._once(key, options.idempotency_key, b"delete")
        write = Write(name, ("DEL", name), None, 0, options.if_match_version, once)
        return await self._writer.write(self._layout, write) is not None

    async def scan(self) -> AsyncIterator[bytes]:
        """The tenant's keys in no particular order, some hundred in a round trip.

        Keys that come or go meanwhile may be among them or not, and may come twice.
        """
        async for names in self._writer.pages(self._layout.data):
            for name in names:
                yield name[len(self._layout.data) :]

    async def usage(self) -> Usage:
        """What the tenant uses, counted anew if keys have expired; TenantNotFoundError."""
        return await self._writer.usage(self._layout)

    def _name(self, key: Key) -> bytes:
        return self._layout.data + (key.encode() if isinstance(key, str) else key)

    def _once(self, key: Key, token: str | None, write: bytes) -> tuple[str, bytes] | None:
        """The key that remembers a write under *token*, and the digest of that write."""
        if token is None:
            return None
        return self._layout.once(key, token), hashlib.sha256(write).hexdigest().encode()


class TenantManager:
    """Creates tenants, hands out their clients, counts and deletes them."""

    def __init__(self, client: NoriKVClient | Redis, prefix: str = "tenants") -> None:
        self._client = as_client(client)
        self._prefix = prefix
        self._writer = Writer(self._client)

    async def create(self, tenant_id: str, name: str, plan: str = "free") -> TenantMetadata:
        """Create a tenant on a plan of `PLANS`. One round trip.

        Raises:
            AlreadyExistsError: there is one of that name.
            ValueError: there is no such plan, or the name is empty.
        """
        if plan not in PLANS:
            raise ValueError(f"no plan {plan!r}; there are: {', '.join(PLANS)}")
        if not tenant_id:
            raise ValueError("a tenant's name is not empty")
        now = time.time_ns() // 1_000_000
        tenant = TenantMetadata(tenant_id, name, plan, now, secrets.token_hex(8))
        key = self._key(tenant_id)
        commands = [
            ("SET", key, json.dumps(asdict(tenant))),
            ("SET", self._layout(tenant).usage, Usage().to_json()),
        ]
        if await self._client.transaction(commands, {key: None}) is None:
            raise AlreadyExistsError(f"tenant {tenant_id} exists", key.encode())
        return tenant

    async def get(self, tenant_id: str) -> TenantMetadata | None:
        """A tenant, or None. One round trip."""
        found = await self._client.execute("GET", self._key(tenant_id))
        return None if found is None else TenantMetadata(**json.loads(found))

    async def get_client(self, tenant_id: str) -> TenantClient:
        """The client for a tenant's keys; TenantNotFoundError. One round trip."""
        tenant = await self.get(tenant_id)
        if tenant is None:
            raise TenantNotFoundError(tenant_id)
        return TenantClient(self._client, self._writer, self._layout(tenant))

    async def usage(self, tenant_id: str) -> Usage:
        """What a tenant uses; TenantNotFoundError. Two round trips, more if keys have expired."""
        return await (await self.get_client(tenant_id)).usage()

    async def create_user(self, tenant_id: str, password: str | None = None) -> TenantCredentials:
        """An ACL user that reads the tenant's keys with any Redis client, and nothing else.

        It sees its keys under the names that they have on the server: `key_prefix` and the name
        that `TenantClient` takes. Writing stays with `TenantClient`, which counts. Called again,
        it sets a new password. Users outlast a restart where the server has an ``aclfile``.

        Raises:
            TenantNotFoundError: there is no such tenant.
            PermissionDeniedError: the manager's own user may not run ACL.
        """
        tenant, version = await self._find(tenant_id)
        layout = self._layout(tenant)
        username = f"tenant:{part(tenant.id)}:{tenant.generation}"
        noted = ("SET", layout.user, username)
        if await self._client.transaction([noted], {self._key(tenant_id): version}) is None:
            raise TenantNotFoundError(tenant_id)
        made = TenantCredentials(username, password or secrets.token_urlsafe(24))
        rules = [
            "reset",
            "on",
            f">{made.password}",
            "-@all",
            *(f"+{each}" for each in READ_COMMANDS),
        ]
        rules.append(f"%R~{layout.data.decode()}*")
        await self._client.execute("ACL", "SETUSER", username, *rules)
        if await self._client.execute("VER", layout.usage) is None:
            await self._client.execute("ACL", "DELUSER", username)  # deleted in between
            raise TenantNotFoundError(tenant_id)
        return made

    def key_prefix(self, tenant: TenantMetadata) -> bytes:
        """What the names of a tenant's keys begin with on the server."""
        return self._layout(tenant).data

    async def delete(self, tenant_id: str) -> bool:
        """Delete a tenant, its user and all its keys; False if there is none.

        The second round trip takes the tenant away, and nothing can be written to it any more; its
        keys follow, some hundred in a round trip. Should this process end in between, `purge` or a
        later delete of the same name goes on.
        """
        while True:
            try:
                tenant, version = await self._find(tenant_id)
            except TenantNotFoundError:
                deleted = False
                break
            key, layout = self._key(tenant_id), self._layout(tenant)
            mark = f"{self._marks(tenant_id)}{tenant.generation}"
            commands = [("DEL", key, layout.usage), ("SET", mark, layout.root)]
            deleted = await self._client.transaction(commands, {key: version}) is not None
            if deleted:
                break
        return bool(await self._sweep(self._marks(tenant_id))) or deleted

    async def purge(self) -> int:
        """Go on with all deletions that were interrupted; how many there were."""
        return await self._sweep(f"{self._prefix}-deleted:")

    async def _sweep(self, marks: str) -> int:
        """Delete the keys of every generation whose mark begins with *marks*; how many."""
        swept = 0
        async for page in self._writer.pages(marks.encode()):
            for mark in page:
                root = await self._client.execute("GET", mark)
                if root is not None:
                    await self._sweep_generation(root)
                    await self._client.execute("DEL", mark)
                    swept += 1
        return swept

    async def _sweep_generation(self, root: bytes) -> None:
        username = await self._client.execute("GET", root + b":user")
        if username is not None:
            await self._client.execute("ACL", "DELUSER", username)
        async for names in self._writer.pages(root + b":"):
            await self._client.execute("UNLINK", *names)

    async def _find(self, tenant_id: str) -> tuple[TenantMetadata, bytes]:
        """A tenant and the version of its record; TenantNotFoundError."""
        found = await self._client.execute("GETVER", self._key(tenant_id))
        if found is None:
            raise TenantNotFoundError(tenant_id)
        return TenantMetadata(**json.loads(found[0])), found[1]

    def _key(self, tenant_id: str) -> str:
        return f"{self._prefix}:{part(tenant_id)}"

    def _marks(self, tenant_id: str) -> str:
        """What the marks of deleted generations of a tenant begin with."""
        return f"{self._prefix}-deleted:{part(tenant_id)}:"

    def _layout(self, tenant: TenantMetadata) -> Layout:
        return Layout.of(self._prefix, tenant.id, tenant.generation, tenant.limits)
