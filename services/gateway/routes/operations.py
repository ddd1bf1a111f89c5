"""What operators and tools ask of a gateway: its health, metrics, and the AsyncAPI document."""

from __future__ import annotations

from functools import cache

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from services.gateway.asyncapi import page
from services.gateway.asyncapi.document import asyncapi
from services.gateway.content_negotiation import preferred
from services.gateway.requests import pool_of
from services.infrastructure.postgres import OUTAGES
from services.invoker import metrics as invoker_metrics
from services.message_router import metrics as message_router_metrics

ASYNCAPI_TYPE = "application/vnd.aai.asyncapi+json"

router = APIRouter(include_in_schema=False)


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    missing = [] if request.app.state.publisher is not None else ["broker"]
    try:
        await pool_of(request).fetchval("SELECT 1", timeout=2)
    except OUTAGES:
        missing.append("database")
    return JSONResponse({"ready": not missing, "missing": missing}, 503 if missing else 200)


@router.get("/metrics")
async def prometheus_metrics(request: Request) -> Response:
    pool = pool_of(request)
    found = await invoker_metrics.exposition(pool) + await message_router_metrics.exposition(pool)
    return Response(found + generate_latest(), media_type=CONTENT_TYPE_LATEST)


@router.get("/asyncapi")
async def asyncapi_page(request: Request) -> Response:
    """Returns the document to tools, and a page to browsers."""
    if preferred(request.headers.get("Accept", ""), (ASYNCAPI_TYPE, "text/html")) != "text/html":
        return Response(_document(), media_type=ASYNCAPI_TYPE, headers={"Vary": "Accept"})
    return HTMLResponse(_page(), headers={"Vary": "Accept", "Content-Security-Policy": page.content_security_policy()})


@router.get("/asyncapi.json")
async def asyncapi_document() -> Response:
    return Response(_document(), media_type=ASYNCAPI_TYPE)


# Encoded once, and sent to all: anybody may ask for them, and not read them.
@cache
def _document() -> bytes:
    return bytes(JSONResponse(asyncapi()).body)


@cache
def _page() -> bytes:
    return page.page().encode()
