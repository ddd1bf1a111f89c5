"""The life of a routed message: its reservation, its statuses, its SMS fallback. Pure; times are Unix milliseconds.

A message is a small record. Each function gives the record after something happened, and what is to be told of it.
A reservation ends exactly once (posted, voided, expired; an expired one may still be posted, late); a fallback fires at
most once, and only by its timer (`at_time`), which is called with switches that are not behind the log; a status that
came before has no effect.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, assert_never

from contracts.message_routing import FallbackTrigger, Route
from contracts.message_status import Status, Via, WithheldReason

ReservationState = Literal["none", "reserved", "posted", "voided", "expired"]
FallbackState = Literal["none", "armed", "failed", "due", "withheld"]
"""``failed``: an explicit failure came, so that the fallback fires as soon as its timer looks at the switches."""


class Fallback(NamedTuple):
    """What the request asked for. ``fires_at`` is None where only an explicit failure triggers it."""

    on: frozenset[FallbackTrigger]
    fires_at: int | None


@dataclass(frozen=True, slots=True)
class RoutedMessage:
    """``seen`` are the statuses that counted, as (via, status).

    ``due_at`` is when the fallback was due, of a message that was restored: its receipts from before come again.
    """

    reservation: ReservationState = "none"
    reserved_until: int | None = None
    posted_late: bool = False
    fallback: FallbackState = "none"
    fallback_asked: Fallback | None = None
    seen: frozenset[tuple[Via, Status]] = frozenset()
    double_charge_told: bool = False
    due_at: int | None = None

    @property
    def is_settled(self) -> bool:
        """Whether nothing can need the recipient's number any more."""
        return self.fallback in ("none", "due", "withheld") and self.reservation != "reserved"


class Settled(NamedTuple):
    ended: Literal["posted", "voided", "expired"]
    late: bool


class FallbackDue(NamedTuple):
    trigger: FallbackTrigger


class FallbackWithheld(NamedTuple):
    trigger: FallbackTrigger | None
    reason: WithheldReason


class DoubleCharge(NamedTuple):
    status: Status


Effect = Settled | FallbackDue | FallbackWithheld | DoubleCharge


class Switches(NamedTuple):
    """The settings that a fallback is looked up against at the moment it would fire."""

    sms_enabled: bool
    retired: bool


class Outcome(NamedTuple):
    message: RoutedMessage
    effects: tuple[Effect, ...]


FALLBACK_CHANNEL_TYPES = ("whatsapp", "viber")
"""The chat apps whose messages an SMS may follow."""

_PROOF_OF_SENDING = ("sent", "delivered", "read")
_RECEIPTS = ("delivered", "read")


class Asked(NamedTuple):
    """A request's ``sms_fallback`` without its number; ``wait_seconds`` of None waits for an explicit failure only."""

    on: frozenset[FallbackTrigger]
    wait_seconds: int | None


def begin(
    route: Route, reserved_until: int | None, asked: Asked | None, channel_type: str, switches: Switches, now: int
) -> Outcome:
    """The message as its decision makes it. A route of ``failed`` is an explicit failure, too."""
    message = RoutedMessage(reservation="none" if reserved_until is None else "reserved", reserved_until=reserved_until)
    if asked is None:
        return Outcome(message, ())
    if channel_type not in FALLBACK_CHANNEL_TYPES:
        return _withhold(message, None, "ChannelTypeWithoutFallback")
    if not switches.sms_enabled:
        return _withhold(message, None, "SmsNotActivated")
    fires_at = None if asked.wait_seconds is None else now + asked.wait_seconds * 1000
    message = replace(message, fallback="armed", fallback_asked=Fallback(asked.on, fires_at))
    if route == "failed" and "failed" in asked.on:
        return Outcome(_fail(message, now), ())
    return Outcome(message, ())


def with_status(message: RoutedMessage, status: Status, via: Via, now: int, received_at: int | None = None) -> Outcome:
    """The message after a status, which came at ``received_at``, or now. The same one again changes nothing."""
    if (via, status) in message.seen:
        return Outcome(message, ())
    seen = message.seen | {(via, status)}
    if via == "sms":
        return Outcome(replace(message, seen=seen), ())
    message, settled = _settle(replace(message, seen=seen), status)
    message, fallback = _fall_back(message, status, now, now if received_at is None else received_at)
    return Outcome(message, (*settled, *fallback))


def _settle(message: RoutedMessage, status: Status) -> Outcome:
    if status in _PROOF_OF_SENDING and message.reservation in ("reserved", "expired"):
        late = message.reservation == "expired"
        return Outcome(replace(message, reservation="posted", posted_late=late), (Settled("posted", late),))
    if status == "failed" and message.reservation == "reserved":
        return Outcome(replace(message, reservation="voided"), (Settled("voided", late=False),))
    return Outcome(message, ())


