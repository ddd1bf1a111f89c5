"""What operators and tools ask of a gateway: its health, and the AsyncAPI document."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from services.gateway.asyncapi import page
from services.gateway.asyncapi.document import asyncapi
from services.gateway.content_negotiation import preferred
from services.gateway.fixed_document import FixedDocument
from services.infrastructure.kept_answer import KeptAnswer
from services.infrastructure.postgres import OUTAGES, Pool

ASYNCAPI_TYPE = "application/vnd.aai.asyncapi+json"

_VARY = "Accept, Accept-Encoding"
_ASYNCAPI = FixedDocument(lambda: bytes(JSONResponse(asyncapi()).body), ASYNCAPI_TYPE, _VARY)
_ASYNCAPI_PAGE = FixedDocument(lambda: page.page().encode(), "text/html; charset=utf-8", _VARY)

router = APIRouter(include_in_schema=False)


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


def has_database(pool: Pool) -> KeptAnswer[bool]:
    """Whether the database answers, asked once a second for however many ask."""

    async def find() -> bool:
        try:
            await pool.fetchval("SELECT 1", timeout=2)
        except OUTAGES:
            return False
        return True

    return KeptAnswer(find, 1.0)


@router.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    missing = [] if request.app.state.publisher is not None else ["broker"]
    if not await request.app.state.has_database.get():
        missing.append("database")
    return JSONResponse({"ready": not missing, "missing": missing}, 503 if missing else 200)


@router.get("/asyncapi")
async def asyncapi_page(request: Request) -> Response:
    """Returns the document to tools, and a page to browsers."""
    if preferred(request.headers.get("Accept", ""), (ASYNCAPI_TYPE, "text/html")) != "text/html":
        return _ASYNCAPI.response(request)
    response = _ASYNCAPI_PAGE.response(request)
    response.headers["Content-Security-Policy"] = page.content_security_policy()
    return response


@router.get("/asyncapi.json")
async def asyncapi_document(request: Request) -> Response:
    return _ASYNCAPI.response(request)
