"""Routing a message: the request of the platform's sender, and the decision with its reason."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from .message import CommandData, EventData

Category = Literal["authentication", "marketing", "utility", "service"]

FallbackTrigger = Literal["failed", "undelivered", "unread"]
"""What lets an SMS follow: the chat app says that it failed, or no receipt came within the wait."""

Route = Literal["not_applicable", "scheduled", "own_number", "failed"]

Rule = Literal[
    "ChannelNotWhatsApp",
    "CategoryNotAuthentication",
    "SchedulingOff",
    "RecipientHasNoCountry",
    "CountryNotChosen",
    "ResourceAvailable",
    "NoResources",
    "ResourcesStale",
    "ResourcesExhausted",
    "SpendGuard",
]
"""What decided a route. The three about missing resources go with ``own_number`` or ``failed``."""

FeeClass = Literal["scheduled", "authentication", "authentication-international", "marketing", "utility", "service"]

USER_ID_PREFIX = "user:"
"""Begins a business-scoped user id, which stands for a recipient without a phone number."""

_E164 = re.compile(r"\+[1-9][0-9]{1,14}")
_RECIPIENT = re.compile(r"\+[1-9][0-9]{1,14}|user:[A-Za-z0-9._:-]{1,128}")


def _e164(text: str) -> str:
    if not _E164.fullmatch(text):
        raise ValueError("it must be an E.164 number: + and 2 to 15 digits, such as +911234567890")
    return text


def _recipient(text: str) -> str:
    if not _RECIPIENT.fullmatch(text):
        raise ValueError("it must be an E.164 number such as +911234567890, or 'user:' and a business-scoped user id")
    return text


E164 = Annotated[str, AfterValidator(_e164)]
Recipient = Annotated[str, AfterValidator(_recipient)]


class SmsFallback(BaseModel):
    """When an SMS may follow. Without ``wait_seconds`` only an explicit failure triggers it.

    The vendor allows waits of 60 to 43,200 s.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    to: E164
    wait_seconds: Annotated[int, Field(ge=60, le=43_200)] | None = None
    on: Annotated[tuple[FallbackTrigger, ...], Field(min_length=1, max_length=3, strict=False)]


class RouteMessage(CommandData):
    """Asks for the route of one message; the command's id is the message's.

    ``recipient`` is an E.164 number, or ``user:`` and a business-scoped user id, which has no country.
    ``settings_version``: wait until that version of the channel's settings is known.
    """

    recipient: Recipient
    category: Category
    sms_fallback: SmsFallback | None = None
    settings_version: Annotated[int, Field(ge=1, lt=2**53)] | None = None


class ExpectedRate(BaseModel):
    """A rate as the rate book of version ``book`` has it. ``amount`` is a decimal in text, never a float."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    amount: str
    currency: str
    book: int


class GuardFinding(BaseModel):
    """What the spend guard found. ``limit`` names the limit that the message is over."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    mode: Literal["monitor", "enforce"]
    limit: Literal["max_rate", "daily_messages_per_country"]
    sentence: str


class MessageRouted(EventData):
    """The decision about one message, with all that it rests on: deciding again from it gives the same.

    ``recipient_hash`` is an HMAC of the recipient; no number is in here. ``pool`` and ``sent_today`` are what the
    router saw of scheduling resources and of the spend guard's counter.
    """

    message: str
    route: Route
    rule: Rule
    sentence: str
    category: Category
    country: str | None = None
    country_source: str
    recipient_hash: str
    resource: str | None = None
    sender: str | None = None
    fee_class: FeeClass | None = None
    rate: ExpectedRate | None = None
    international: bool = False
    settings_version: int
    rate_book: int | None = None
    reserved_until: str | None = None
    guard: GuardFinding | None = None
    pool: dict[str, Any] | None = None
    sent_today: int | None = None
    decided_at: str


RoutingRefusal = Literal[
    "InvalidRequest", "MessageIdReused", "ChannelUnknown", "ChannelRetired", "SettingsNotKnown", "InternalError"
]
"""``InternalError``: a fault on our side. It is not remembered, so the same request may be sent again."""


class RoutingRefused(EventData):
    """The request led to no decision. ``reason`` is a stable name, ``sentence`` says what would be right."""

    message: str
    reason: RoutingRefusal
    sentence: str


class DecisionRepeated(EventData):
    """The same request came again: nothing happened, and this is what it led to before, one of the two.

    A type of its own, so that a sender who acts on `MessageRouted` does not send twice.
    """

    message: str
    routed: MessageRouted | None = None
    refused: RoutingRefused | None = None
