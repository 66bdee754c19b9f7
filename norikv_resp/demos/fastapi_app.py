"""Notes of many tenants: a web application with a rate limit, tenants and sessions.

::

    NORIKV_URL=redis://localhost:6379 uvicorn norikv_resp.demos.fastapi_app:app

    curl -X POST localhost:8000/tenants -H 'content-type: application/json' \\
         -d '{"id": "acme", "name": "Acme Corp", "plan": "free"}'
    curl -c jar -X POST localhost:8000/sessions -H 'content-type: application/json' \\
         -d '{"user_id": "ann", "email": "ann@acme.example"}'
    curl -b jar -X PUT localhost:8000/notes/today -H 'X-Tenant-ID: acme' -d 'buy tea'
    curl -b jar localhost:8000/notes/today -H 'X-Tenant-ID: acme'
"""

from __future__ import annotations

import os

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from norikv_resp.client import (
    AlreadyExistsError,
    KeyNotFoundError,
    NoriKVError,
    PutOptions,
    RetryExhaustedError,
    TransientError,
    Version,
    VersionMismatchError,
)
from norikv_resp.fastapi import (
    SESSION_COOKIE,
    RateLimitMiddleware,
    Session,
    SessionId,
    Sessions,
    Tenant,
    Tenants,
    norikv_lifespan,
)
from norikv_resp.patterns import QuotaExceededError, RateLimitConfig

URL = os.environ.get("NORIKV_URL", "redis://localhost:6379")
LIMIT = RateLimitConfig(
    max_requests=int(os.environ.get("NOTES_REQUESTS", "100")),
    window_ms=int(os.environ.get("NOTES_WINDOW_MS", "60000")),
)
SESSION_TTL_MS = int(os.environ.get("NOTES_SESSION_TTL_MS", "1800000"))

app = FastAPI(title="Notes", lifespan=norikv_lifespan(URL, session_ttl_ms=SESSION_TTL_MS))
app.add_middleware(RateLimitMiddleware, config=LIMIT, exempt=["/health"])


class NewTenant(BaseModel):
    """A tenant to be created."""

    id: str
    name: str
    plan: str = "free"


class Login(BaseModel):
    """Who begins a session. A real application checks a password here."""

    user_id: str
    email: str


@app.get("/health")
async def health() -> dict[str, str]:
    """For the load balancer, without a limit."""
    return {"status": "ok"}


@app.post("/tenants", status_code=201)
async def create_tenant(new: NewTenant, tenants: Tenants) -> dict[str, str]:
    """Create a tenant."""
    try:
        tenant = await tenants.create(new.id, new.name, new.plan)
    except AlreadyExistsError:
        raise HTTPException(409, "The tenant exists") from None
    except ValueError as error:
        raise HTTPException(422, str(error)) from None
    return {"id": tenant.id, "plan": tenant.plan}


@app.post("/sessions", status_code=201)
async def log_in(login: Login, sessions: Sessions, response: Response) -> dict[str, str]:
    """Begin a session, in a cookie for browsers and as a bearer token for others."""
    session_id = await sessions.create(login.user_id, login.email, ["user"])
    response.set_cookie(SESSION_COOKIE, session_id, httponly=True, samesite="lax")
    return {"session_id": session_id}


@app.get("/me")
async def me(session: Session) -> dict[str, str]:
    """Who one is."""
    return {"user_id": session.user_id, "email": session.email}


@app.delete("/sessions", status_code=204, response_model=None)
async def log_out(session_id: SessionId, sessions: Sessions, response: Response) -> None:
    """End the session."""
    await sessions.destroy(session_id)
    response.delete_cookie(SESSION_COOKIE)


@app.put("/notes/{name}")
async def write(
    name: str,
    tenant: Tenant,
    session: Session,
    request: Request,
    response: Response,
) -> dict[str, str]:
    """Write a note; with ``If-Match: VERSION`` only over that version of it."""
    expected = request.headers.get("if-match")
    try:
        version = Version.parse(expected.strip('"')) if expected else None
    except ValueError as error:
        raise HTTPException(400, str(error)) from None
    try:
        options = PutOptions(if_match_version=version)
        written = await tenant.put(name, await request.body(), options)
    except VersionMismatchError:
        raise HTTPException(412, "The note has changed") from None
    except QuotaExceededError as error:
        raise HTTPException(403, str(error)) from None
    response.headers["ETag"] = f'"{written}"'
    return {"version": str(written), "by": session.user_id}


@app.get("/notes/{name}")
async def read(name: str, tenant: Tenant, session: Session) -> Response:
    """A note, with its version as ETag."""
    try:
        note = await tenant.get(name)
    except KeyNotFoundError:
        raise HTTPException(404, "No such note") from None
    headers = {"ETag": f'"{note.version}"'}
    return Response(note.value, media_type="text/plain", headers=headers)


@app.delete("/notes/{name}", status_code=204, response_model=None)
async def delete(name: str, tenant: Tenant, session: Session) -> None:
    """Delete a note."""
    if not await tenant.delete(name):
        raise HTTPException(404, "No such note")


@app.exception_handler(TransientError)
@app.exception_handler(RetryExhaustedError)
async def unavailable(request: Request, error: NoriKVError) -> JSONResponse:
    """The database cannot be reached at the moment."""
    return JSONResponse({"error": "Service Unavailable"}, 503, headers={"Retry-After": "1"})
