"""redis-cli, redis-benchmark and ioredis drive the server without knowing that it is not Redis."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.support import tools
from tests.support.resp import encode
from tests.support.server import ServerProcess


@pytest.fixture(scope="module")
def cli_binary() -> str:
    binary = tools.redis_cli()
    if binary is None:
        pytest.skip(tools.why_missing("redis-cli"))
    return binary


class Cli:
    """Runs redis-cli against one server."""

    def __init__(self, binary: str, server: ServerProcess) -> None:
        self.start = [binary, "-p", str(server.port)]

    def __call__(self, *args: str, stdin: bytes | None = None) -> str:
        done = subprocess.run(
            [*self.start, *args],
            input=stdin if stdin is not None else b"",
            capture_output=True,
            timeout=30,
            check=False,
        )
        return (done.stdout + done.stderr).decode("utf-8", "replace")


@pytest.fixture
def cli(cli_binary: str, server: ServerProcess) -> Cli:
    return Cli(cli_binary, server)


@pytest.mark.parametrize("protocol", ["-2", "-3"])
def test_cli_commands(cli: Cli, protocol: str) -> None:
    assert cli(protocol, "SET", "k", "v") == "OK\n"
    assert cli(protocol, "GET", "k") == "v\n"
    assert cli(protocol, "GET", "nope") == "\n"
    assert cli(protocol, "INCR", "n") == "1\n"
    assert cli(protocol, "NOSUCH").startswith("ERR unknown command 'NOSUCH'")
    assert cli(protocol, "-n", "3", "SET", "k", "three") == "OK\n"
    assert cli(protocol, "-n", "3", "GET", "k") == "three\n"
    assert cli(protocol, "--no-raw", "MGET", "k", "nope") == '1) "v"\n2) (nil)\n'


def test_cli_reads_commands_from_its_input(cli: Cli) -> None:
    script = b'MULTI\nSET "a b" "c\\r\\nd"\nGET "a b"\nEXEC\n'
    assert cli("--no-raw", stdin=script) == ('OK\nQUEUED\nQUEUED\n1) OK\n2) "c\\r\\nd"\n')


def test_cli_mass_insertion(cli: Cli, server: ServerProcess) -> None:
    """--pipe ends by an ECHO of its own, which must come back last."""
    count = 20_000
    data = b"".join(encode("SET", f"bulk:{n}", n) for n in range(count))
    answer = cli("--pipe", stdin=data)
    assert f"errors: 0, replies: {count}" in answer
    assert server.ask("DBSIZE") == count


def test_cli_scan_stat_and_latency_modes(cli: Cli, server: ServerProcess) -> None:
    with server.wire() as wire:
        wire.pipeline([("SET", f"s:{n}", "x" * n) for n in range(200)])
    keys = cli("--scan", "--pattern", "s:1?").split()
    assert sorted(keys) == sorted(f"s:{n}" for n in range(10, 20))
    assert "Biggest string found" in cli("--bigkeys")
    assert cli("-r", "3", "-i", "0", "PING") == "PONG\n" * 3
    assert "redis_version:" in cli("INFO", "server")


def test_cli_password(cli_binary: str, start_server: StartServer) -> None:
    server = start_server(requirepass="secret")
    cli = Cli(cli_binary, server)
    assert cli("GET", "k").startswith("NOAUTH")
    assert "OK" in cli("-a", "secret", "--no-auth-warning", "SET", "k", "v")
    assert cli("--user", "default", "--pass", "secret", "--no-auth-warning", "GET", "k") == "v\n"


@pytest.mark.norikv
def test_cli_norikv_commands(cli: Cli) -> None:
    version = cli("SETVER", "k", "v").strip()
    assert re.fullmatch(r"\d+-\d+", version)
    assert cli("GETVER", "k") == f"v\n{version}\n"
    assert cli("CAS", "k", "0", "x") == f"0\n{version}\nv\n"
    assert cli("IDEM", "t", "INCR", "n") == cli("IDEM", "t", "INCR", "n") == "1\n"


@pytest.mark.limit(90)
@pytest.mark.parametrize("pipeline", [1, 16])
def test_benchmark_runs(server: ServerProcess, pipeline: int) -> None:
    binary = tools.redis_benchmark()
    if binary is None:
        pytest.skip(tools.why_missing("redis-benchmark"))
    done = subprocess.run(
        [
            *(binary, "-p", str(server.port), "-q", "-t", "ping,set,get,incr,mset"),
            *("-n", "4000", "-c", "50", "-P", str(pipeline), "-r", "1000", "-d", "64"),
        ],
        capture_output=True,
        timeout=80,
        check=False,
    )
    text = done.stdout.decode()
    assert done.returncode == 0, text + done.stderr.decode()
    for name in ("PING_INLINE", "SET", "GET", "INCR", "MSET"):
        assert re.search(rf"{name}[^\r\n]*requests per second", text), text
    assert "rror" not in text
    assert server.ask("DBSIZE") > 500


@pytest.mark.limit(90)
def test_ioredis(server: ServerProcess) -> None:
    node = tools.node()
    if node is None:
        pytest.skip(tools.why_missing("node"))
    if not tools.has_ioredis():
        pytest.skip(tools.why_missing("ioredis"))
    script = Path(__file__).parent / "node" / "ioredis.js"
    done = subprocess.run(
        [node, str(script), str(server.port), server.socket_path],
        capture_output=True,
        timeout=80,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    assert b"all checks passed" in done.stdout
