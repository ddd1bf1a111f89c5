"""Customer Management: a provider's customers with their channels, who differs, and sections saved on many channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.responses import Response

from contracts.ids import new_id
from services.gateway.console.catalogue import _
from services.gateway.console.console_request import Console, ConsoleRequest
from services.gateway.console.routing import ConsoleRoute
from services.gateway.problems import Problem
from services.gateway.reads import require_channel
from services.gateway.routes.customers import MAX_CHANNELS, SectionsToSave, customer_page, save_sections

PAGE = MAX_CHANNELS
_SECTION_NAMES = {
    "sms": _("SMS"),
    "otp-scheduling": _("OTP Delivery Scheduling"),
    "spend-guard": _("Spend Guard"),
}

router = APIRouter(route_class=ConsoleRoute)


@router.get("/customers")
async def customer_management(console: Console, template: str = "", after: str = "") -> Response:
    return await _page(console, template, after)


@router.post("/customers/settings")
async def save_on_chosen(console: Console) -> Response:
    """Saves the template's sections on the chosen channels, and shows the page again with what became of each."""
    template, chosen = console.text("template"), console.form.get("channel", [])
    if not chosen:
        return await _page(console, template, console.text("after"), refused=_("Choose at least one channel."))
    try:
        asked = SectionsToSave(
            template=template,
            channels=tuple(chosen),
            international_rates_acknowledged=console.has("international_rates_acknowledged"),
        )
    except ValidationError:
        raise Problem(422, "SectionsInvalid", _("The form cannot be read; send it as the page has it.")) from None
    results = await save_sections(console.request, console.caller, asked, console.options())
    for one in results:
        if "version" in one:
            await require_channel(console.request, console.caller, one["channel"], one["version"])
    return await _page(console, template, console.text("after"), results=results)


async def _page(
    console: ConsoleRequest, template: str, after: str, *, results: Sequence[dict[str, Any]] = (), refused: str = ""
) -> Response:
    """``template`` is the channel that others are compared with, if any."""
    found = await customer_page(console.request, console.caller, template.strip() or None, after, PAGE)
    return console.page(
        "customers.html",
        422 if refused else 200,
        customers=found["customers"],
        following=found["next"],
        compared=template.strip(),
        after=after,
        results=results,
        refused=refused,
        command_id=new_id(),
        section_names=_SECTION_NAMES,
    )
