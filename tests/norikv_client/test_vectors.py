"""The vector methods, against the real server, with NoriKV's distances."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import Redis

from norikv_resp.client import (
    CreateVectorIndexOptions,
    DistanceFunction,
    DropVectorIndexOptions,
    InvalidArgumentError,
    NoriKVClient,
    NotFoundError,
    VectorDeleteOptions,
    VectorDimensionMismatchError,
    VectorIndexAlreadyExistsError,
    VectorIndexNotFoundError,
    VectorIndexType,
    VectorInsertOptions,
    VectorSearchOptions,
    WrongTypeError,
    as_client,
)
from tests.norikv_client.conftest import MakeClient
from tests.norikv_client.test_exactly_once import staged
from tests.support.cutting_proxy import Cut
from tests.support.server import ServerProcess

pytestmark = pytest.mark.norikv

Steps = Callable[[NoriKVClient], Awaitable[None]]

VECTORS = {"a": [1.0, 0.0, 0.0], "b": [0.0, 2.0, 0.0], "c": [3.0, 4.0, 0.0]}
QUERY = [2.0, 1.0, 0.5]


@pytest.fixture(params=["own pool", "resp3"])
def run(
    request: pytest.FixtureRequest, server: ServerProcess, make_client: MakeClient
) -> Callable[[Steps], None]:
    """Runs steps with a client, its own or one over a plain Redis that speaks RESP3."""

    def run_steps(steps: Steps) -> None:
        async def main() -> None:
            if request.param == "own pool":
                async with make_client() as client:
                    await steps(client)
            else:
                async with Redis(port=server.port, protocol=3) as redis:
                    await steps(as_client(redis))

        asyncio.run(main())

    return run_steps


Run = Callable[[Steps], None]


def expected(distance: DistanceFunction, vector: list[float]) -> float:
    """NoriKV's distance of *vector* from the query."""
    dot = sum(x * y for x, y in zip(vector, QUERY, strict=True))
    if distance is DistanceFunction.EUCLIDEAN:
        return math.dist(vector, QUERY)
    if distance is DistanceFunction.INNER_PRODUCT:
        return -dot
    return 1 - dot / math.hypot(*vector) / math.hypot(*QUERY)


@pytest.mark.parametrize("index_type", VectorIndexType)
@pytest.mark.parametrize("distance", DistanceFunction)
def test_search(run: Run, distance: DistanceFunction, index_type: VectorIndexType) -> None:
    async def steps(client: NoriKVClient) -> None:
        assert await client.vector_create_index("v", 3, distance, index_type) is True
        assert await client.vector_create_index("v", 3, distance, index_type) is False
        versions = [await client.vector_insert("v", *each) for each in VECTORS.items()]
        assert sorted(versions) == versions
        result = await client.vector_search("v", QUERY, 2)
        order = sorted(VECTORS, key=lambda name: expected(distance, VECTORS[name]))
        assert [match.id for match in result.matches] == order[:2]
        for match in result.matches:
            assert match.distance == pytest.approx(expected(distance, VECTORS[match.id]), abs=1e-5)
            assert match.vector is None
        assert result.search_time_us > 0
        for options in (True, VectorSearchOptions(include_vectors=True)):
            found = (await client.vector_search("v", QUERY, 9, options)).matches
            assert {match.id: match.vector for match in found} == VECTORS
        by_keyword = await client.vector_search(
            "v", QUERY, k=1, options=VectorSearchOptions(include_vectors=True)
        )
        assert by_keyword.matches[0].vector == VECTORS[order[0]]

    run(steps)


def test_get_replace_delete_drop(run: Run) -> None:
    async def steps(client: NoriKVClient) -> None:
        await client.vector_create_index(
            "v", 3, DistanceFunction.COSINE, VectorIndexType.BRUTE_FORCE
        )
        await client.vector_insert("v", "ä", [0.25, 1.5, -2.0])
        assert await client.vector_get("v", "ä") == [0.25, 1.5, -2.0]
        await client.vector_insert("v", "ä", [1.0, 1.0, 1.0])
        assert await client.vector_get("v", "ä") == [1.0, 1.0, 1.0]
        assert len((await client.vector_search("v", QUERY, 5)).matches) == 1
        assert await client.vector_get("v", "b") is None
        assert await client.vector_delete("v", "b") is False
        assert await client.vector_delete("v", "ä") is True
        assert (await client.vector_search("v", QUERY, 5)).matches == []
        assert await client.vector_drop_index("v") is True
        assert await client.vector_drop_index("v") is False

    run(steps)


