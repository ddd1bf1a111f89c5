"""Counts HTTP requests by route and status, and times each until its answer begins."""

from __future__ import annotations

from time import perf_counter

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_REQUESTS = Counter("switchboard_http_requests", "Requests answered.", ("method", "route", "status"))
_SECONDS = Histogram(
    "switchboard_http_request_duration_seconds",
    "Time until the answer begins; a long poll waits as long as it was asked to.",
    ("method", "route"),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)


class HttpMetrics:
    """ASGI middleware. What matches no route, or is refused before it is looked for, has no label of the request's."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = perf_counter()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", None)
                method = scope["method"] if route is not None else "any"
                _REQUESTS.labels(method, route or "none", message["status"]).inc()
                _SECONDS.labels(method, route or "none").observe(perf_counter() - begun)
            await send(message)

        await self._app(scope, receive, counted)
