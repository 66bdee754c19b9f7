"""redis-py's own client of vector sets, blocking and asyncio."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis
import redis.asyncio

from tests.support.server import ServerProcess


def test_the_blocking_client(redis_client: redis.Redis, resp: int) -> None:
    sets = redis_client.vset()
    assert sets.vadd("k", [1.0, 0.0], "east", quantization=None)
    assert sets.vadd("k", [0.0, 1.0], "north", attributes={"year": 1990})
    assert sets.vadd("k", b"\0\0\x80?\0\0\x80?", "ne", attributes={"year": 2000})
    assert sets.vcard("k") == 3 and sets.vdim("k") == 2
    assert sets.vsim("k", [1.0, 0.1]) == [b"east", b"ne", b"north"]
    scores: Any = sets.vsim("k", "east", with_scores=True, count=1)
    assert scores == {b"east": pytest.approx(1.0)}
    both: Any = sets.vsim(
        "k", [1.0, 0.1], with_scores=True, with_attribs=True, filter=".year >= 2000", truth=True
    )
    assert list(both) == [b"ne"] and both[b"ne"]["attributes"] == {"year": 2000}
    assert sets.vsim("k", [1.0, 0.1], epsilon=0.2, no_thread=True, ef=50) == [b"east", b"ne"]
    assert sets.vgetattr("k", "north") == {"year": 1990}
    assert sets.vsetattr("k", "north", {})
    assert sets.vgetattr("k", "north") is None
    assert sets.vemb("k", "east") == [1.0, 0.0]
    raw: Any = sets.vemb("k", "east", raw=True)
    assert raw["quantization"] in (b"int8", "int8") and raw["l2"] == 1.0 and raw["range"] == 1.0
    links: Any = sets.vlinks("k", "east", with_scores=True)
    assert set(links[0]) == {b"ne", b"north"}
    info: Any = sets.vinfo("k")
    assert info[b"size"] == 3 and info[b"attributes-count"] == 2
    assert sets.vrandmember("k") in (b"east", b"ne", b"north")
    assert sets.vrange("k", "[n", "+") == [b"ne", b"north"]
    assert sets.vrem("k", "east") and not sets.vrem("k", "east")
    assert redis_client.execute_command("VSEARCH", "k", 1, "ELE", "ne")[0] == b"ne"


@pytest.mark.parametrize("resp", [2, 3])
def test_the_asyncio_client(server: ServerProcess, resp: int) -> None:
    async def talk() -> None:
        async with redis.asyncio.Redis(port=server.port, protocol=resp) as client:
            sets = client.vset()
            await asyncio.gather(
                *(sets.vadd("k", [float(n), 1.0], f"id{n}") for n in range(50)),
            )
            assert await sets.vcard("k") == 50
            found = await asyncio.gather(
                *(sets.vsim("k", [float(n), 1.0], count=1) for n in range(50))
            )
            assert found == [[b"id%d" % n] for n in range(50)]

    asyncio.run(talk())
