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
from tests.installation import Api, Installation, fresh, run_apart
from tests.messages import now, report_resource, until_shown

MALAYSIAN = "+60123456789"
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
            "messages": f"{channel}/messages",
            "message": f"{channel}/messages/otp-1001",
            "proposed-changes": f"{channel}/proposed-changes",
            "proposed-change": f"{channel}/proposed-changes/more-countries",
            "history": f"{channel}/history",
            "trace": f"{channel}/traces/order-1001",
            "undo": f"{channel}/history/7/undo",
            "compare": f"{channel}/compare?from=6",
            "account-history": "history",
            "usage": "usage",
            "api-keys": "api-keys",
            "palette": "palette?q=s",
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
    version = send(installation, account, channel, commands)
    return Furnished(channel, run_apart(_use(installation, account, channel, version)))


async def _use(installation: Installation, account: str, channel: str, version: int) -> str:
    """Proposes a change, has messages routed, and makes a call that fails. Returns the call's delivery."""
    async with installation.publisher(account) as publisher:
        await publisher.publish(
            InvokeIntent(system="crm", code="ORDER_STATUS"),
            channel=channel,
            command_id="order-1001",
            topic=INVOCATION_REQUESTS.name,
        )
    async with installation.api(None) as platform, installation.api(account) as api:
        form = {"enabled": True, "countries": ["AE", "ID", "IN", "MY", "SG"], "use_own_numbers": False}
        command = {"type": "SaveOtpScheduling", "data": form}
        proposal = {"change": "more-countries", "comment": "We open in Singapore.", "command": command}
        answer = await api("POST", f"channels/{channel}/proposed-changes", proposal)
        assert answer.status == 201, answer.body
        await report_resource(platform, 100, fresh("pool-my"), "MY")
        await _route_messages(api, channel, version)
        for _ in range(200):
            found = (await api("GET", f"deliveries?channel={channel}&state=dead")).body["deliveries"]
            if found:
                return str(found[0]["id"])
            await asyncio.sleep(0.2)
    raise AssertionError("the call did not end")


async def _route_messages(api: Api, channel: str, version: int) -> None:
    """One that is charged, and one of each other route."""
    fallback = {"to": MALAYSIAN, "wait_seconds": 600, "on": ["undelivered"]}
    asked: dict[str, dict[str, object]] = {
        "otp-1001": {"recipient": MALAYSIAN, "category": "authentication", "sms_fallback": fallback},
        "otp-1002": {"recipient": "+971501234567", "category": "authentication"},
        "offer-17": {"recipient": MALAYSIAN, "category": "marketing"},
    }
    for message, request in asked.items():
        body = request | {"settings_version": version}
        key = {"Idempotency-Key": message}
        answer = await api("POST", f"channels/{channel}/message-decisions", body, headers=key)
        assert answer.status == 200, answer.body
    for status in ("sent", "delivered"):
        report = {"status": status, "via": "chat", "at": now()}
        path = f"channels/{channel}/messages/otp-1001/statuses?min_version={version}"
        assert (await api("POST", path, report)).status == 202
    await until_shown(api, channel, "otp-1001", lambda one: one["sms_fallback"]["state"] == "withheld")
