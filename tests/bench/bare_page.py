"""The limit of the console: a bare FastAPI page from a Jinja template, and a bare feed that tells it of a change.

python -m tests.bench.bare_page port
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, StreamingResponse
from jinja2 import Environment
from starlette.middleware.gzip import GZipMiddleware

from tests.bench.child_process import report_ready

_PAGE = """<!doctype html><html lang="en"><title>Bare</title>
<table>{% for row in rows %}<tr><td>{{ row }}</td><td>Shop {{ loop.index }}</td></tr>{% endfor %}</table>
<button id="sms-switch" aria-checked="false">SMS</button>
<script>
new EventSource("/changes").onmessage = (event) => {
  document.documentElement.dataset.live = "";
  if (event.data) document.getElementById("sms-switch").setAttribute("aria-checked", event.data);
};
</script></html>"""
_ROWS = 25


@asynccontextmanager
async def _lifespan(_: FastAPI) -> AsyncIterator[None]:
    report_ready()
    yield


def page_server() -> FastAPI:
    app = FastAPI(lifespan=_lifespan)
    app.add_middleware(GZipMiddleware)
    template = Environment(autoescape=True).from_string(_PAGE)
    readers: set[asyncio.Queue[str]] = set()

    @app.get("/page")
    async def page() -> HTMLResponse:
        return HTMLResponse(template.render(rows=[f"bench-{number}" for number in range(_ROWS)]))

    @app.put("/sms")
    async def put(request: Request) -> None:
        enabled = (await request.json())["enabled"]
        for reader in readers:
            reader.put_nowait(str(enabled).lower())

    async def stream() -> AsyncIterator[str]:
        queue: asyncio.Queue[str] = asyncio.Queue()
        readers.add(queue)
        try:
            yield ": from here on\n\ndata: \n\n"
            while True:
                yield f"data: {await queue.get()}\n\n"
        finally:
            readers.discard(queue)

    @app.get("/changes")
    async def changes() -> StreamingResponse:
        return StreamingResponse(stream(), media_type="text/event-stream")

    return app


if __name__ == "__main__":
    uvicorn.run(page_server(), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
