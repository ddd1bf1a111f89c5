"""What a message's timeline keeps beside its decision and its statuses: how its reservation ended, fallback, charge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from contracts.message import EventData
from contracts.message_status import DoubleChargeRisk, ReservationSettled, SmsFallbackDue, SmsFallbackWithheld
from contracts.usage import MessageCharged
from services.infrastructure.postgres import Connection
from services.message_router.notices import Subject

IN_TIMELINE = (ReservationSettled, SmsFallbackDue, SmsFallbackWithheld, DoubleChargeRisk, MessageCharged)

_ADD = """
    INSERT INTO message_router.notices (channel, account, message, type, told_at, data)
    SELECT channel, account, message, type, $6, data::json
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) WITH ORDINALITY
        AS n(channel, account, message, type, data, place)
    ORDER BY place
"""
# One that is there has the same type and time: no message has two of a type within a transaction.
_RESTORE = """
    INSERT INTO message_router.notices (channel, account, message, type, told_at, data)
    SELECT channel, account, message, type, told_at, data::json
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[]) WITH ORDINALITY
        AS n(channel, account, message, type, data, told_at, place)
    WHERE EXISTS (SELECT FROM message_router.messages m
        WHERE m.channel = n.channel AND m.account = n.account AND m.message = n.message)
    AND NOT EXISTS (SELECT FROM message_router.notices o
        WHERE o.channel = n.channel AND o.account = n.account AND o.message = n.message
        AND o.type = n.type AND o.told_at = n.told_at)
    ORDER BY place
"""


class TimelineNotice(NamedTuple):
    subject: Subject
    data: EventData


async def add_notices(connection: Connection, notices: Sequence[TimelineNotice], now: int) -> None:
    """Adds the notices to the timelines of their messages, in this order."""
    if notices:
        await connection.execute(_ADD, *_columns(notices), now)


async def restore_notices(connection: Connection, notices: Sequence[TimelineNotice], told_at: Sequence[int]) -> None:
    """Adds those of known messages that are not there yet. ``told_at`` (Unix milliseconds) is each one's."""
    if notices:
        await connection.execute(_RESTORE, *_columns(notices), list(told_at))


def _columns(notices: Sequence[TimelineNotice]) -> list[list[str]]:
    return [
        [one.subject.channel for one in notices],
        [one.subject.account for one in notices],
        [one.subject.message for one in notices],
        [type(one.data).__name__ for one in notices],
        [one.data.model_dump_json() for one in notices],
    ]
