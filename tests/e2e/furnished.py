"""A channel with everything set, and the views of the console that show it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from contracts.business_system import OpenBusinessSystem
from contracts.intent import AddIntent
from contracts.invocation import InvokeIntent
from contracts.message import CommandData
from contracts.otp_scheduling import SaveOtpScheduling
from contracts.signature import RefreshSignature
from contracts.sms import ToggleSms
from contracts.topics import INVOCATION_REQUESTS
from tests.e2e.shop import register, send
from tests.installation import Installation, run_apart

SCHEMA = {
    "type": "object",
    "properties": {"order": {"type": "string"}, "language": {"enum": ["en", "id"]}},
    "required": ["order"],
}


@dataclass(frozen=True, slots=True)
class Furnished:
    channel: str
    delivery: str
    """A call that is dead, because its receiver does not exist."""

    def views(self) -> dict[str, str]:
        """Name -> path below ``/console/``."""
        channel = f"channels/{self.channel}"
        page = f"{channel}/service-settings"
        system = f"{page}/business-systems/crm"
        return {
            "channel-management": "channels",
            "channel-details": channel,
            "service-settings": page,
            "open-business-system": f"{page}/open-business-system",
            "edit-business-system": f"{system}/edit",
            "delete-business-system": f"{system}/delete",
            "refresh-signature": f"{system}/signature",
            "intent-settings": f"{system}/intents",
            "add-intent": f"{system}/intents/add",
            "edit-intent": f"{system}/intents/ORDER_STATUS/edit",
            "delete-intent": f"{system}/intents/ORDER_STATUS/delete",
            "test-call": f"{system}/test-call",
            "deliveries": f"{channel}/deliveries",
            "delivery": f"{channel}/deliveries/{self.delivery}",
            "history": f"{channel}/history",
            "undo": f"{channel}/history/7/undo",
            "account-history": "history",
        }


def furnish(installation: Installation, account: str, name: str = "Batik House Jakarta") -> Furnished:
    """Registers a WhatsApp channel, sets everything, and calls an intent whose receiver does not exist."""
    channel = register(installation, account, "whatsapp", name)
    for channel_type, other in (("viber", "Batik House Viber"), ("telegram", "Batik House Telegram")):
        register(installation, account, channel_type, other)
    commands: list[CommandData] = [
        OpenBusinessSystem(
            system="crm",
            name="Customer care",
            api_request_url="https://crm.invalid/chat-app/events",
            remarks="Answered by the team in Jakarta, every day from 8 to 20.",
        ),
        AddIntent(
            system="crm",
            code="ORDER_STATUS",
            name="Order status",
            default_data={"order": "1001", "language": "id"},
            json_schema=SCHEMA,
        ),
        AddIntent(system="crm", code="TALK_TO_US", name="Talk to us", default_data={}),
        OpenBusinessSystem(system="stock", name="Warehouse", api_request_url="https://stock.invalid/hooks"),
        ToggleSms(enabled=True),
        SaveOtpScheduling(enabled=True, countries=["ID", "IN", "MY", "AE"], use_own_numbers=False),
        RefreshSignature(system="crm"),
    ]
    send(installation, account, channel, commands)
    return Furnished(channel, _dead_call(installation, account, channel))


def _dead_call(installation: Installation, account: str, channel: str) -> str:
    async def call() -> str:
        async with installation.publisher(account) as publisher:
            await publisher.publish(
                InvokeIntent(system="crm", code="ORDER_STATUS"), channel=channel, topic=INVOCATION_REQUESTS.name
            )
        async with installation.api(account) as api:
            for _ in range(200):
                found = (await api("GET", f"deliveries?channel={channel}&state=dead")).body["deliveries"]
                if found:
                    return str(found[0]["id"])
                await asyncio.sleep(0.2)
        raise AssertionError("the call did not end")

    return run_apart(call())
