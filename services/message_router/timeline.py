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


class TimelineNotice(NamedTuple):
    subject: Subject
    data: EventData


async def add_notices(connection: Connection, notices: Sequence[TimelineNotice], now: int) -> None:
    """Adds the notices to the timelines of their messages, in this order."""
    if notices:
        await connection.execute(
            _ADD,
            [one.subject.channel for one in notices],
            [one.subject.account for one in notices],
            [one.subject.message for one in notices],
            [type(one.data).__name__ for one in notices],
            [one.data.model_dump_json() for one in notices],
            now,
        )