def test_an_index_that_is_not_there(run: Run) -> None:
    async def steps(client: NoriKVClient) -> None:
        for call in (
            client.vector_insert("nope", "a", QUERY),
            client.vector_search("nope", QUERY, 1),
        ):
            with pytest.raises(VectorIndexNotFoundError) as caught:
                await call
            assert caught.value.id == "nope"
            assert isinstance(caught.value, NotFoundError)
        assert await client.vector_get("nope", "a") is None
        assert await client.vector_delete("nope", "a") is False
        assert await client.execute("EXISTS", "nope") == 0

    run(steps)


def test_an_insert_makes_no_index_in_the_place_of_one_that_somebody_else_has_dropped(
    run: Run, make_client: MakeClient
) -> None:
    async def steps(client: NoriKVClient) -> None:
        await client.vector_create_index("v", 3)
        await client.vector_insert("v", "a", QUERY)
        async with make_client() as other:
            assert await other.vector_drop_index("v") is True
        with pytest.raises(VectorIndexNotFoundError) as caught:
            await client.vector_insert("v", "a", QUERY)
        assert caught.value.id == "v"
        assert await client.execute("EXISTS", "v") == 0

    run(steps)


def test_what_does_not_fit(run: Run) -> None:
    async def steps(client: NoriKVClient) -> None:
        await client.vector_create_index("v", 3, DistanceFunction.COSINE, VectorIndexType.HNSW)
        with pytest.raises(VectorIndexAlreadyExistsError):
            await client.vector_create_index("v", 4, DistanceFunction.COSINE, VectorIndexType.HNSW)
        await client.vector_insert("v", "a", QUERY)
        with pytest.raises(VectorDimensionMismatchError):
            await client.vector_insert("v", "a", [1.0])
        with pytest.raises(VectorDimensionMismatchError):
            await client.vector_search("v", [1.0], 1)
        await client.put("s", b"a string")
        with pytest.raises(WrongTypeError):
            await client.vector_insert("s", "a", QUERY)
        for call in (
            client.vector_create_index("w", 0),
            client.vector_create_index("", 3),
            client.vector_insert("v", "", QUERY),
            client.vector_insert("v", "a", []),
            client.vector_search("v", [], 1),
            client.vector_search("v", QUERY, 0),
        ):
            with pytest.raises(InvalidArgumentError):
                await call

    run(steps)


def test_idempotency_keys(run: Run) -> None:
    async def steps(client: NoriKVClient) -> None:
        made = CreateVectorIndexOptions("create")
        for _ in range(2):
            assert await client.vector_create_index("v", 3, options=made) is True
        inserted = VectorInsertOptions("insert")
        first = await client.vector_insert("v", "a", QUERY, inserted)
        await client.vector_insert("v", "a", VECTORS["b"])
        assert await client.vector_insert("v", "a", QUERY, inserted) == first
        assert await client.vector_get("v", "a") == VECTORS["b"]
        for _ in range(2):
            assert await client.vector_delete("v", "a", VectorDeleteOptions("delete")) is True
        for _ in range(2):
            assert await client.vector_drop_index("v", DropVectorIndexOptions("drop")) is True

    run(steps)


def test_an_insert_whose_connection_is_cut_anywhere_happens_once(server: ServerProcess) -> None:
    async def main() -> None:
        async with staged(server) as stage:
            proxy, client = stage.proxy, stage.client
            await client.vector_create_index("k", 3)
            proxy.arm()
            await client.vector_insert("k", "a", QUERY)
            cuts = [Cut(request=at) for at in range(1, proxy.requested + 1, 5)]
            cuts += [Cut(request=proxy.requested), Cut(reply=1), Cut(reply=proxy.replied)]
            for cut in cuts:
                await client.execute("PING")
                await stage.witness.changes()
                proxy.arm(cut)
                version = await client.vector_insert("k", "a", QUERY)
                assert proxy.cuts == 1
                assert str(version).encode() == await stage.direct.execute("VER", "k")
                assert await stage.witness.changes() == 1

    asyncio.run(main())
