"""HEAD, OPTIONS and Allow: what a path takes besides the methods that its routes name."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadRequests:
    """ASGI middleware: answers HEAD as GET, without the body. A stream ends after its head."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        has_head = False

        async def send_head(message: Message) -> None:
            nonlocal has_head
            if message["type"] == "http.response.start":
                has_head = True
                await send(message)

        async def receive_until_head() -> Message:
            return {"type": "http.disconnect"} if has_head else await receive()

        await self._app({**scope, "method": "GET"}, receive_until_head, send_head)
        await send({"type": "http.response.body", "body": b""})


class AllowedMethods:
    """The methods that each path of an application takes."""

    def __init__(self, app: FastAPI) -> None:
        methods: dict[str, set[str]] = {}
        for context in iter_route_contexts(app.routes):
            if isinstance(context.original_route, APIRoute):
                methods.setdefault(context.path_format or "", set()).update(context.original_route.methods or ())
        # `deliveries/replay` comes before `deliveries/{delivery}`, as in the OpenAPI document
        paths = sorted(methods, key=lambda path: path.count("{"))
        self._paths = [(compile_path(path)[0], methods[path]) for path in paths]

    def of(self, path: str) -> str:
        """The value of the header Allow."""
        methods = next((methods for pattern, methods in self._paths if pattern.match(path)), set())
        return ", ".join(sorted({"OPTIONS", *methods} | ({"HEAD"} if "GET" in methods else set())))
