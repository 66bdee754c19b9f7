"""Nodes that do not serve: they are loading, are no leader, stay silent; and one behind TLS."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from norikv_resp.client import (
    ClientConfig,
    NoriKVClient,
    NotLeaderError,
    RetryConfig,
    errors,
)
from tests.norikv_client.conftest import QUICK
from tests.support.server import ServerProcess

pytestmark = pytest.mark.norikv

#: What a node says to a command, by the command's name; None for nothing at all.
Answer = Callable[[bytes], bytes | None]


@asynccontextmanager
async def node(answer: Answer) -> AsyncIterator[str]:
    """The address of something that speaks RESP and answers what it is told to."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while header := await reader.readline():
                words = []
                for _ in range(int(header[1:])):
                    size = int((await reader.readline())[1:])
                    words.append((await reader.readexactly(size + 2))[:-2])
                reply = b"+OK\r\n" if words[0] == b"CLIENT" else answer(words[0].upper())
                if reply is not None:
                    writer.write(reply)
        except (asyncio.IncompleteReadError, ConnectionResetError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def test_a_node_that_takes_no_writes_is_left(server: ServerProcess) -> None:
    async def main() -> None:
        async with node(lambda name: b"-READONLY You can't write against a replica.\r\n") as first:
            nodes = [first, f"127.0.0.1:{server.port}"]
            client = NoriKVClient(ClientConfig(nodes, retry=QUICK))
            version = await client.put("k", b"v")
            assert (await client.get("k")).version == version
            assert client.get_cluster_view().epoch == 2
            await client.close()
            stay = RetryConfig(max_attempts=4, retry_on_not_leader=False)
            client = NoriKVClient(ClientConfig(nodes, retry=stay))
            with pytest.raises(NotLeaderError) as caught:
                await client.put("k", b"v")
            assert not caught.value.outcome_unknown
            await client.close()

    asyncio.run(main())


def test_a_node_that_is_loading_is_asked_again() -> None:
    asked = []

    def answer(name: bytes) -> bytes:
        asked.append(name)
        if len(asked) < 3:
            return b"-LOADING Redis is loading the dataset in memory\r\n"
        return b"*2\r\n$1\r\nv\r\n$3\r\n1-2\r\n"

    async def main() -> None:
        async with node(answer) as address:
            client = NoriKVClient(ClientConfig([address], retry=QUICK))
            assert (await client.get("k")).value == b"v"
            assert asked == [b"GETVER"] * 3
            await client.close()
            asked.clear()
            client = NoriKVClient(ClientConfig([address], retry=RetryConfig(max_attempts=1)))
            with pytest.raises(errors.UnavailableError) as caught:
                await client.put("k", b"v")
            assert not caught.value.outcome_unknown
            await client.close()

    asyncio.run(main())


def test_a_node_that_stays_silent_is_left(server: ServerProcess) -> None:
    async def main() -> None:
        async with node(lambda name: None) as first:
            nodes = [first, f"127.0.0.1:{server.port}"]
            config = ClientConfig(nodes, retry=QUICK, timeout_ms=200)
            async with NoriKVClient(config) as client:
                await client.put("k", b"v")
                assert [each.role for each in client.get_cluster_view().nodes] == [
                    "follower",
                    "leader",
                ]

    asyncio.run(main())


def test_a_node_that_speaks_something_else() -> None:
    async def main() -> None:
        async with node(lambda name: b"HTTP/1.1 400 Bad Request\r\n\r\n") as address:
            client = NoriKVClient(ClientConfig([address], retry=RetryConfig(max_attempts=1)))
            with pytest.raises(errors.ConnectionError) as caught:
                await client.get("k")
            assert caught.value.address == address
            await client.close()

    asyncio.run(main())


def test_tls(server: ServerProcess, tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
        timeout=30,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def terminate(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", server.port)

        async def forward(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                target.write(data)
            target.close()

        await asyncio.gather(forward(reader, back), forward(there, writer), return_exceptions=True)

    async def main() -> None:
        listener = await asyncio.start_server(terminate, "localhost", 0, ssl=context)
        port = listener.sockets[0].getsockname()[1]
        trusted = {"ssl_ca_certs": str(certificate)}
        for address, options in (
            (f"rediss://localhost:{port}", trusted),
            (f"localhost:{port}", {**trusted, "ssl": True}),
        ):
            config = ClientConfig([address], redis_options=options, retry=QUICK)
            async with NoriKVClient(config) as client:
                await client.put("k", address)
                assert (await client.get("k")).value == address.encode()
        client = NoriKVClient(ClientConfig([f"rediss://localhost:{port}"], retry=QUICK))
        with pytest.raises(errors.NoNodesAvailableError):
            await client.connect()  # nobody vouches for the certificate
        await client.close()
        listener.close()

    asyncio.run(main())
