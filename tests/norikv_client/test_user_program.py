"""A user's program runs, and is typed through and through."""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys

import pytest
from redis.asyncio import Redis

from norikv_resp.client import PutOptions, as_client, errors
from tests.norikv_client import user_program
from tests.support.server import ROOT, ServerProcess

pytestmark = pytest.mark.norikv


def test_it_runs(server: ServerProcess) -> None:
    asyncio.run(user_program.main(f"redis://127.0.0.1:{server.port}"))


@pytest.mark.limit(180)
def test_it_is_typed() -> None:
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(user_program.__file__)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("decode", [False, True], ids=["bytes", "text"])
def test_a_plain_redis_of_any_kind_can_be_wrapped(
    server: ServerProcess, protocol: int, decode: bool
) -> None:
    async def main() -> None:
        redis = Redis(port=server.port, protocol=protocol, decode_responses=decode)
        client = as_client(redis)
        version = await client.put("k", b"\xff")
        assert (await client.get("k")).value == b"\xff"
        assert await client.execute("CONFIG", "GET", "maxmemory") == [b"maxmemory", b"0"]
        assert await client.execute("INCRBYFLOAT", "f", 1.5) == b"1.5"
        assert await client.transaction([["INCR", "n"], ["GET", "k"]], {"k": version}) == [
            1,
            b"\xff",
        ]
        with pytest.raises(errors.VersionMismatchError):
            await client.put("k", b"", PutOptions(if_match_version=errors.Version(1, 1)))
        await client.close()  # the pool is not the client's
        assert await redis.ping()
        await redis.aclose()

    asyncio.run(main())


def test_more_calls_than_a_wrapped_redis_has_connections_wait(server: ServerProcess) -> None:
    async def main() -> None:
        redis = Redis(port=server.port, max_connections=2)
        client = as_client(redis)
        totals = await asyncio.gather(*(client.execute("INCR", "n") for _ in range(40)))
        assert sorted(totals) == list(range(1, 41))
        await redis.aclose()

    asyncio.run(main())
