"""What every view of one channel shows around itself."""

from __future__ import annotations

from typing import Any

from contracts.settings import ChannelSettings
from services.gateway.console.console_request import ConsoleRequest
from services.gateway.long_polls import polls_of
from services.gateway.reads import ReadSettings, read_settings, wait_for_version


async def channel_view(
    console: ConsoleRequest, channel: str, view: str, read: ReadSettings | None = None
) -> dict[str, Any]:
    """Reads the channel. ``?min_version=``, which a page sends after it heard of a change, waits for that version."""
    wanted = console.request.query_params.get("min_version", "")
    version = int(wanted) if wanted.isascii() and wanted.isdigit() and len(wanted) < 13 else None
    found = read or await read_settings(console.request, console.caller, channel, version)

    def offers(page: str) -> bool:
        """Whether the view has a button that posts to the page: if the person may, and the channel is not retired."""
        return not found.settings.retired and console.may(f"POST /console/channels/{{channel}}/{page}")

    return {"settings": found.settings, "cursor": found.cursor, "view": view, "read": found, "offers": offers}


async def settled(console: ConsoleRequest, channel: str, version: int | None) -> ReadSettings:
    """Waits until the read model shows what was just changed, so that the next view does too."""
    return await read_settings(console.request, console.caller, channel, version)


async def until_history_has(console: ConsoleRequest, settings: ChannelSettings) -> None:
    """Waits until the history is as new as these settings, or long enough."""
    polls, channel = polls_of(console.request), (settings.account, settings.channel)
    await wait_for_version(console.request, console.caller, polls.history, channel, settings.version)
