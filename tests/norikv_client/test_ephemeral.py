"""Temporary servers: what they are, what stays of them, and what happens when they cannot be."""

from __future__ import annotations

import asyncio
import gc
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from norikv_resp import private_server
from norikv_resp.client import (
    EphemeralNoriKV,
    EphemeralServerError,
    KeyNotFoundError,
    NoriKVClient,
    NoriKVError,
    create_ephemeral,
)
from norikv_resp.private_server import PrivateServer, PrivateServerError
from tests.support.server import ROOT, ServerProcess

pytestmark = pytest.mark.norikv


def test_two_temporary_servers_have_nothing_in_common() -> None:
    async def main() -> None:
        async with create_ephemeral() as one, create_ephemeral(total_shards=128) as two:
            assert one.port != two.port
            assert (one.total_shards, two.total_shards) == (256, 128)
            client = one.get_client()
            assert one.get_client() is client and two.get_client() is not client
            async with client, two.get_client() as other:
                version = await client.put("k", "one")
                assert version.term > 0 and (await client.get("k")).version == version
                with pytest.raises(KeyNotFoundError):
                    await other.get("k")
                assert len(other.get_cluster_view().shards) == 128
            async with NoriKVClient.from_url(one.url) as more:
                assert (await more.get("k")).value == b"one"
            folder = home(one)
            assert folder.exists()
            url = one.url
        assert not folder.exists() and not client.is_connected()
        with pytest.raises(NoriKVError):
            await NoriKVClient.from_url(url).connect()

    asyncio.run(main())


def home(cluster: EphemeralNoriKV) -> Path:
    """The folder that goes with a running server."""
    assert cluster._server is not None
    return Path(cluster._server.url.removeprefix("unix://")).parent


def test_a_life_by_hand(tmp_path: Path) -> None:
    async def main() -> None:
        data, log = tmp_path / "deep" / "data", tmp_path / "log"
        cluster = EphemeralNoriKV(
            data_dir=str(data), server_binary="anything", log_file=str(log), startup_timeout=30.0
        )
        with pytest.raises(EphemeralServerError, match="not started"):
            cluster.get_client()
        await cluster.stop()
        await cluster.start()
        with pytest.raises(EphemeralServerError, match="already started"):
            await cluster.start()
        await cluster.get_client().put("k", b"v")
        await cluster.stop()
        await cluster.stop()
        with pytest.raises(EphemeralServerError, match="not started"):
            cluster.get_client()
        await cluster.start()  # on the data that it was told to keep
        assert (await cluster.get_client().get("k")).value == b"v"
        await cluster.stop()
        assert data.is_dir() and str(cluster.port) in log.read_text()

    asyncio.run(main())


def test_a_port_that_somebody_else_has_is_an_error_with_the_reason(server: ServerProcess) -> None:
    """The other one answers a PING as well."""

    async def main() -> None:
        cluster = EphemeralNoriKV(port=server.port)
        with pytest.raises(EphemeralServerError, match="can't listen on"):
            await cluster.start()
        with pytest.raises(EphemeralServerError, match="not started"):
            cluster.get_client()

    asyncio.run(main())


def test_a_directory_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    async def main() -> None:
        with pytest.raises(EphemeralServerError, match="cannot be started"):
            async with create_ephemeral(data_dir=str(tmp_path / "file" / "data")):
                pass
        with pytest.raises(EphemeralServerError, match="did not answer within 0 s"):
            async with create_ephemeral(startup_timeout=0):
                pass

    asyncio.run(main())


def test_a_start_that_is_cancelled_leaves_no_process() -> None:
    async def main() -> None:
        task = asyncio.create_task(EphemeralNoriKV().start())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    before = children()
    asyncio.run(main())
    assert children() <= before


def children() -> set[str]:
    """The processes that this one has started and that still run."""
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        pytest.skip("no /proc to look for processes in")
    return {pid for file in tasks.glob("*/children") for pid in file.read_text().split()}


def test_a_server_that_nobody_stops_ends_with_the_program(tmp_path: Path) -> None:
    program = (
        "import asyncio\n"
        "from norikv_resp.client import EphemeralNoriKV\n"
        f"cluster = EphemeralNoriKV(log_file={str(tmp_path / 'log')!r})\n"
        "asyncio.run(cluster.start())\n"
        "print(cluster._server._process.pid, cluster._server.url)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    pid, url = done.stdout.split()
    assert done.stderr == ""
    assert not Path(f"/proc/{pid}").exists()
    assert not Path(url.removeprefix("unix://")).parent.exists()


def test_a_server_ends_with_its_object() -> None:
    before = children()
    server = PrivateServer("--loglevel", "warning")
    with server:
        server.stop()
        with pytest.raises(PrivateServerError, match="ended with status"):
            server.ready()
    server = PrivateServer()
    server.launch()
    assert children() > before
    del server
    gc.collect()
    assert children() <= before


def test_a_server_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_server, "STOP_PATIENCE", 0.1)
    with PrivateServer() as server:
        server._process.send_signal(signal.SIGSTOP)
        server.stop()
        assert server._process.returncode == -signal.SIGKILL
