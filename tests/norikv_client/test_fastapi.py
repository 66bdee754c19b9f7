"""The example application, started with uvicorn and driven with httpx."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from norikv_resp.client import ClientConfig, NoNodesAvailableError, RetryConfig
from norikv_resp.fastapi import Client, RateLimitMiddleware, norikv_lifespan
from norikv_resp.patterns import RateLimitConfig
from tests.conftest import StartServer
from tests.support.server import ROOT, ServerProcess, free_port

pytestmark = pytest.mark.norikv

LIMITS = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")


class Application:
    """The example under uvicorn, in a process of its own."""

    def __init__(self, url: str, log: Path, **settings: object) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        environment = {
            **os.environ,
            "NORIKV_URL": url,
            **{f"NOTES_{name}".upper(): str(value) for name, value in settings.items()},
        }
        command = [sys.executable, "-m", "uvicorn", "norikv_resp.demos.fastapi_app:app"]
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [*command, "--port", self.url.rpartition(":")[2]],
                env=environment,
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def wait(self) -> Application:
        deadline = time.monotonic() + 30
        while True:
            try:
                httpx.get(f"{self.url}/health", timeout=5)
                return self
            except httpx.TransportError:
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.05)

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=20)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(20)


StartApplication = Callable[..., Application]


@pytest.fixture
def start_application(server: ServerProcess, tmp_path: Path) -> Iterator[StartApplication]:
    """Starts the example over the shared server, or over *url*."""
    started: list[Application] = []

    def start(url: str = f"redis://127.0.0.1:{server.port}", **settings: object) -> Application:
        application = Application(url, tmp_path / f"log{len(started)}", **settings)
        started.append(application)
        return application.wait()

    yield start
    for application in started:
        if application.process.poll() is None:
            application.stop()


def log_in(client: httpx.Client, user: str = "ann") -> str:
    answer = client.post("/sessions", json={"user_id": user, "email": f"{user}@example.org"})
    assert answer.status_code == 201
    session_id: str = answer.json()["session_id"]
    return session_id


def test_sessions(start_application: StartApplication) -> None:
    application = start_application(session_ttl_ms=1500)
    with application.client() as client:
        answer = client.get("/me")
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        session_id = log_in(client)  # the cookie is in the client's jar now
        assert client.get("/me").json() == {"user_id": "ann", "email": "ann@example.org"}
        assert client.delete("/sessions").status_code == 204
        assert client.get("/me").status_code == 401
        bearer = {"Authorization": f"Bearer {session_id}"}
        assert client.get("/me", headers=bearer).status_code == 401
        bearer = {"Authorization": f"Bearer {log_in(client, 'bob')}"}
        client.cookies.clear()
        assert client.get("/me", headers=bearer).json()["user_id"] == "bob"
        time.sleep(1.7)
        assert client.get("/me", headers=bearer).status_code == 401
        assert client.get("/me", headers={"Authorization": "Bearer made-up"}).status_code == 401


def test_tenants_and_notes(start_application: StartApplication) -> None:
    with start_application().client() as client:
        for tenant in ("acme", "other"):
            new = {"id": tenant, "name": tenant.title(), "plan": "free"}
            assert client.post("/tenants", json=new).status_code == 201
        assert client.post("/tenants", json=new).status_code == 409
        assert client.post("/tenants", json={**new, "id": "x", "plan": "?"}).status_code == 422
        log_in(client)
        acme, other = {"X-Tenant-ID": "acme"}, {"X-Tenant-ID": "other"}
        written = client.put("/notes/tea", content="buy tea", headers=acme)
        assert (written.status_code, written.json()["by"]) == (200, "ann")
        read = client.get("/notes/tea", headers=acme)
        assert (read.text, read.headers["etag"]) == ("buy tea", written.headers["etag"])
        assert client.get("/notes/tea", headers=other).status_code == 404
        # Over the version that was seen, once.
        guarded = {**acme, "If-Match": read.headers["etag"]}
        assert client.put("/notes/tea", content="more", headers=guarded).status_code == 200
        assert client.put("/notes/tea", content="less", headers=guarded).status_code == 412
        assert client.get("/notes/tea", headers=acme).text == "more"
        large = client.put("/notes/large", content=b"x" * (11 << 20), headers=acme)
        assert large.status_code == 403 and "bytes" in large.json()["detail"]
        assert client.delete("/notes/tea", headers=acme).status_code == 204
        assert client.delete("/notes/tea", headers=acme).status_code == 404


def test_an_unknown_tenant_is_404(start_application: StartApplication) -> None:
    with start_application().client() as client:
        log_in(client)
        answer = client.get("/notes/x", headers={"X-Tenant-ID": "nobody"})
        assert (answer.status_code, answer.json()) == (404, {"detail": "Tenant not found"})
        assert client.get("/notes/x").status_code == 422  # the header is required
        assert client.get("/notes/x", headers={"X-Tenant-ID": ""}).status_code == 422


def test_the_limit_holds_over_processes_and_comes_before_the_handler(
    start_application: StartApplication, server: ServerProcess
) -> None:
    limit = 12
    applications = [start_application(requests=limit, window_ms=60_000) for _ in range(2)]

    async def flood() -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=30) as client:
            logins = [
                client.post(f"{each.url}/sessions", json={"user_id": "u", "email": "e"})
                for each in applications
                for _ in range(20)
            ]
            return await asyncio.gather(*logins)

    begun = time.time()
    answers = asyncio.run(flood())
    allowed = [answer for answer in answers if answer.status_code == 201]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert (len(allowed), len(refused)) == (limit, 40 - limit)
    # A refused request has begun no session: its handler did not run.
    with server.wire() as wire:
        assert len(wire.ok("KEYS", "session:*")) == limit
    assert sorted(int(answer.headers["x-ratelimit-remaining"]) for answer in allowed) == list(
        range(limit)
    )
    for answer in answers:
        assert answer.headers["x-ratelimit-limit"] == str(limit)
        assert begun < int(answer.headers["x-ratelimit-reset"]) <= begun + 120
    for answer in refused:
        assert answer.headers["x-ratelimit-remaining"] == "0"
        wait = int(answer.headers["retry-after"])
        assert 1 <= wait <= 60
        assert answer.json() == {"error": "Too Many Requests", "retry_after": wait}
    with applications[0].client() as client:
        health = client.get("/health")
        assert health.status_code == 200
        assert not set(LIMITS) & set(health.headers)


def test_who_waits_as_told_is_served(start_application: StartApplication) -> None:
    application = start_application(requests=2, window_ms=1500)
    with application.client() as client:
        while client.get("/me").status_code != 429:
            pass
        answer = client.get("/me")
        time.sleep(int(answer.headers["retry-after"]))
        assert client.get("/me").status_code == 401  # past the limit, to the handler


def test_errors_carry_the_limits_too(start_application: StartApplication) -> None:
    with start_application(requests=5).client() as client:
        for path in ("/me", "/nowhere"):
            assert set(LIMITS) <= set(client.get(path).headers)


def test_without_the_server_the_application_answers_503_and_recovers(
    start_application: StartApplication, start_server: StartServer
) -> None:
    server = start_server()
    application = start_application(f"redis://127.0.0.1:{server.port}")
    with application.client() as client:
        log_in(client)
        server.kill9()
        answer = client.get("/me")  # the limit lets it pass, the session cannot be read
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        server.start()
        assert client.get("/me").json()["user_id"] == "ann"


def test_the_application_owns_its_client(
    start_application: StartApplication, server: ServerProcess
) -> None:
    def connections() -> int:
        with server.wire() as wire:
            return len(re.findall(rb"name=\S* ", wire.ok("CLIENT", "LIST")))

    before = connections()
    application = start_application()
    with application.client() as client:
        log_in(client)
    assert connections() > before
    assert application.stop() in (0, -15)
    assert connections() == before
    assert "Traceback" not in application.log.read_text()


# -- the parts, in this process ---------------------------------------------------


def inside(app: FastAPI) -> httpx.AsyncClient:
    """A client of *app*, without a socket; its address is that of the transport."""
    transport = httpx.ASGITransport(app=app, client=("192.0.2.1", 123))
    return httpx.AsyncClient(transport=transport, base_url="http://application")


def test_an_application_without_its_server_does_not_start() -> None:
    config = ClientConfig(["127.0.0.1:1"], retry=RetryConfig(max_attempts=1))
    lifespan = norikv_lifespan(config)

    async def main() -> None:
        async with lifespan(FastAPI(lifespan=lifespan)):
            pass

    with pytest.raises(NoNodesAvailableError):
        asyncio.run(main())


def test_limits_by_identity_with_exceptions(server: ServerProcess) -> None:
    lifespan = norikv_lifespan(f"redis://127.0.0.1:{server.port}")
    app = FastAPI(lifespan=lifespan)
    app.add_middleware(
        RateLimitMiddleware,
        config=RateLimitConfig(1, 60_000),
        identify=lambda request: request.headers.get("X-Key"),
    )

    @app.get("/")
    async def index(client: Client) -> int:
        total: int = await client.execute("INCR", "handled")
        return total

    async def main() -> None:
        for total in (3, 6):  # an application that is started again has another client
            async with lifespan(app), inside(app) as http:
                for key in ("a", "b"):
                    headers = {"X-Key": f"{key}{total}"}
                    answers = [await http.get("/", headers=headers) for _ in range(3)]
                    assert [answer.status_code for answer in answers] == [200, 429, 429]
                assert (await http.get("/")).json() == total

    asyncio.run(main())


def test_the_address_of_the_peer_is_the_usual_identity(server: ServerProcess) -> None:
    lifespan = norikv_lifespan(f"redis://127.0.0.1:{server.port}")
    app = FastAPI(lifespan=lifespan)
    app.add_middleware(RateLimitMiddleware, config=RateLimitConfig(1, 60_000))

    async def main() -> None:
        async with lifespan(app), inside(app) as http:
            assert (await http.get("/")).status_code == 404
            assert (await http.get("/")).status_code == 429

    asyncio.run(main())
    assert server.ask("EXISTS", "ratelimit:192.0.2.1") == 1


@pytest.mark.parametrize(("fail_open", "status"), [(True, 404), (False, 429)])
def test_the_limit_fails_open_or_closed(
    start_server: StartServer, fail_open: bool, status: int
) -> None:
    server = start_server()
    retry = RetryConfig(max_attempts=2)
    lifespan = norikv_lifespan(ClientConfig([f"127.0.0.1:{server.port}"], retry=retry))
    app = FastAPI(lifespan=lifespan)
    app.add_middleware(
        RateLimitMiddleware,
        config=RateLimitConfig(9, 60_000),
        fail_open=fail_open,
        timeout_ms=200,
    )

    async def main() -> None:
        async with lifespan(app), inside(app) as http:
            assert (await http.get("/")).status_code == 404
            server.kill9()
            assert (await http.get("/")).status_code == status

    asyncio.run(main())


def test_without_the_lifespan_it_says_what_is_missing() -> None:
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware, config=RateLimitConfig(1, 1000))

    async def main() -> None:
        async with inside(app) as http:
            await http.get("/")

    with pytest.raises(RuntimeError, match="norikv_lifespan"):
        asyncio.run(main())
