"""The server that pattern tests attack."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from norikv_resp.client import NoriKVClient
from tests.conftest import StartServer
from tests.patterns.crew import stubborn
from tests.support.server import ServerProcess

#: ``run(test)`` awaits ``test(client)``, the client connected to the shared server.
Run = Callable[[Callable[[NoriKVClient], Coroutine[Any, Any, Any]]], Any]


@pytest.fixture
def own_server(start_server: StartServer) -> ServerProcess:
    """A server that the test may kill."""
    return start_server()


@pytest.fixture
def url(server: ServerProcess) -> str:
    return f"redis://127.0.0.1:{server.port}"


@pytest.fixture
def run(url: str) -> Run:
    def run_test(test: Callable[[NoriKVClient], Coroutine[Any, Any, Any]]) -> Any:
        async def connected() -> Any:
            async with stubborn(url) as client:
                return await asyncio.wait_for(test(client), 50)

        return asyncio.run(connected())

    return run_test
