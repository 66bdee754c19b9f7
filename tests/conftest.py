"""Fixtures shared by all suites. What a test asks for by name:

``server``        the server of the whole run, emptied before each test
``start_server``  start servers of one's own: ``start_server(appendfsync="no")``
``connect``       raw RESP connections to ``server`` (or any): ``connect(3)``
``wire``          one raw connection, once per protocol
``redis_client``  redis-py on ``server``, once per protocol
``peer``          a Redis or Valkey to compare with, emptied before each test

``NORIKV_TEST_SERVER`` names another server to test, ``NORIKV_TEST_PEER`` another peer.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
import redis

from tests.support import tools
from tests.support.resp import Wire
from tests.support.server import ServerDiedError, ServerProcess, is_foreign

pytest_plugins = ["tests.support.limits", "tests.support.summary"]

StartServer = Callable[..., ServerProcess]
Connect = Callable[..., Wire]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "limit(seconds): how long the test may take (default 60)")
    config.addinivalue_line("markers", "slow: takes more than ten seconds; make test runs it")
    config.addinivalue_line("markers", "norikv: uses commands that only NoriKV has")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not is_foreign():
        return
    skip = pytest.mark.skip(reason="the server under test is not NoriKV")
    for item in items:
        if item.get_closest_marker("norikv"):
            item.add_marker(skip)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows the log of every server that it used."""
    report = yield
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            servers = value if isinstance(value, list) else [value]
            for server in servers:
                if isinstance(server, ServerProcess):
                    report.sections.append((f"log of {name} {server!r}", server.log_tail(60)))
    return report


# -- the server under test ---------------------------------------------------


@pytest.fixture(scope="session")
def shared_server() -> Iterator[ServerProcess]:
    with ServerProcess() as process:
        yield process


@pytest.fixture
def server(shared_server: ServerProcess) -> Iterator[ServerProcess]:
    """The shared server, empty; a test that ends it fails, and the next one gets a new start."""
    if not shared_server.alive:
        shared_server.start()
    with shared_server.wire(timeout=30.0) as wire:
        wire.ok("FLUSHALL")
    yield shared_server
    if not shared_server.alive:
        log = shared_server.log_tail()
        raise ServerDiedError(f"the shared server ended during the test\n{log}")


@pytest.fixture
def started_servers() -> Iterator[list[ServerProcess]]:
    processes: list[ServerProcess] = []
    yield processes
    for process in processes:
        process.close()


@pytest.fixture
def start_server(started_servers: list[ServerProcess]) -> StartServer:
    """Starts servers with data directories of their own; all end with the test."""

    def start(*extra: str, **options: Any) -> ServerProcess:
        process = ServerProcess(*extra, start=False, **options)
        started_servers.append(process)
        return process.start()

    return start


# -- clients -----------------------------------------------------------------


@pytest.fixture
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Opens raw connections, to the shared server unless told; all end with the test."""
    wires: list[Wire] = []

    def open_wire(resp: int = 2, to: ServerProcess | None = None, **more: Any) -> Wire:
        target = to if to is not None else request.getfixturevalue("server")
        wires.append(target.wire(resp, **more))
        return wires[-1]

    yield open_wire
    for wire in wires:
        wire.close()


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def resp(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


@pytest.fixture
def wire(connect: Connect, resp: int) -> Wire:
    return connect(resp)


@pytest.fixture
def redis_client(server: ServerProcess, resp: int) -> Iterator[redis.Redis]:
    client = redis.Redis(port=server.port, protocol=resp, socket_timeout=20.0)
    yield client
    client.close()


# -- the peer ----------------------------------------------------------------


@pytest.fixture(scope="session")
def peer_process() -> Iterator[ServerProcess]:
    command = tools.peer_command()
    if command is None:
        pytest.skip(tools.why_missing("peer"))
    with ServerProcess(command=command) as process:
        yield process


@pytest.fixture
def peer(peer_process: ServerProcess) -> ServerProcess:
    with peer_process.wire() as wire:
        wire.ok("FLUSHALL")
    return peer_process
