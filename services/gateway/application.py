"""The HTTP application: its routes, the API description, and the console."""

from __future__ import annotations

import time

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.middleware.cors import CORSMiddleware

from services.gateway import problems
from services.gateway.audit_pages import AuditPages
from services.gateway.authentication.oidc.configuration import OidcConfiguration
from services.gateway.authentication.oidc.tokens import TrustedIssuers
from services.gateway.authentication.refusals import Refusals
from services.gateway.authentication.revocations import Revocations
from services.gateway.authentication.route_check import check_routes
from services.gateway.console import pages
from services.gateway.console.assets import Assets
from services.gateway.console.console_request import console_request
from services.gateway.fixed_document import FixedDocument
from services.gateway.http_methods import AllowedMethods, HeadRequests
from services.gateway.http_metrics import HttpMetrics
from services.gateway.http_traces import HttpTraces
from services.gateway.limits import Limits, Places, RateLimit, RateLimits
from services.gateway.log_reads import LogReads
from services.gateway.openapi.document import describe, operation_id
from services.gateway.openapi.tags import TAGS
from services.gateway.request_guard import RequestGuard
from services.gateway.request_memory import RequestBodies, memory_budget
from services.gateway.requests import command_queue, schema_queue, what_if_queue, work_queue
from services.gateway.routes import (
    access_log,
    api_docs,
    api_keys,
    audit,
    business_systems,
    changes,
    channels,
    customers,
    deliveries,
    health,
    history,
    intent_catalogue,
    intents,
    invocations,
    listeners,
    messages,
    operations,
    proposed_changes,
    rates,
    scheduling_resources,
    sections,
    settings,
    signatures,
    usage,
    what_if,
)
from services.gateway.shared_polls import SharedPolls
from services.gateway.strangers import Strangers
from services.infrastructure.postgres import Pool
from services.message_router.rate_book import CurrentRates
from services.schema_validation.validator import SchemaValidator

_ROUTE_MODULES = (
    channels,
    customers,
    settings,
    business_systems,
    signatures,
    intents,
    sections,
    invocations,
    listeners,
    deliveries,
    messages,
    what_if,
    scheduling_resources,
    usage,
    rates,
    changes,
    history,
    proposed_changes,
    intent_catalogue,
    audit,
    access_log,
    api_keys,
    health,
    operations,
    api_docs,
)


_EXPOSED_HEADERS = (
    *("ETag", "Switchboard-Cursor", "Switchboard-LogPosition", "Switchboard-Note", "X-Request-Id"),
    *("Retry-After", "RateLimit", "RateLimit-Policy", "Allow", "WWW-Authenticate"),
)
"""What a page of another origin may read of a response."""


def application(
    pool: Pool,
    limits: Limits | None = None,
    *,
    sms_product_url: str | None = None,
    cors_origins: tuple[str, ...] = (),
    issuers: TrustedIssuers | None = None,
) -> FastAPI:
    """Builds the application. The service sets ``state.publisher``, ``state.message_router`` and ``state.feed`` once
    the broker is available. Pages of ``cors_origins`` may use the API; none of them sends cookies."""
    app = FastAPI(
        title="Switchboard",
        description="The service settings of chat message channels. A request body is a command's data.",
        version="1",
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # the route would encode the document for each request
        redirect_slashes=False,  # a redirect would name the host that the request claims
        openapi_tags=TAGS,
        generate_unique_id_function=operation_id,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # its spans would have paths and queries
    )
    limits = limits or Limits()
    app.state.request_rates = rates = RateLimits(limits)
    app.state.refusals = refusals = Refusals()
    app.state.issuers = issuers = issuers or TrustedIssuers(OidcConfiguration())
    app.add_middleware(HeadRequests)
    app.state.memory = memory = memory_budget()
    app.state.bodies = bodies = RequestBodies()
    app.state.log_on_bodies = RequestBodies.of_strangers()
    work = work_queue(memory)
    app.state.strangers = strangers = Strangers(limits.requests_per_address, work)
    app.add_middleware(
        RequestGuard,
        pool=pool,
        rates=rates,
        work=work,
        bodies=bodies,
        refusals=refusals,
        issuers=issuers,
        strangers=strangers,
    )
    if cors_origins:  # outside of the guard: a preflight has no key
        app.add_middleware(
            CORSMiddleware,
            allow_origins=cors_origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["*"],
            expose_headers=_EXPOSED_HEADERS,
        )
    app.add_middleware(HttpMetrics)
    app.add_middleware(HttpTraces)
    app.state.console_assets = Assets()
    app.state.sms_product_url = sms_product_url
    app.state.pool, app.state.limits = pool, limits
    app.state.streams = Places("streams", limits.streams_per_account, limits.streams)
    app.state.long_polls = Places("long polls", limits.long_polls_per_account, limits.long_polls)
    app.state.polls = SharedPolls(pool)
    app.state.test_calls = Places("test calls", limits.test_calls_per_account, limits.long_polls, "TooManyTestCalls")
    app.state.replay_rate = RateLimit("replays", limits.replays_per_account, 60)
    app.state.early_status_rate = RateLimit("early statuses", limits.early_statuses_per_account, 24 * 60 * 60)
    app.state.revocations = Revocations(pool)
    app.state.schemas = SchemaValidator()
    app.state.publisher = None
    app.state.message_router = None
    app.state.feed = None
    app.state.schema_queue = schema_queue()
    app.state.what_if_queue = what_if_queue()
    app.state.command_queue, app.state.message_queue = command_queue(), command_queue()
    app.state.rates = CurrentRates()
    app.state.log_reads = LogReads(memory=memory)
    app.state.audit_pages = AuditPages()
    app.state.has_database = operations.has_database(pool)
    app.state.openapi_document = FixedDocument(lambda: bytes(JSONResponse(app.openapi()).body), "application/json")
    app.state.now = lambda: time.time_ns() // 1_000_000
    for route_module in _ROUTE_MODULES:
        app.include_router(route_module.router)
    app.include_router(pages.router)
    problems.install(app, AllowedMethods(app).of)
    check_routes(app, console_request)
    describe(app)
    return app
