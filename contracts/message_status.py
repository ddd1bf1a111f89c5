"""What became of a message: its statuses, its reservation, its SMS fallback."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, StringConstraints

from .ids import CommandId
from .message import CommandData, EventData, parse_rfc3339
from .message_routing import FallbackTrigger

Status = Literal["sent", "delivered", "read", "failed"]
Via = Literal["chat", "sms"]


def _rfc3339(text: str) -> str:
    parse_rfc3339(text)
    return text


class ReportStatus(CommandData):
    """States what the chat app or the SMS product said of a message. May come twice, late, or before its decision.

    Of ``error``, runs of 7 to 15 digits are removed before it is kept: they may be a recipient's number.
    """

    message: CommandId
    status: Status
    via: Via
    at: Annotated[str, AfterValidator(_rfc3339)]
    error: Annotated[str, StringConstraints(max_length=1024)] | None = None


class ReservationSettled(EventData):
    """How the reservation of a unit ended, once: ``posted`` (charged), ``voided`` or ``expired`` (the unit is free).

    ``late``: it was posted after it had expired.
    """

    message: str
    resource: str
    ended: Literal["posted", "voided", "expired"]
    late: bool = False


class SmsFallbackDue(EventData):
    """An SMS is to be sent for the message, now. At most one per message. ``settings_version`` has Activate SMS on."""

    message: str
    trigger: FallbackTrigger
    settings_version: int


WithheldReason = Literal[
    "ChannelTypeWithoutFallback", "SmsNotActivated", "SmsSwitchedOff", "Delivered", "Read", "ChannelRetired"
]
"""The first two are known at the request, the others when the fallback would fire or a receipt comes."""


class SmsFallbackWithheld(EventData):
    """A fallback that was asked for does not happen; ``reason`` is a stable name."""

    message: str
    trigger: FallbackTrigger | None = None
    reason: WithheldReason
    sentence: str
    settings_version: int


class DoubleChargeRisk(EventData):
    """A chat receipt came after the SMS fallback: the platform charges for both."""

    message: str
    status: Status
    at: str
    sentence: str


StatusRefusal = Literal["InvalidRequest", "ChannelUnknown", "NotRouted", "InternalError"]
"""``InternalError``: a fault on our side; the same status may be reported again."""


class StatusRefused(EventData):
    """A status that leads to nothing: unusable, or its message was not routed within the time that it was kept for."""

    message: str | None = None
    reason: StatusRefusal
    sentence: str
