"""Usage: what is charged, one record for each message, never two."""

from __future__ import annotations

from .ids import uuid8_of
from .message import EventData
from .message_routing import FeeClass


class MessageCharged(EventData):
    """A message that was sent with the scheduling feature. ``amount`` is a decimal in text; None where the rate book
    has no rate. ``day`` is the UTC day of the posting status, by which it is settled; ``booked_on`` is the UTC day on
    which it was charged."""

    message: str
    country: str
    resource: str
    fee_class: FeeClass
    amount: str | None = None
    currency: str | None = None
    rate_book: int | None = None
    settings_version: int
    posted_at: str
    day: str
    booked_on: str
    late: bool = False


def usage_id(account: str, channel: str, message: str) -> str:
    """The id of a message's charge: derived, so that everybody who dedupes by id recognises a repeat."""
    return uuid8_of("usage", account, channel, message)
