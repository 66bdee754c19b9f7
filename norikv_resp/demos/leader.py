"""Leader election: a lease, fail-over, and a fencing token that stops the old leader."""

from __future__ import annotations

import asyncio
import time

from norikv_resp.client import NoriKVClient
from norikv_resp.demos.show import table
from norikv_resp.demos.wipe import wipe
from norikv_resp.patterns.leader import FencedError, LeaderElection

LEASE_MS = 400
NAME = "demo"
RESOURCE = "demo:leader:resource"


async def run(url: str) -> bool:
    """Elect, write, let the leader crash, elect again; True when the old one is refused."""
    print(f"three candidates, a lease of {LEASE_MS} ms")
    async with NoriKVClient.from_url(url) as client:
        candidates = [
            LeaderElection(client, NAME, node, LEASE_MS) for node in ("ada", "bob", "cyd")
        ]
        await wipe(client, candidates[0].lease_key)

        def campaign(candidate: LeaderElection) -> asyncio.Task[None]:
            def became() -> None:
                print(f"  {candidate.node_id} leads, fencing token {candidate.fencing_token}")

            return asyncio.create_task(candidate.start(became))

        tasks = {each.node_id: campaign(each) for each in candidates}
        old = await _leader(candidates)
        wrote = await _write(old)
        print(f"  {old.node_id} writes: {_said(wrote)}; then it crashes")
        tasks[old.node_id].cancel()
        crashed = time.monotonic()
        new = await _leader([each for each in candidates if each is not old])
        gap = (time.monotonic() - crashed) * 1000
        print(f"  fail-over after {gap:.0f} ms")
        late, fresh = await _write(old), await _write(new)
        value = str(await client.execute("GET", RESOURCE), "ascii")
        for each in candidates:
            await each.stop()
        left = await new.get_leader()
        table(
            ("node", "token", "write at last", "what it says"),
            [
                (old.node_id, str(old.fencing_token), _said(late), "the crashed leader"),
                (new.node_id, str(new.fencing_token), _said(fresh), f"resource: {value}"),
            ],
        )
        await wipe(client, candidates[0].lease_key)
        await client.delete(RESOURCE)
    return wrote and fresh and not late and value == f"by {new.node_id}" and left is None


async def _write(candidate: LeaderElection) -> bool:
    """Write as the leader; False if another one has been elected since."""
    try:
        await candidate.write([("SET", RESOURCE, f"by {candidate.node_id}")])
    except FencedError:
        return False
    return True


def _said(accepted: bool) -> str:
    return "accepted" if accepted else "refused"


async def _leader(candidates: list[LeaderElection]) -> LeaderElection:
    """The candidate that leads; TimeoutError when there is none for five seconds."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        for each in candidates:
            if each.get_is_leader():
                return each
        await asyncio.sleep(0.005)
    raise TimeoutError("nobody was elected")
