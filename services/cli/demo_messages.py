"""The demo's messages: one of each route that the demo's settings lead to, and why."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from contracts.kafka.router import Router
from contracts.message import rfc3339
from contracts.message_routing import MessageRouted, RouteMessage
from contracts.message_status import ReportStatus
from contracts.scheduling_resource import ReportSchedulingResource
from services.cli.demo import CHANNEL, DEMO_ACCOUNT
from services.infrastructure.config import Settings
from services.infrastructure.embedded.process import EmbeddedServerError
from services.infrastructure.postgres import Pool, pool_of
from services.message_router.message_log import get_message
from services.message_router.resource_list import list_resources

_RESOURCE = ReportSchedulingResource(
    resource="demo-in",
    country="IN",
    sender="+911234567890",
    units=1_000,
    as_of=rfc3339(0),
    valid_seconds=7 * 24 * 60 * 60,
)
_MESSAGES = {
    "India": ("demo-otp-india", "+919812345678"),
    "Indonesia": ("demo-otp-indonesia", "+6281234567890"),
    "Singapore": ("demo-otp-singapore", "+6591234567"),
}
_FIRST = _MESSAGES["India"][0]
_TIMEOUT_S = 60


async def route_messages(
    settings: Settings, platform: dict[str, Any], customer: dict[str, Any], say: Callable[[str], None]
) -> None:
    """Reports a scheduling resource, routes the messages, and has the first delivered. ``platform`` and ``customer``
    are the security options of their clients. Raises `EmbeddedServerError`."""
    bootstrap_servers, pool = settings.kafka_bootstrap_servers or "", await pool_of(settings, size=1)
    try:
        async with Router(bootstrap_servers, source="switchboard-demo", account="platform", **platform) as router:
            await router.report_resource(_RESOURCE.model_copy(update={"as_of": _now()}))
        await _until(lambda: _is_known(pool))
        say("\nThree one-time passwords are routed by these settings:")
        async with Router(bootstrap_servers, source="switchboard-demo", account=DEMO_ACCOUNT, **customer) as router:
            await _route(router, say)
        await _until(lambda: _is_charged(pool))
    finally:
        await pool.close()
    say("  The first is delivered, and charged. Its whole story:")
    say(f"    {_switchboard()} messages show {_FIRST} --channel {CHANNEL}")


def _switchboard() -> str:
    """The command as it can be typed here: in a virtual environment that is not active, by its path."""
    beside = Path(sys.executable).with_name("switchboard")
    return os.path.relpath(beside) if shutil.which("switchboard") is None and beside.exists() else "switchboard"


async def _route(router: Router, say: Callable[[str], None]) -> None:
    for country, (message_id, recipient) in _MESSAGES.items():
        message = RouteMessage(recipient=recipient, category="authentication")
        decision = (await router.route(message, channel=CHANNEL, message_id=message_id)).decision
        if not isinstance(decision, MessageRouted):
            raise EmbeddedServerError(f"The demo's message was refused: {decision.sentence}")
        say(f"  To {country}: {decision.route}. {decision.sentence}")
    delivered = ReportStatus(message=_FIRST, status="delivered", via="chat", at=_now())
    await router.report_status(delivered, channel=CHANNEL, report_id="demo-delivered")


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            while not await holds():  # noqa: ASYNC110 -- it changes in another process
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise EmbeddedServerError(
            "The message router did not go on; see logs/message-router.log in the data directory."
        ) from None


async def _is_known(pool: Pool) -> bool:
    known = await list_resources(pool, time.time_ns() // 1_000_000)
    return any(one["resource"] == _RESOURCE.resource for one in known)


async def _is_charged(pool: Pool) -> bool:
    found = await get_message(pool, DEMO_ACCOUNT, CHANNEL, _FIRST)
    return found is not None and found["charge"] is not None


def _now() -> str:
    return rfc3339(time.time_ns() // 1_000_000)