def _fall_back(message: RoutedMessage, status: Status, now: int, received_at: int) -> Outcome:
    if status in _RECEIPTS and message.fallback == "due" and not message.double_charge_told:
        if message.due_at is not None and received_at < message.due_at:
            return Outcome(message, ())
        return Outcome(replace(message, double_charge_told=True), (DoubleCharge(status),))
    asked = message.fallback_asked
    if message.fallback not in ("armed", "failed") or asked is None:
        return Outcome(message, ())
    if status == "failed":
        arrived = any(("chat", receipt) in message.seen for receipt in _RECEIPTS)
        fails = message.fallback == "armed" and "failed" in asked.on and not arrived
        return Outcome(_fail(message, now) if fails else message, ())
    if status == "read":
        return _withhold(message, None, "Read")
    if status == "delivered" and (message.fallback == "failed" or "unread" not in asked.on):
        return _withhold(message, None, "Delivered")
    return Outcome(message, ())


def _fail(message: RoutedMessage, now: int) -> RoutedMessage:
    asked = message.fallback_asked
    return replace(message, fallback="failed", fallback_asked=None if asked is None else asked._replace(fires_at=now))


def _fire(message: RoutedMessage, trigger: FallbackTrigger, switches: Switches) -> Outcome:
    if switches.retired:
        return _withhold(message, trigger, "ChannelRetired")
    if not switches.sms_enabled:
        return _withhold(message, trigger, "SmsSwitchedOff")
    return Outcome(replace(message, fallback="due"), (FallbackDue(trigger),))


def _withhold(message: RoutedMessage, trigger: FallbackTrigger | None, reason: WithheldReason) -> Outcome:
    return Outcome(replace(message, fallback="withheld"), (FallbackWithheld(trigger, reason),))


def at_time(message: RoutedMessage, now: int, switches: Switches) -> Outcome:
    """The message after the timers that are over: the reservation's end, and the fallback's wait."""
    effects: tuple[Effect, ...] = ()
    if message.reservation == "reserved" and message.reserved_until is not None and now >= message.reserved_until:
        message = replace(message, reservation="expired")
        effects = (Settled("expired", late=False),)
    asked = message.fallback_asked
    waits = message.fallback in ("armed", "failed")
    if waits and asked is not None and asked.fires_at is not None and now >= asked.fires_at:
        trigger = "failed" if message.fallback == "failed" else _trigger_after_wait(message, asked)
        fired = _withhold(message, None, "Delivered") if trigger is None else _fire(message, trigger, switches)
        return Outcome(fired.message, (*effects, *fired.effects))
    return Outcome(message, effects)


def _trigger_after_wait(message: RoutedMessage, asked: Fallback) -> FallbackTrigger | None:
    """What lets the fallback fire when its wait is over; None where the message arrived as far as was asked."""
    if ("chat", "delivered") in message.seen:
        return "unread" if "unread" in asked.on else None
    return "undelivered" if "undelivered" in asked.on else "unread" if "unread" in asked.on else None


def next_timer(message: RoutedMessage) -> int | None:
    """When `at_time` is to be called next; None where no timer runs."""
    expires_at = message.reserved_until if message.reservation == "reserved" else None
    if message.fallback not in ("armed", "failed") or message.fallback_asked is None:
        return expires_at
    fires_at = message.fallback_asked.fires_at
    if expires_at is None:
        return fires_at
    return expires_at if fires_at is None else min(expires_at, fires_at)


def with_published(message: RoutedMessage, effect: Effect, at: int) -> RoutedMessage:
    """The message once an effect is found among what was published; one that it has already changes nothing."""
    match effect:
        case Settled("posted", late):
            return replace(message, reservation="posted", posted_late=late)
        case Settled(ended, _):
            return replace(message, reservation=ended) if message.reservation == "reserved" else message
        case FallbackDue():
            return message if message.fallback == "due" else replace(message, fallback="due", due_at=at)
        case FallbackWithheld():
            return replace(message, fallback="withheld")
        case DoubleCharge():
            return replace(message, double_charge_told=True)
        case _:
            assert_never(effect)


def begin_again(
    message: RoutedMessage, route: Route, asked: Asked | None, channel_type: str, decided_at: int
) -> Outcome:
    """A message whose decision and effects were published, once its request is known again.

    A fallback of which nothing was published is armed, whatever the switches were: its timer looks at them.
    """
    switches = Switches(sms_enabled=True, retired=False)
    begun = begin(route, message.reserved_until, asked, channel_type, switches, decided_at)
    if message.fallback != "none":
        return Outcome(replace(message, fallback_asked=begun.message.fallback_asked), ())
    fallback, fallback_asked = begun.message.fallback, begun.message.fallback_asked
    return Outcome(replace(message, fallback=fallback, fallback_asked=fallback_asked), begun.effects)
