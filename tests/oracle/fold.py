"""A channel's settings folded from its events, written from the product's documents alone.

`docs` and the shared interface say what each event means; nothing of the product is imported here, so that a mistake in
its own folds cannot hide in this one.
"""

from __future__ import annotations

import copy
from typing import Any

Settings = dict[str, Any]
Event = dict[str, Any]


_EDITABLE = ("name", "provider", "home_country", "international_rates_from")


class Channel:
    """A channel's settings after some of its events. ``settings_at`` shows them as HTTP does at a time."""

    def __init__(self) -> None:
        self._settings: Settings | None = None
        self._drafts: dict[str, dict[str, Any]] = {}

    def apply(self, event: Event) -> None:
        """Raises KeyError where the event cannot follow those before it."""
        data, kind = event["data"], event["type"]
        if kind == "ChannelRegistered":
            self._settings = _registered(event)
        settings = self._settings
        if settings is None:
            raise KeyError(f"{kind} of a channel that was never registered")
        settings["version"] = event["sequence"]
        getattr(self, f"_{kind}", lambda *_: None)(settings, data, event)

    def settings_at(self, time: str) -> Settings | None:
        """``time`` is RFC 3339 in UTC with milliseconds: a signature whose grace period is over is not shown."""
        if self._settings is None:
            return None
        shown = copy.deepcopy(self._settings)
        shown["business_systems"] = [shown["business_systems"][name] for name in sorted(shown["business_systems"])]
        for system in shown["business_systems"]:
            system["intents"] = [system["intents"][code] for code in sorted(system["intents"])]
            system["signatures"] = [
                one for one in system["signatures"] if one["valid_until"] is None or one["valid_until"] > time
            ]
        return shown

    def _ChannelEdited(self, settings: Settings, data: Settings, _: Event) -> None:  # noqa: N802 -- an event's name
        settings.update({name: data[name] for name in _EDITABLE if name in data})

    def _ChannelRetired(self, settings: Settings, _: Settings, __: Event) -> None:  # noqa: N802
        settings["retired"] = True
        for system in settings["business_systems"].values():
            system["signatures"] = []

    def _SmsActivated(self, settings: Settings, _: Settings, __: Event) -> None:  # noqa: N802
        settings["sms"] = {"enabled": True}

    def _SmsDeactivated(self, settings: Settings, _: Settings, __: Event) -> None:  # noqa: N802
        settings["sms"] = {"enabled": False}

    def _OtpSchedulingSaved(self, settings: Settings, data: Settings, _: Event) -> None:  # noqa: N802
        settings["otp_scheduling"] = {name: data[name] for name in ("enabled", "countries", "use_own_numbers")}

    def _SpendGuardSaved(self, settings: Settings, data: Settings, _: Event) -> None:  # noqa: N802
        settings["spend_guard"] = {name: data[name] for name in ("mode", "max_rate", "daily_messages_per_country")}

    def _ApprovalsSaved(self, settings: Settings, data: Settings, _: Event) -> None:  # noqa: N802
        settings["approvals"] = {"required_for": data["required_for"]}

    def _BusinessSystemOpened(self, settings: Settings, data: Settings, _: Event) -> None:  # noqa: N802
        taken_over = data.get("signature")
        settings["business_systems"][data["system"]] = {
            "system": data["system"],
            "name": data["name"],
            "api_request_url": data["api_request_url"],
            "remarks": data.get("remarks", ""),
            "signature_style": data.get("signature_style", "standard-webhooks"),
            "disabled": False,
            "signatures": [] if taken_over is None else [taken_over | {"valid_until": None}],
            "intents": {},
        }

    def _BusinessSystemEdited(self, settings: Settings, data: Settings, _: Event) -> None:  # noqa: N802
        settings["business_systems"][data["system"]].update(data)

    def _BusinessSystemDeleted(self, settings: Settings, data: Settings, _: Event) -> None:  # noqa: N802
        del settings["business_systems"][data["system"]]

    def _BusinessSystemDisabled(self, settings: Settings, data: Settings, _: Event) -> None:  # noqa: N802
        settings["business_systems"][data["system"]]["disabled"] = True

    def _BusinessSystemEnabled(self, settings: Settings, data: Settings, _: Event) -> None:  # noqa: N802
        settings["business_systems"][data["system"]]["disabled"] = False

    def _SignatureRefreshed(self, settings: Settings, data: Settings, event: Event) -> None:  # noqa: N802
        if data.get("api_request_url") is not None:
            return  # a draft: the system is not open yet
        system = settings["business_systems"][data["system"]]
        ends = {one["key_id"]: one["valid_until"] for one in data.get("replaced", ())}
        for one in system["signatures"]:
            one["valid_until"] = ends.get(one["key_id"], one["valid_until"])
        fresh = {"key_id": data["key_id"], "fingerprint": data["fingerprint"], "issued_at": event["time"]}
        system["signatures"].insert(0, fresh | {"valid_until": None})

    def _SignatureRevoked(self, settings: Settings, data: Settings, _: Event) -> None:  # noqa: N802
        system = settings["business_systems"].get(data["system"])
        if system is not None:
            system["signatures"] = [one for one in system["signatures"] if one["key_id"] != data["key_id"]]

    def _IntentAdded(self, settings: Settings, data: Settings, _: Event) -> None:  # noqa: N802
        settings["business_systems"][data["system"]]["intents"][data["code"]] = {
            "code": data["code"],
            "name": data["name"],
            "default_data": data["default_data"],
            "schema": data.get("schema"),
            "templates": [],
        }

    def _IntentEdited(self, settings: Settings, data: Settings, _: Event) -> None:  # noqa: N802
        intent = settings["business_systems"][data["system"]]["intents"][data["code"]]
        intent.update({name: data[name] for name in ("name", "default_data", "schema") if name in data})

    def _IntentDeleted(self, settings: Settings, data: Settings, _: Event) -> None:  # noqa: N802
        del settings["business_systems"][data["system"]]["intents"][data["code"]]

    def _IntentReferredTo(self, settings: Settings, data: Settings, _: Event) -> None:  # noqa: N802
        intent = settings["business_systems"][data["system"]]["intents"][data["code"]]
        intent["templates"] = sorted({*intent["templates"], data["template"]})

    def _IntentReleased(self, settings: Settings, data: Settings, _: Event) -> None:  # noqa: N802
        intent = settings["business_systems"][data["system"]]["intents"][data["code"]]
        intent["templates"] = [one for one in intent["templates"] if one != data["template"]]


def _registered(event: Event) -> Settings:
    data = event["data"]
    return {
        "channel": event["subject"],
        "account": event["accountid"],
        "channel_type": data["channel_type"],
        "name": data["name"],
        "provider": data.get("provider"),
        "retired": False,
        "home_country": data.get("home_country"),
        "international_rates_from": data.get("international_rates_from"),
        "version": event["sequence"],
        "business_systems": {},
        "sms": {"enabled": False},
        "otp_scheduling": {"enabled": False, "countries": [], "use_own_numbers": False},
        "spend_guard": {"mode": "off", "max_rate": None, "daily_messages_per_country": None},
        "approvals": {"required_for": []},
    }
