"""Channels that messages are routed on, and scheduling resources of a country of their own."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from contracts.channel import RegisterChannel
from contracts.message import rfc3339
from contracts.otp_scheduling import SaveOtpScheduling
from contracts.sms import ToggleSms
from tests.installation import Api, Installation, fresh

WHATSAPP = RegisterChannel(channel_type="whatsapp", name="Shop", enterprise_authenticated=True)
SINGAPOREAN = "+6591234567"
SENDER = "+6580000000"


def now() -> str:
    return rfc3339(time.time_ns() // 1_000_000)


async def scheduled_channel(installation: Installation, account: str, *, own_numbers: bool = False) -> tuple[str, int]:
    """A WhatsApp channel with scheduling for Singapore and SMS on, and its version."""
    channel = fresh("ch")
    async with installation.publisher(account) as publisher:
        await publisher.send(WHATSAPP, channel=channel)
        form = SaveOtpScheduling(
            enabled=True,
            countries=["SG"],
            use_own_numbers=own_numbers,
            international_rates_acknowledged=own_numbers,
        )
        assert (await publisher.send(form, channel=channel)).accepted
        done = await publisher.send(ToggleSms(enabled=True), channel=channel)
    assert done.version is not None
    return channel, done.version


async def report_resource(platform: Api, units: int, resource: str = "pool-sg", country: str = "SG") -> None:
    """Reports the resource, and waits until the router knows."""
    report = {"resource": resource, "country": country, "sender": SENDER, "units": units}
    answer = await platform("POST", "scheduling-resources", report | {"as_of": now(), "valid_seconds": 3600})
    assert answer.status == 202, answer.body
    await until_resource(platform, resource, lambda one: one is not None and one["units"] == units)


async def until_resource(platform: Api, resource: str, holds: Any) -> None:
    async with asyncio.timeout(30):
        while True:
            found = (await platform("GET", "scheduling-resources")).body["resources"]
            if holds(next((one for one in found if one["resource"] == resource), None)):
                return
            await asyncio.sleep(0.1)


async def until_shown(api: Api, channel: str, message: str, holds: Any) -> dict[str, Any]:
    """The message, once it is so."""
    async with asyncio.timeout(30):
        while True:
            shown = await api("GET", f"channels/{channel}/messages/{message}")
            if shown.status == 200 and holds(shown.body):
                body: dict[str, Any] = shown.body
                return body
            await asyncio.sleep(0.1)
