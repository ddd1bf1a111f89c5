"""What a published record says of its message's row: a new row that waits for its request, or what a row lacks."""

from __future__ import annotations

from dataclasses import replace
from typing import cast, get_args

from contracts.ids import uuid8_of
from contracts.message import unix_milliseconds
from contracts.message_routing import MessageRouted, RoutingRefused
from contracts.message_status import (
    DoubleChargeRisk,
    ReservationSettled,
    SmsFallbackDue,
    SmsFallbackWithheld,
    Status,
    StatusRefused,
    Via,
)
from services.domain.message_routing.country import USER_ID, Country
from services.domain.message_routing.lifecycle import (
    DoubleCharge,
    Effect,
    FallbackDue,
    FallbackWithheld,
    RoutedMessage,
    Settled,
    with_published,
)
from services.message_router.messages import MessageRow
from services.message_router.notices import to_json_bytes
from services.message_router.published import REMEMBERED_REFUSALS, Published
from services.message_router.requests import MessageKey


def restore_message(messages: dict[MessageKey, MessageRow], told: Published, requests_since: int) -> None:
    """Changes or adds the message's row. Adds none that is older than the requests (Unix milliseconds): none of them
    can come again."""
    subject, data = told.subject, told.data
    key = subject.channel, subject.account, subject.message
    row = messages.get(key)
    if isinstance(data, (MessageRouted, RoutingRefused)):
        if isinstance(data, RoutingRefused) and data.reason not in REMEMBERED_REFUSALS:
            return
        if row is None and told.at >= requests_since:
            row = messages[key] = _new_row(told)
        if row is not None and row.state == "waiting" and row.decision is None and row.refusal is None:
            _answer(row, data)
    elif row is not None:
        life = _with_status_refused(row.life, told, data) if isinstance(data, StatusRefused) else row.life
        if (effect := _effect(told)) is not None:
            life = with_published(life, effect, told.at)
        if life != row.life:
            row.life, row.changed = life, True


def _new_row(told: Published) -> MessageRow:
    """What is not published stays empty, until the request comes."""
    data = told.data
    routed = data if isinstance(data, MessageRouted) else None
    return MessageRow(
        told.subject,
        digest="",
        state="waiting",
        requested_at=told.at,
        asked_version=None,
        category="service" if routed is None else routed.category,
        country=USER_ID if routed is None else Country(routed.country, routed.country_source),
        recipient_hash="" if routed is None else routed.recipient_hash,
        asked=None,
        fallback_to=None,
        is_new=True,
    )


def _answer(row: MessageRow, data: MessageRouted | RoutingRefused) -> None:
    row.changed = True
    if isinstance(data, RoutingRefused):
        row.refusal = data.model_dump_json()
        return
    row.decision, row.settings_version, row.resource = (
        to_json_bytes(data).decode(),
        data.settings_version,
        data.resource,
    )
    row.decided_at = unix_milliseconds(data.decided_at)
    if data.reserved_until is not None:
        row.life = RoutedMessage(reservation="reserved", reserved_until=unix_milliseconds(data.reserved_until))


def _effect(told: Published) -> Effect | None:
    match told.data:
        case ReservationSettled(ended=ended, late=late):
            return Settled(ended, late)
        case SmsFallbackDue(trigger=trigger):
            return FallbackDue(trigger)
        case SmsFallbackWithheld(trigger=withheld, reason=reason):
            return FallbackWithheld(withheld, reason)
        case DoubleChargeRisk(status=status):
            return DoubleCharge(status)
    return None


def _with_status_refused(life: RoutedMessage, told: Published, data: StatusRefused) -> RoutedMessage:
    """A refused status counts as seen. Which one it was, its id says."""
    subject = told.subject
    for via in get_args(Via):
        for status in get_args(Status):
            names = subject.account, subject.channel, subject.message, type(data).__name__, via, status
            if told.id == uuid8_of("notice", *names):
                seen = life.seen | {(cast("Via", via), cast("Status", status))}
                return replace(life, seen=seen)
    return life
