"""Proposes what a form would have sent, where a second person has to approve it."""

from __future__ import annotations

import re
from typing import Any

from contracts.kafka.publisher import Outcome
from services.gateway.authentication.caller import require_allowed
from services.gateway.authentication.operations import OPERATIONS, SENT_BY
from services.gateway.console.console_request import ConsoleRequest

_MINUTE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d")


async def send_or_propose(
    console: ConsoleRequest, channel: str, command: str, data: dict[str, Any], *, expected_version: int | None = None
) -> Outcome:
    """Sends the command, or proposes it if the form was sent with the button Propose. Raises `Problem`."""
    sender = console.command(channel, expected_version=expected_version)
    if not console.has("propose"):
        return await sender.send(command, data)
    require_allowed(console.caller.principal, OPERATIONS[SENT_BY[command]])
    proposal = {
        "change": sender.options.command_id,  # so a second click proposes nothing more
        "command": {"type": command, "data": data},
        "comment": console.text("proposal_comment") or None,
        "at": instant_of(console.text("proposal_at")),
    }
    return await sender.send("ProposeChange", {name: value for name, value in proposal.items() if value is not None})


def instant_of(text: str) -> str | None:
    """What a browser's field for a date and a time sends, as an instant of UTC; anything else is left to the rules."""
    return f"{text}:00Z" if _MINUTE.fullmatch(text) else text or None
