"""Tenants: limits that hold, keys that stay apart, deletions that end."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from norikv_resp.client import (
    AlreadyExistsError,
    DeleteOptions,
    IdempotencyMismatchError,
    KeyNotFoundError,
    NoriKVClient,
    PutOptions,
    Version,
    VersionMismatchError,
)
from norikv_resp.patterns import tenant_writes
from norikv_resp.patterns.tenants import (
    Plan,
    QuotaExceededError,
    TenantClient,
    TenantManager,
    TenantNotFoundError,
    Usage,
)
from tests.patterns.conftest import Run
from tests.patterns.crew import Crew, shaky, stubborn
from tests.patterns.workers_tenants import TINY
from tests.support.effort import examples, scaled
from tests.support.server import ServerProcess

pytestmark = pytest.mark.norikv

TIMES = scaled(40)


async def tenant_of(client: NoriKVClient, name: str = "acme", plan: str = "tiny") -> TenantClient:
    manager = TenantManager(client)
    with contextlib.suppress(AlreadyExistsError):
        await manager.create(name, name, plan)
    return await manager.get_client(name)


async def real_usage(client: NoriKVClient, tenant: TenantClient) -> tuple[int, int]:
    """Keys and bytes as the tenant's own keys say."""
    names = {name async for name in tenant.scan()}
    values = [(await tenant.get(name)).value for name in names]
    return len(names), sum(map(len, names)) + sum(map(len, values))


# -- the attack on the limits ----------------------------------------------------


