"""Who sends a request, from where, and the gateway's count of what it refuses them."""

from __future__ import annotations

from fastapi import Request

from contracts.envelope import Origin
from services.gateway.authentication.actor import Actor
from services.gateway.authentication.principal import Principal
from services.gateway.authentication.refusals import Refusals


def origin_of(request: Request, principal: Principal | None = None) -> Origin:
    """Returns what is known of the sender beside its subject; ``principal`` is whom it is from, if that is known."""
    agent = "".join(filter(str.isprintable, request.headers.get("User-Agent", "")))
    return Origin(
        actorname=((principal and principal.name) or "")[:255] or None,
        actorowner=principal and principal.owner,
        sourceaddress=request.client.host if request.client else None,
        useragent=agent[:255] or None,
        requestid=request.state.request_id,
    )


def actor_of(request: Request, principal: Principal) -> Actor:
    return Actor(origin_of(request, principal), principal.subject, principal.scope.provider)


def refusals_of(request: Request) -> Refusals:
    refusals: Refusals = request.app.state.refusals
    return refusals
