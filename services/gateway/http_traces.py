"""A span for each HTTP request, from its arrival until its answer begins."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.infrastructure import tracing

_HEADER = "traceparent"


class HttpTraces:
    """ASGI middleware. The request's ``traceparent`` is replaced by its span's, so what it leads to is below it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not tracing.is_on():
            await self._app(scope, receive, send)
            return
        headers = MutableHeaders(scope=scope)
        given = headers.getlist(_HEADER)
        span = tracing.start("HTTP", "SERVER", given[0] if len(given) == 1 else None, root=True)
        if (below := tracing.traceparent_of(span, None)) is not None:
            headers[_HEADER] = below

        async def traced(message: Message) -> None:
            if message["type"] == "http.response.start" and span is not None:
                status = message["status"]
                attributes: dict[str, str | int] = {"http.response.status_code": status}
                if (path := getattr(scope.get("route"), "path", None)) is not None:
                    span.update_name(f"{scope['method']} {path}")
                    attributes |= {"http.request.method": scope["method"], "http.route": path}
                tracing.end(span, attributes, error=str(status) if status >= 500 else None)
            await send(message)

        await self._app(scope, receive, traced)
