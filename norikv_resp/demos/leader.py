"""Leader election: a lease that is taken and renewed by CAS, and a fencing token.

The lease key expires by itself when its holder stops renewing. A companion
key is written only when leadership changes hands; its version is the fencing
token. A write that carries the token in a CHECK is refused once another
leader has been elected, however long its sender was asleep.
"""

from __future__ import annotations

import asyncio
import time

from norikv_resp.demos.client import Client

LEASE_MS = 400
LEASE = "demo:leader"
TERM = "demo:leader:term"
RESOURCE = "demo:leader:resource"


class Candidate:
    """Tries to be the leader until it is stopped or crashes."""

    def __init__(self, url: str, name: str) -> None:
        self.client = Client(url)
        self.name = name
        self.lease: bytes | None = None
        self.token: bytes = b"0"
        self.elected_at = 0.0

    async def campaign(self) -> None:
        """Take the lease when it is free, renew it while it is held."""
        while True:
            if self.lease is None:
                await self._take()
            else:
                await self._renew()
            await asyncio.sleep(LEASE_MS / 4000)

    async def _take(self) -> None:
        done, version, _ = await self.client.send("CAS", LEASE, "0", self.name, "PX", LEASE_MS)
        if done:
            self.lease = version
            self.token = await self.client.send("SETVER", TERM, self.name)
            self.elected_at = time.monotonic()
            print(f"  {self.name} leads, fencing token {self.token.decode()}")

    async def _renew(self) -> None:
        done, version, _ = await self.client.send(
            "CAS", LEASE, self.lease or "0", self.name, "PX", LEASE_MS
        )
        self.lease = version if done else None

    async def write(self, value: str) -> bool:
        """Write to the resource as the leader; False if another one has been elected since."""
        reply = await self.client.transaction(("CHECK", TERM, self.token), ("SET", RESOURCE, value))
        return reply is not None


async def run(url: str) -> bool:
    """Elect, write, let the leader fall silent, elect again; True when the old one is refused."""
    candidates = [Candidate(url, name) for name in ("ada", "bob", "cyd")]
    await candidates[0].client.send("DEL", LEASE, TERM, RESOURCE)
    tasks = {each.name: asyncio.create_task(each.campaign()) for each in candidates}
    print(f"three candidates, a lease of {LEASE_MS} ms")
    old = await _leader(candidates, None)
    wrote = await old.write(f"by {old.name}")
    print(f"  {old.name} writes: {'accepted' if wrote else 'refused'}; then it falls silent")
    tasks[old.name].cancel()
    silent = time.monotonic()
    new = await _leader(candidates, old)
    gap = new.elected_at - silent
    late = await old.write(f"by {old.name}, who does not know")
    fresh = await new.write(f"by {new.name}")
    value = (await new.client.send("GET", RESOURCE) or b"").decode()
    print(f"  fail-over after {gap * 1000:.0f} ms")
    print(f"  {old.name} wakes up and writes: {'accepted' if late else 'refused'}")
    print(f"  {new.name} writes: {'accepted' if fresh else 'refused'}; the resource says {value!r}")
    for task in tasks.values():
        task.cancel()
    await candidates[0].client.send("DEL", LEASE, TERM, RESOURCE)
    for each in candidates:
        await each.client.close()
    return wrote and fresh and not late and value == f"by {new.name}"


async def _leader(candidates: list[Candidate], other_than: Candidate | None) -> Candidate:
    """The candidate that holds the lease; TimeoutError when there is none for five seconds."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        for each in candidates:
            if each is not other_than and each.lease is not None and each.elected_at:
                return each
        await asyncio.sleep(0.005)
    raise TimeoutError("nobody was elected")
