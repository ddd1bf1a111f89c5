"""Deliveries: a channel's signed calls, each with its attempts, and their replay."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from services.gateway.console.catalogue import _
from services.gateway.console.channel_view import channel_view
from services.gateway.console.console_request import Console
from services.gateway.console.rendering import url
from services.gateway.console.routing import ConsoleRoute
from services.gateway.problems import Problem
from services.gateway.requests import pool_of
from services.gateway.routes.deliveries import replay_within_rate
from services.invoker import delivery_log

PAGE = 50
MAX_REPLAYED_AT_ONCE = 1_000
_DELIVERIES = "/channels/{channel}/deliveries"

router = APIRouter(route_class=ConsoleRoute)


@router.get(_DELIVERIES)
async def deliveries(
    console: Console, channel: str, state: str = "", system: str = "", reason: str = "", before: str = ""
) -> Response:
    view = await channel_view(console, channel, "deliveries")
    states = tuple(one for one in delivery_log.STATES if one == state)
    sought = delivery_log.DeliveryFilter(
        view["settings"].account, channel, system or None, states, before=before or None, reason=reason or None
    )
    pool = pool_of(console.request)
    found = await delivery_log.list_deliveries(pool, sought, PAGE + 1)
    return console.page(
        "deliveries.html",
        deliveries=found[:PAGE],
        following=found[PAGE - 1]["id"] if len(found) > PAGE else None,
        failures=await delivery_log.failures(pool, sought),
        filters={"state": state, "system": system, "reason": reason, "before": before},
        states=delivery_log.STATES,
        replayable=delivery_log.REPLAYABLE,
        **view,
    )


@router.get(f"{_DELIVERIES}/{{delivery}}")
async def delivery_details(console: Console, channel: str, delivery: str) -> Response:
    view = await channel_view(console, channel, "deliveries")
    found = await delivery_log.get_delivery(pool_of(console.request), view["settings"].account, delivery)
    if found is None or found["channel"] != channel:
        raise Problem(404, "DeliveryUnknown", f"The channel has no delivery {delivery[:128]!r}.")
    replayable = not found["test"] and found["state"] in delivery_log.REPLAYABLE
    return console.page("delivery.html", delivery=found, replayable=replayable, **view)


@router.post(f"{_DELIVERIES}/{{delivery}}/replay")
async def replay(console: Console, channel: str, delivery: str) -> Response:
    account = (await channel_view(console, channel, "deliveries"))["settings"].account
    sought = delivery_log.DeliveryFilter(account, channel, id=delivery)
    sent, _allowed = await replay_within_rate(console.request, console.caller, sought, 1)
    if not sent:
        raise Problem(409, "DeliveryNotReplayable", "Only a call that has ended, and is no test, can be sent again.")
    return console.done(url("channels", channel, "deliveries", delivery), _("The call is sent again."))


@router.post(f"{_DELIVERIES}/replay")
async def replay_many(console: Console, channel: str) -> Response:
    """Sends the chosen calls again; or every dead one of the channel, a system, a reason, `MAX_REPLAYED_AT_ONCE`."""
    account = (await channel_view(console, channel, "deliveries"))["settings"].account
    chosen = tuple(console.form.get("delivery", []))
    if console.has("chosen"):
        if not chosen:
            raise Problem(422, "NothingChosen", _("Choose at least one call."))
        sought = delivery_log.DeliveryFilter(account, channel, ids=chosen)
    else:
        system, reason = console.text("system") or None, console.text("reason") or None
        sought = delivery_log.DeliveryFilter(account, channel, system, ("dead",), reason=reason)
    sent, _allowed = await replay_within_rate(console.request, console.caller, sought, MAX_REPLAYED_AT_ONCE)
    said = (
        _("1 call is sent again.")
        if len(sent) == 1
        else _("%(count)s calls are sent again.") % {"count": f"{len(sent):,}"}
    )
    return console.done(url("channels", channel, "deliveries"), said)
