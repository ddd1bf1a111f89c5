"""The notices by their ``type``: what the message router and the invoker tell, each on a topic of its own."""

from __future__ import annotations

from .invocation import IntentInvoked, InvocationFailed
from .message import EventData
from .message_routing import DecisionRepeated, MessageRouted, RoutingRefused
from .message_status import DoubleChargeRisk, ReservationSettled, SmsFallbackDue, SmsFallbackWithheld, StatusRefused
from .rates import RateChangeAhead
from .usage import MessageCharged

MESSAGE_NOTICES: tuple[type[EventData], ...] = (
    MessageRouted,
    RoutingRefused,
    DecisionRepeated,
    ReservationSettled,
    SmsFallbackDue,
    SmsFallbackWithheld,
    DoubleChargeRisk,
    StatusRefused,
    RateChangeAhead,
)
"""The message router's notifications, on `switchboard.message-decisions`."""

_ALL: tuple[type[EventData], ...] = (*MESSAGE_NOTICES, MessageCharged, IntentInvoked, InvocationFailed)

NOTICES: dict[str, type[EventData]] = {kind.__name__: kind for kind in _ALL}
