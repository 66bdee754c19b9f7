"""FastAPI on norikv-resp: a rate limit, tenants, sessions, and a lifespan that owns the client.

::

    app = FastAPI(lifespan=norikv_lifespan("redis://localhost:6379"))
    app.add_middleware(RateLimitMiddleware, config=RateLimitConfig(100, window_ms=60_000))

    @app.get("/notes/{name}")
    async def read(name: str, tenant: Tenant, session: Session) -> dict[str, str]:
        return {"note": (await tenant.get(name)).value.decode(), "reader": session.email}

It needs ``pip install 'norikv-resp[fastapi]'``. norikv_resp/demos/fastapi_app.py is a whole
application.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.requests import HTTPConnection, Request
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from norikv_resp.client import ClientConfig, NoriKVClient
from norikv_resp.patterns import (
    RateLimitConfig,
    RateLimiter,
    RateLimitResult,
    SessionData,
    SessionManager,
    TenantClient,
    TenantManager,
    TenantNotFoundError,
)

#: The cookie that carries a session's id.
SESSION_COOKIE = "session_id"

# --------------------------------------------------------------------------
# The client's life


@dataclass(frozen=True)
class NoriKVState:
    """What `norikv_lifespan` puts into ``app.state.norikv``."""

    client: NoriKVClient
    sessions: SessionManager
    tenants: TenantManager


def norikv_lifespan(
    server: ClientConfig | str, *, session_ttl_ms: int = 3_600_000
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """A lifespan for FastAPI: connects before the first request, closes after the last.

    Inside a lifespan of one's own: ``async with norikv_lifespan(url)(app): …``.

    Args:
        server: a configuration, or the URL of a server.
        session_ttl_ms: milliseconds that a session lives without being used.

    Raises:
        NoNodesAvailableError: at the start, when nobody answers; the application does not start.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        made = NoriKVClient.from_url(server) if isinstance(server, str) else NoriKVClient(server)
        async with made as client:
            sessions = SessionManager(client, session_ttl_ms)
            app.state.norikv = NoriKVState(client, sessions, TenantManager(client))
            yield

    return lifespan


def get_state(connection: HTTPConnection) -> NoriKVState:
    """What the lifespan has made; RuntimeError without it."""
    state = getattr(connection.app.state, "norikv", None)
    if not isinstance(state, NoriKVState):
        raise RuntimeError("the application needs lifespan=norikv_lifespan(…)")
    return state


State = Annotated[NoriKVState, Depends(get_state)]


def get_client(state: State) -> NoriKVClient:
    """The application's client."""
    return state.client


def get_sessions(state: State) -> SessionManager:
    """The application's sessions: to begin and end one."""
    return state.sessions


def get_tenants(state: State) -> TenantManager:
    """The application's tenants: to create and delete one."""
    return state.tenants


Client = Annotated[NoriKVClient, Depends(get_client)]
Sessions = Annotated[SessionManager, Depends(get_sessions)]
Tenants = Annotated[TenantManager, Depends(get_tenants)]

# --------------------------------------------------------------------------
# Tenants


async def get_tenant(
    tenants: Tenants, x_tenant_id: Annotated[str, Header(min_length=1)]
) -> TenantClient:
    """The keys of the tenant that the header X-Tenant-ID names; 404 if there is none.

    The header is a claim. Where tenants must not reach each other's data, check that whoever
    sends it belongs to the tenant.
    """
    try:
        return await tenants.get_client(x_tenant_id)
    except TenantNotFoundError:
        raise HTTPException(404, "Tenant not found") from None


Tenant = Annotated[TenantClient, Depends(get_tenant)]

# --------------------------------------------------------------------------
# Sessions

_bearer = HTTPBearer(auto_error=False, description="A session's id")
_cookie = APIKeyCookie(name=SESSION_COOKIE, auto_error=False)


def get_session_id(
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    cookie: Annotated[str | None, Depends(_cookie)],
) -> str:
    """The session's id: from ``Authorization: Bearer``, or else the cookie; 401 without one."""
    session_id = bearer.credentials if bearer is not None else cookie
    if not session_id:
        raise _unauthorized("No session")
    return session_id


SessionId = Annotated[str, Depends(get_session_id)]


async def get_session(sessions: Sessions, session_id: SessionId) -> SessionData:
    """The session of the request, which prolongs its life; 401 if it has ended."""
    session = await sessions.get(session_id)
    if session is None:
        raise _unauthorized("The session has ended")
    return session


Session = Annotated[SessionData, Depends(get_session)]


def _unauthorized(detail: str) -> HTTPException:
    return HTTPException(401, detail, headers={"WWW-Authenticate": "Bearer"})


# --------------------------------------------------------------------------
# The rate limit


def client_address(request: Request) -> str:
    """The address of the peer. Behind a proxy, have the server put the client's there."""
    return request.client.host if request.client is not None else "unknown"


class RateLimitMiddleware:
    """Refuses what is too much with 429, before anything of the application runs.

    Every answer carries X-RateLimit-Limit, X-RateLimit-Remaining and X-RateLimit-Reset (Unix
    seconds at which Remaining grows), a refusal also Retry-After (seconds). All processes that
    use one server share the limits.

    Args:
        app: the application.
        config: how many requests in how much time.
        identify: whose limit a request counts against; None for a request that is not limited. Do
            not trust what anybody may write into a header.
        exempt: paths that are not limited, such as the health check's.
        fail_open: whether requests pass while the server cannot be asked.
        timeout_ms: how long a decision may take before the server counts as unreachable.
    """

    def __init__(
        self,
        app: ASGIApp,
        config: RateLimitConfig,
        *,
        identify: Callable[[Request], str | None] = client_address,
        exempt: Collection[str] = (),
        fail_open: bool = True,
        timeout_ms: int = 2000,
    ) -> None:
        self._app = app
        self._config = config
        self._identify = identify
        self._exempt = frozenset(exempt)
        self._fail_open = fail_open
        self._timeout_ms = timeout_ms
        self._limiters: dict[NoriKVClient, RateLimiter] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._exempt:
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        identifier = self._identify(request)
        if identifier is None:
            await self._app(scope, receive, send)
            return
        limiter = self._limiter(get_state(request).client)
        result = await limiter.check_limit(identifier, self._config)
        if result.allowed:
            await self._app(scope, receive, self._telling(send, result))
        else:
            await self._refusal(result)(scope, receive, send)

    def _limiter(self, client: NoriKVClient) -> RateLimiter:
        """The limiter over *client*; a restarted application has another client."""
        if client not in self._limiters:
            limiter = RateLimiter(client, fail_open=self._fail_open, timeout_ms=self._timeout_ms)
            self._limiters = {client: limiter}
        return self._limiters[client]

    def _headers(self, result: RateLimitResult) -> dict[str, str]:
        return {
            "X-RateLimit-Limit": str(self._config.max_requests),
            "X-RateLimit-Remaining": str(result.remaining),
            "X-RateLimit-Reset": str(_seconds(result.reset_at)),
        }

    def _telling(self, send: Send, result: RateLimitResult) -> Send:
        """*send* with the headers on the response."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers(result))
            await send(message)

        return send_with_headers

    def _refusal(self, result: RateLimitResult) -> JSONResponse:
        wait = max(1, _seconds(result.reset_at - result.server_now))
        return JSONResponse(
            {"error": "Too Many Requests", "retry_after": wait},
            status_code=429,
            headers={**self._headers(result), "Retry-After": str(wait)},
        )


def _seconds(milliseconds: int) -> int:
    """Rounded up: who comes back then is not too early."""
    return -(-milliseconds // 1000)
