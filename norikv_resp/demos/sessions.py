"""Sessions: a late touch does not bring back what was destroyed, and no update is lost."""

from __future__ import annotations

import asyncio

from norikv_resp.client import NoriKVClient
from norikv_resp.demos.show import table
from norikv_resp.patterns.sessions import SessionManager

SESSIONS = 30
UPDATES = 20
NAIVE = "demo:session"


async def naive_touch(client: NoriKVClient, key: str) -> None:
    """Read the session and write it back with a new expiry."""
    while (held := await client.execute("GET", key)) is not None:
        await client.execute("SET", key, held, "PX", 60_000)


async def came_back_naively(client: NoriKVClient) -> int:
    """How many of the destroyed sessions are there afterwards."""
    back = 0
    for number in range(SESSIONS):
        key = f"{NAIVE}:{number}"
        await client.execute("SET", key, "{}", "PX", 60_000)
        touching = asyncio.create_task(naive_touch(client, key))
        await asyncio.sleep(0.003)
        await client.delete(key)
        await asyncio.wait({touching}, timeout=0.02)
        touching.cancel()
        await asyncio.wait({touching})
        back += await client.delete(key)
    return back


async def came_back(client: NoriKVClient) -> int:
    """The same with a SessionManager."""
    sessions = SessionManager(client, ttl_ms=60_000)
    back = 0

    async def touch(session_id: str) -> None:
        while await sessions.get(session_id) is not None:
            pass

    for number in range(SESSIONS):
        session_id = await sessions.create(f"user-{number}", "", [])
        touching = asyncio.create_task(touch(session_id))
        await asyncio.sleep(0.003)
        await sessions.destroy(session_id)
        await touching
        back += await sessions.validate(session_id)
    return back


async def run(url: str) -> bool:
    """Destroy sessions while they are used, then update one from many tasks."""
    async with NoriKVClient.from_url(url) as client:
        print(f"{SESSIONS} sessions are destroyed while somebody keeps touching them")
        naive = await came_back_naively(client)
        print(f"  get, then put: {naive} are there again")
        back = await came_back(client)
        print(f"  SessionManager: {back} are there again")

        sessions = SessionManager(client, ttl_ms=400)
        session_id = await sessions.create("ada", "ada@example.org", ["reader"])
        print(f"{UPDATES} concurrent updates of one session, each adds a role")

        async def promote(number: int) -> None:
            await sessions.update(session_id, lambda each: each.roles.append(f"role-{number}"))

        await asyncio.gather(*map(promote, range(UPDATES)))
        session = await sessions.get(session_id)
        roles = 0 if session is None else len(session.roles) - 1
        print(f"  {roles} have landed; now it is used for longer than its 400 ms")
        alive = True
        for _ in range(5):
            await asyncio.sleep(0.15)
            alive = alive and await sessions.get(session_id) is not None
        await asyncio.sleep(0.45)
        gone = await sessions.get(session_id) is None
        print(f"  used, it lived: {alive}; left alone, it is gone: {gone}")
        table(
            ("check", "get, then put", "SessionManager"),
            [("destroyed and there again", naive, back), ("updates that landed", "", roles)],
        )
    return back == 0 and roles == UPDATES and alive and gone
