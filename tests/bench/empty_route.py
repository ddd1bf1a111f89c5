"""The limit of a read: a route of the gateway that only asks who calls, and answers with nothing.

python -m tests.bench.empty_route
"""

from __future__ import annotations

import asyncio

import uvloop
from fastapi import Response

from services.gateway.application import application
from services.gateway.authentication.caller import Authenticated
from services.gateway.authentication.oidc.configuration import load
from services.gateway.authentication.oidc.tokens import TrustedIssuers
from services.gateway.authentication.operations import OPERATIONS, Operation, Target
from services.gateway.authentication.roles import ALL_ROLES
from services.gateway.http_server import http_server
from services.gateway.limits import Limits
from services.infrastructure.config import Settings
from services.infrastructure.postgres import pool_of
from services.infrastructure.threads import favour_event_loop
from tests.bench.child_process import report_ready


async def empty(caller: Authenticated) -> Response:
    return Response(headers={"X-Caller": caller.actor})


async def main() -> None:
    favour_event_loop()
    settings = Settings.from_environment()
    issuers, pool = TrustedIssuers(load(settings.oidc_file)), await pool_of(settings, resets=False)
    limits = Limits.of(settings, 4_096)
    app = application(pool, limits, issuers=issuers)
    OPERATIONS["GET /v1/empty"] = Operation(ALL_ROLES, Target.SCOPE)
    app.get("/v1/empty")(empty)
    server = http_server(app, limits.connections, settings)
    server.config.port = settings.http_port
    async with issuers.running(wait_s=5):
        serving = asyncio.create_task(server.serve())
        while not server.started and not serving.done():  # noqa: ASYNC110 -- uvicorn has no event to wait for
            await asyncio.sleep(0.01)
        report_ready()
        await serving


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