def attack(server: ServerProcess, worker: str, **options: object) -> None:
    """Connections break all the time, a client and the server are killed."""
    with shaky(server.port) as url, Crew(worker, url, 3, times=TIMES, **options) as crew:
        crew.wait_for(TIMES // 2)
        crew.kill(0)
        server.restart(clean=False)
        crew.finish()


@pytest.mark.parametrize("ttls", [[None], [None, 1, 30]], ids=["keys stay", "keys expire"])
def test_limits_hold_and_the_count_is_exact(
    own_server: ServerProcess, ttls: list[int | None]
) -> None:
    url = f"redis://127.0.0.1:{own_server.port}"

    async def prepare() -> None:
        async with stubborn(url) as client:
            await tenant_of(client)

    async def judge() -> None:
        async with stubborn(url) as client:
            tenant = await tenant_of(client)
            await asyncio.sleep(0.05)  # all that could expire has
            usage = await tenant.usage()
            assert (usage.keys, usage.bytes) == await real_usage(client, tenant)
            assert 0 < usage.keys <= 60 and usage.bytes <= 2_000
            assert usage.expires_at == 0

    asyncio.run(prepare())
    attack(own_server, "write_as_tenant", ttls=ttls)
    asyncio.run(judge())


def test_count_then_put_exceeds_its_limit_under_the_same_attack(own_server: ServerProcess) -> None:
    attack(own_server, "count_then_put")
    assert len(own_server.ask("KEYS", "naive:*")) > TINY.max_keys


def test_both_limits_and_the_room_that_deletes_make(run: Run) -> None:
    async def scene(client: NoriKVClient) -> None:
        tenant = await tenant_of(client)
        outcomes = await asyncio.gather(
            *(tenant.put(f"{n:02}", b"x") for n in range(80)), return_exceptions=True
        )
        assert sum(isinstance(each, QuotaExceededError) for each in outcomes) == 20
        assert await tenant.usage() == Usage(60, 180)
        await tenant.put("00", b"x" * 1_000)  # replacing needs no new key
        with pytest.raises(QuotaExceededError) as caught:
            await tenant.put("01", b"x" * 1_000)
        assert (caught.value.limit, caught.value.maximum) == ("bytes", 2_000)
        with pytest.raises(QuotaExceededError) as caught:
            await tenant.put("new", b"")
        assert (caught.value.limit, caught.value.maximum) == ("keys", 60)
        assert await tenant.delete("02")
        assert not await tenant.delete("02")
        await tenant.put("new", b"")
        assert await tenant.usage() == Usage(60, 180 + 999 - 3 + 3)
        assert (await tenant.usage(), await real_usage(client, tenant)) == (
            await TenantManager(client).usage("acme"),
            (60, 1179),
        )

    run(scene)


def test_what_expires_makes_room(run: Run) -> None:
    async def scene(client: NoriKVClient) -> None:
        tenant = await tenant_of(client)
        await asyncio.gather(
            *(tenant.put(f"{n}", b"x", PutOptions(ttl_ms=40)) for n in range(30)),
            *(tenant.put(f"k{n}", b"x") for n in range(30)),
        )
        with pytest.raises(QuotaExceededError):
            await tenant.put("new", b"x")
        await asyncio.sleep(0.06)
        await asyncio.gather(*(tenant.put(f"new{n}", b"x") for n in range(30)))
        with pytest.raises(QuotaExceededError):
            await tenant.put("one more", b"x")
        usage = await tenant.usage()
        assert (usage.keys, usage.bytes) == await real_usage(client, tenant)

    run(scene)


# -- options -----------------------------------------------------------------------


def test_put_and_delete_have_the_options_of_the_plain_client(run: Run) -> None:
    async def scene(client: NoriKVClient) -> None:
        tenant = await tenant_of(client)
        version = await tenant.put("k", "text", PutOptions(if_not_exists=True))
        assert (await tenant.get("k")).version == version
        with pytest.raises(AlreadyExistsError):
            await tenant.put("k", b"", PutOptions(if_not_exists=True))
        with pytest.raises(VersionMismatchError) as caught:
            await tenant.put("k", b"", PutOptions(if_match_version=Version(1, 1)))
        assert caught.value.actual_version == version
        newer = await tenant.put("k", b"new", PutOptions(if_match_version=version))
        with pytest.raises(VersionMismatchError):
            await tenant.delete("k", DeleteOptions(if_match_version=version))
        assert await tenant.delete("k", DeleteOptions(if_match_version=newer))
        with pytest.raises(VersionMismatchError) as caught:
            await tenant.put("k", b"", PutOptions(if_match_version=newer))
        assert caught.value.actual_version is None
        with pytest.raises(KeyNotFoundError):
            await tenant.get("k")
        assert await tenant.usage() == Usage()
        assert tenant.get_tenant_id() == "acme"

    run(scene)


def test_an_idempotency_key_makes_a_write_happen_once(run: Run) -> None:
    async def scene(client: NoriKVClient) -> None:
        tenant = await tenant_of(client)
        once = PutOptions(idempotency_key="t", if_not_exists=True)
        version = await tenant.put("k", b"one", once)
        assert await tenant.put("k", b"one", once) == version
        await tenant.put("k", b"later")
        assert await tenant.put("k", b"one", once) == version
        assert (await tenant.get("k")).value == b"later"
        with pytest.raises(IdempotencyMismatchError):
            await tenant.put("k", b"two", once)
        with pytest.raises(IdempotencyMismatchError):
            await tenant.delete("k", DeleteOptions(idempotency_key="t"))
        gone = DeleteOptions(idempotency_key="d")
        assert [await tenant.delete("k", gone) for _ in range(2)] == [True, True]
        await tenant.put("k", b"again")
        assert await tenant.delete("k", gone)
        assert (await tenant.get("k")).value == b"again"
        assert await tenant.usage() == Usage(1, 6)

    run(scene)


def test_concurrent_writes_to_one_key_are_judged_one_after_the_other(run: Run) -> None:
    async def scene(client: NoriKVClient) -> None:
        tenant = await tenant_of(client)
        only = PutOptions(if_not_exists=True)
        outcomes = await asyncio.gather(
            *(tenant.put("k", f"{n}", only) for n in range(10)),
            *(tenant.delete("k") for _ in range(2)),
            return_exceptions=True,
        )
        kinds = [type(each) for each in outcomes]
        assert kinds == [Version] + [AlreadyExistsError] * 9 + [bool] * 2
        assert outcomes[10:] == [True, False]
        assert await tenant.usage() == Usage()

    run(scene)


def test_a_key_that_expires_before_the_write_is_a_mismatch(run: Run) -> None:
    """Between the decision and the transaction the key goes: the decision is made again."""

    async def scene(client: NoriKVClient) -> None:
        tenant = await tenant_of(client)
        version = await tenant.put("k", b"v")
        (name,) = await client.execute("KEYS", "*:d:k")
        write, calls = client.transaction, 0

        async def meddle(*args: Any, **more: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 2:
                await client.execute("DEL", name)
            return await write(*args, **more)

        client.transaction = meddle  # type: ignore[method-assign]
        with pytest.raises(VersionMismatchError) as caught:
            await tenant.put("k", b"new", PutOptions(if_match_version=version))
        assert (caught.value.actual_version, calls) == (None, 3)

    run(scene)


# -- apart from each other -----------------------------------------------------------

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6) | st.sampled_from(
    ["a", "a:", "a:d", "*", "a*", "[a-z]", "a%3A", "%", "..", "a b", "a\n", "~", "\\", "ä", "\0"]
)
keys = st.binary(max_size=6) | st.sampled_from([b"", b":", b"*", b"usage", b"\r\n", b"a:d:k", b"?"])


@given(pair=st.tuples(names, names).filter(lambda pair: pair[0] != pair[1]), key=keys)
@examples(25)
def test_names_and_keys_break_out_of_nothing(
    shared_server: ServerProcess, pair: tuple[str, str], key: bytes
) -> None:
    shared_server.ask("FLUSHALL")

    async def scene() -> None:
        async with stubborn(f"redis://127.0.0.1:{shared_server.port}") as client:
            manager = TenantManager(client)
            mine, theirs = [await tenant_of(client, name) for name in pair]
            await mine.put(key, b"mine")
            with pytest.raises(KeyNotFoundError):
                await theirs.get(key)
            await theirs.put(key, b"theirs")
            assert (await mine.get(key)).value == b"mine"
            assert [name async for name in mine.scan()] == [key]

            user = await manager.create_user(pair[0])
            own, other = [await manager.get(name) for name in pair]
            assert own is not None and other is not None
            login = redis.Redis(
                port=shared_server.port, username=user.username, password=user.password
            )
            assert login.get(manager.key_prefix(own) + key) == b"mine"
            layouts = [f"tenants:{tenant_writes.part(name)}" for name in pair]
            for hidden in (
                manager.key_prefix(other) + key,
                manager.key_prefix(own)[:-3] + b":usage",
                *layouts,
                b"",
            ):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    login.get(hidden)
            for command in (
                ("KEYS", "*"),
                ("SCAN", "0"),
                ("DBSIZE",),
                ("RANDOMKEY",),
                ("SET", manager.key_prefix(own) + key, "x"),
                ("DEL", manager.key_prefix(own) + key),
                ("ACL", "LIST"),
                ("CONFIG", "GET", "*"),
                ("MONITOR",),
                ("PUBLISH", "c", "m"),
                ("FLUSHALL",),
            ):
                with pytest.raises(redis.exceptions.ResponseError):
                    login.execute_command(*command)
            login.close()

            assert await manager.delete(pair[0])
            assert (await theirs.get(key)).value == b"theirs"
            assert await theirs.usage() == Usage(1, len(key) + 6)
            assert await manager.delete(pair[1])
            assert await client.execute("KEYS", "*") == []
            assert await client.execute("ACL", "USERS") == [b"default"]

    asyncio.run(scene())


# -- creating and deleting -----------------------------------------------------------


def test_nothing_is_left_of_a_tenant_deleted_while_others_write(url: str, run: Run) -> None:
    async def scene(client: NoriKVClient) -> None:
        await TenantManager(client).create("acme", "Acme", "enterprise")
        await TenantManager(client).create_user("acme")
        await (await tenant_of(client, "acme2")).put("k", b"v")
        with Crew("write_until_gone", url, 3) as crew:
            await asyncio.to_thread(crew.wait_for, 150)
            assert await TenantManager(client).delete("acme")
            await asyncio.to_thread(crew.finish)
        assert await TenantManager(client).get("acme") is None
        assert not await TenantManager(client).delete("acme")
        left = await client.execute("KEYS", "*")
        assert all(key.startswith(b"tenants:acme2") for key in left)

    run(scene)


def test_a_deletion_that_was_killed_is_finished_by_the_next(url: str, run: Run) -> None:
    async def scene(client: NoriKVClient) -> None:
        manager = TenantManager(client)
        await manager.create("acme", "Acme", "enterprise")
        old = await manager.get_client("acme")
        await asyncio.gather(*(old.put(f"{n}", b"x") for n in range(6_000)))
        with Crew("delete_tenant", url, 1) as crew:
            await asyncio.to_thread(crew.wait_for, 1)
            while await manager.get("acme") is not None:
                pass
            crew.kill(0)
        # The tenant is gone from the first moment, and may come back at once as a new one.
        new_metadata = await manager.create("acme", "New", "free")
        new = await manager.get_client("acme")
        await new.put("k", b"new")
        with pytest.raises(TenantNotFoundError):
            await old.put("late", b"x")
        await manager.purge()
        assert await manager.purge() == 0
        assert (await new.get("k")).value == b"new"
        assert await new.usage() == Usage(1, 4)
        prefix = manager.key_prefix(new_metadata)[: -len(b"d:")]
        left = await client.execute("KEYS", "*")
        assert all(key == b"tenants:acme" or key.startswith(prefix) for key in left)

    run(scene)


def test_a_walk_goes_on_after_a_restart(own_server: ServerProcess) -> None:
    """The server forgets its cursors; a deletion or a count must not fail for that."""

    async def scene() -> None:
        async with stubborn(f"redis://127.0.0.1:{own_server.port}") as client:
            tenant = await tenant_of(client, plan="enterprise")
            names = {b"%d" % number for number in range(1_200)}
            await asyncio.gather(*(tenant.put(name, b"x") for name in names))
            found = set()
            async for name in tenant.scan():
                if not found:
                    await asyncio.to_thread(own_server.restart, False)
                found.add(name)
            assert found == names
            assert await TenantManager(client).delete("acme")
            assert await client.execute("DBSIZE") == 0

    asyncio.run(scene())


def test_creating_judges_its_arguments(run: Run) -> None:
    async def scene(client: NoriKVClient) -> None:
        manager = TenantManager(client)
        made = await manager.create("acme", "Acme Corp", "pro")
        assert await manager.get("acme") == made
        assert made.limits == Plan(100_000, 1_000 * 1024 * 1024)
        with pytest.raises(AlreadyExistsError):
            await manager.create("acme", "Again", "free")
        with pytest.raises(ValueError, match="no plan"):
            await manager.create("other", "Other", "gold")
        with pytest.raises(ValueError, match="empty"):
            await manager.create("", "Nobody", "free")
        assert await manager.get("other") is None
        for call in (manager.get_client, manager.usage, manager.create_user):
            with pytest.raises(TenantNotFoundError):
                await call("other")
        both: list[Any] = await asyncio.gather(
            manager.create("two", "Two"), manager.create("two", "Two"), return_exceptions=True
        )
        assert sum(isinstance(each, AlreadyExistsError) for each in both) == 1

    run(scene)


def test_a_count_that_was_damaged_is_made_anew(run: Run) -> None:
    async def scene(client: NoriKVClient) -> None:
        tenant = await tenant_of(client)
        await tenant.put("k", b"value")
        (usage_key,) = await client.execute("KEYS", "tenants:*:usage")
        wrong = {"keys": 60, "bytes": 9, "expires_at": 1}
        await client.put(usage_key, json.dumps(wrong))
        await tenant.put("new", b"")
        assert await tenant.usage() == Usage(2, 9)

    run(scene)
