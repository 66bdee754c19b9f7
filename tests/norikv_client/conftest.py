"""``client`` for tests of the client: made in the test's own loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from norikv_resp.client import ClientConfig, NoriKVClient, RetryConfig
from tests.support.server import ServerProcess

MakeClient = Callable[..., NoriKVClient]

#: Retries that do not keep a test waiting.
QUICK = RetryConfig(max_attempts=4, initial_delay_ms=1, jitter_ms=0, max_delay_ms=5)


@pytest.fixture
def make_client(server: ServerProcess) -> MakeClient:
    """A client of the shared server, or of another port; the test closes it."""

    def make(port: int | None = None, **config: Any) -> NoriKVClient:
        config.setdefault("retry", QUICK)
        address = f"127.0.0.1:{port if port is not None else server.port}"
        return NoriKVClient(ClientConfig(nodes=[address], **config))

    return make
