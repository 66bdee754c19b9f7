"""Sessions: what is gone stays gone, what is changed is changed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from norikv_resp.client import NoriKVClient, Word
from norikv_resp.patterns import SessionData, SessionManager
from norikv_resp.patterns.requests import server_time
from tests.patterns.conftest import Run
from tests.patterns.crew import Crew, shaky
from tests.support.server import ServerProcess

pytestmark = pytest.mark.norikv

COUNT = 20


def sessions_of(run: Run, count: int, ttl_ms: int = 60_000) -> list[str]:
    async def create(client: NoriKVClient) -> list[str]:
        sessions = SessionManager(client, ttl_ms)
        return [await sessions.create(f"u{number}", "", []) for number in range(count)]

    found: list[str] = run(create)
    return found


def destroyed_but_there(worker: str, server: ServerProcess, url: str, run: Run) -> int:
    """Destroy sessions under the hands of processes that touch them; how many came back."""
    ids = sessions_of(run, COUNT)
    back = 0
    with Crew(worker, url, 3, ids=ids, ttl_ms=60_000) as crew, server.wire() as wire:
        for number, session_id in enumerate(ids):
            wire.ok("DEL", f"session:{session_id}")
            while sum(map(len, crew.reports)) < 3 * (number + 1):
                if wire.ok("EXISTS", f"session:{session_id}"):
                    back += 1
                    wire.ok("DEL", f"session:{session_id}")
        crew.finish()
    return back


def test_reading_and_writing_brings_destroyed_sessions_back(
    server: ServerProcess, url: str, run: Run
) -> None:
    assert destroyed_but_there("touch_naively", server, url, run) > 0


def test_a_destroyed_session_is_not_brought_back(server: ServerProcess, url: str, run: Run) -> None:
    with shaky(server.port, every=20_000) as cut:
        assert destroyed_but_there("touch", server, cut, run) == 0


def test_an_expired_session_is_not_brought_back(server: ServerProcess, url: str, run: Run) -> None:
    ids = sessions_of(run, 8, ttl_ms=60)
    with Crew("touch_late", url, 3, ids=ids, ttl_ms=60) as crew:
        reports = [each for reports in crew.finish() for each in reports]
    assert len(reports) == 3 * 8 * 5
    assert not [each for each in reports if each[1]]


def test_concurrent_updates_all_land(own_server: ServerProcess) -> None:
    """Over breaking connections and a killed server."""
    direct = f"redis://127.0.0.1:{own_server.port}"

    async def with_client(action: str, session_id: str = "") -> object:
        async with NoriKVClient.from_url(direct) as client:
            sessions = SessionManager(client)
            if action == "create":
                return await sessions.create("u", "", ["first"])
            return await sessions.get(session_id)

    session_id = asyncio.run(with_client("create"))
    with (
        shaky(own_server.port, every=20_000) as url,
        Crew("grant_roles", url, 3, id=session_id, times=30) as crew,
    ):
        crew.wait_for(30)
        own_server.restart(clean=False)
        crew.finish()
    session = asyncio.run(with_client("get", str(session_id)))
    assert isinstance(session, SessionData)
    wanted = {"first", *(f"{who}:{number}" for who in range(3) for number in range(30))}
    assert len(session.roles) == len(wanted) and set(session.roles) == wanted


def test_the_life_of_a_session(run: Run) -> None:
    async def steps(client: NoriKVClient) -> None:
        sessions = SessionManager(client, ttl_ms=60_000)
        before = await server_time(client)
        session_id = await sessions.create("u", "u@example.org", ["reader"])
        after = await server_time(client)
        assert await sessions.validate(session_id)
        await client.execute("PEXPIRE", f"session:{session_id}", 1000)
        session = await sessions.get(session_id)
        assert session is not None
        assert (session.user_id, session.email, session.roles) == ("u", "u@example.org", ["reader"])
        assert before <= session.created_at <= after <= session.last_accessed_at + 1
        assert await client.execute("PTTL", f"session:{session_id}") > 50_000
        promoted = SessionData("u", "new@example.org", ["admin"], session.created_at)
        assert await sessions.update(session_id, lambda _: promoted)
        again = await sessions.get(session_id)
        assert again is not None and again.roles == ["admin"] and again.email == "new@example.org"
        with pytest.raises(ZeroDivisionError):
            await sessions.update(session_id, lambda _: 1 / 0)  # type: ignore[arg-type,return-value]
        assert await sessions.destroy(session_id)
        assert not await sessions.destroy(session_id)
        assert await sessions.get(session_id) is None
        assert not await sessions.update(session_id, lambda _: None)
        assert not await sessions.validate(session_id)
        assert await client.execute("DBSIZE") == 0

    run(steps)


def test_a_get_of_a_session_that_ends_between_its_two_commands_finds_none(run: Run) -> None:
    async def steps(client: NoriKVClient) -> None:
        sessions = SessionManager(client)
        session_id = await sessions.create("ada", "")
        pipeline = client.pipeline

        async def interrupted(commands: Sequence[Sequence[Word]]) -> list[Any]:
            replies = await pipeline(commands[:1])
            await SessionManager(client).destroy(session_id)
            return [*replies, *await pipeline(commands[1:])]

        client.pipeline = interrupted  # type: ignore[method-assign]
        assert await sessions.get(session_id) is None

    run(steps)
