"""The page that describes the API: Swagger UI, with its files from this gateway."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

import fastapi_offline
from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

from services.gateway.fixed_document import FixedDocument

router = APIRouter(include_in_schema=False)

_STATIC = Path(fastapi_offline.__file__).with_name("static")
_ASSETS = {
    name: FixedDocument((_STATIC / name).read_bytes, media_type)
    for name, media_type in (("swagger-ui-bundle.js", "text/javascript"), ("swagger-ui.css", "text/css"))
}
_INLINE_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


@router.get("/docs")
async def docs() -> HTMLResponse:
    return _page()


@router.get("/openapi.json")
async def openapi_document(request: Request) -> Response:
    document: FixedDocument = request.app.state.openapi_document
    return document.response(request)


@router.get("/docs-assets/{name}")
async def asset(request: Request, name: str) -> Response:
    if name not in _ASSETS:
        raise HTTPException(404)
    return _ASSETS[name].response(request)


@cache
def _page() -> HTMLResponse:
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="Switchboard",
        swagger_js_url="/docs-assets/swagger-ui-bundle.js",
        swagger_css_url="/docs-assets/swagger-ui.css",
        swagger_favicon_url="/console/icon.svg",
    )
    page.headers["Content-Security-Policy"] = _content_security_policy(bytes(page.body))
    return page


def _content_security_policy(page: bytes) -> str:
    """Allows the page's own script, which starts Swagger UI, by its hash."""
    digests = (hashlib.sha256(script).digest() for script in _INLINE_SCRIPT.findall(page))
    scripts = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src 'self' {scripts}; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )
