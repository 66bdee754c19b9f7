"""What the README and docs/from-norikv.md show gives what they say."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clients.documents import blocks, play, run_python, sessions
from tests.conftest import StartServer
from tests.support import tools
from tests.support.server import ROOT

README = (ROOT / "README.md").read_text()
FROM_NORIKV = (ROOT / "docs" / "from-norikv.md").read_text()

#: Calls the example's function as the Python example does, and says how often it sold.
SELL_WITH_NODE = """
const Redis = require("ioredis");
const redis = new Redis(Number(process.argv[2]));
%s
async function main() {
  await redis.set("stock:cake", 3);
  const orders = Array.from({ length: 20 }, (_, number) => `order:cake:${number %% 4}`);
  const done = await Promise.all(orders.map((order) => sell(redis, order)));
  console.log(`${done.filter(Boolean).length / 5} of 4 orders sold`);
  redis.disconnect();
}
main();
"""

#: Visits, a note of a tenant that is not there and of one that is, and the limit.
ASK_THE_APPLICATION = """
import asyncio, httpx
from norikv_resp.patterns.tenants import TenantManager

async def main():
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://application") as http,
    ):
        visits = (await http.get("/visits")).json()
        session = (await http.post("/sessions", params={"user": "ann"})).json()
        headers = {"Authorization": f"Bearer {session}", "X-Tenant-ID": "acme"}
        note = {"text": "tea"}
        missing = await http.put("/notes/n", params=note, headers=headers)
        await TenantManager(app.state.norikv.client).create("acme", "Acme")
        written = await http.put("/notes/n", params=note, headers=headers)
        limit = written.headers["X-RateLimit-Limit"]
        print(visits, missing.status_code, written.status_code, limit)

asyncio.run(main())
"""


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="redis-cli is not installed")
def test_the_tour_prints_what_the_readme_says(start_server: StartServer, tmp_path: Path) -> None:
    steps = sessions(README)
    assert len(steps) >= 12
    play(steps, start_server(), tmp_path)


def test_the_python_examples_run(start_server: StartServer) -> None:
    server = start_server()
    tour, pattern = blocks(README, "python")
    run_python(tour, server)
    assert run_python(pattern, server) == "3 of 4 orders sold\n"
    assert server.ask("GET", "stock:tea") == b"0"


def test_the_node_example_runs(start_server: StartServer) -> None:
    node = tools.node()
    if node is None or not tools.has_ioredis():
        pytest.skip(tools.why_missing("ioredis" if node else "node"))
    server = start_server()
    (example,) = blocks(README, "js")
    done = subprocess.run(
        [node, "-e", SELL_WITH_NODE % example, "", str(server.port)],
        cwd=tools.NODE_DIRECTORY,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.stdout == "3 of 4 orders sold\n", done.stderr
    assert server.ask("GET", "stock:cake") == b"0"


def test_the_examples_of_from_norikv_run(start_server: StartServer) -> None:
    server = start_server()
    first, temporary, watching, vectors, web = blocks(FROM_NORIKV, "python")
    assert run_python(first, server).endswith("Alicia\n")
    assert run_python(temporary, server).startswith("Alice at redis://127.0.0.1:")
    assert run_python(watching, server) == ""  # the server is there
    assert run_python(vectors, server) == 'doc:1 b\'{"title": "Tea"}\'\n'
    assert run_python(web + ASK_THE_APPLICATION, server) == "1 404 200 100\n"
