"""The router's records as they are found on the topics: what was decided before a database lost it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from contracts.message import EventData, unix_milliseconds
from contracts.message_routing import RoutingRefusal
from contracts.notices import NOTICES
from contracts.topics import DEAD_LETTERS
from services.message_router.notices import Subject

REMEMBERED_REFUSALS: tuple[RoutingRefusal, ...] = ("ChannelUnknown", "ChannelRetired", "SettingsNotKnown")
"""A request that is refused so gets the same answer again. The other refusals are about a record, not its message."""


class Published(NamedTuple):
    """``at`` is its time, in Unix milliseconds."""

    id: str
    subject: Subject
    at: int
    data: EventData


def published_id(topic: str, value: bytes | None, headers: Mapping[str, str]) -> str | None:
    """What a repeat of the record has too; None where that cannot be told.

    A notice and a charge have an id; a dead letter is known by the record that it is about.
    """
    if topic == DEAD_LETTERS.name:
        about = [headers.get(name) for name in ("topic", "partition", "offset")]
        return None if None in about else "/".join(map(str, about))
    found = _object(value).get("id")
    return found if isinstance(found, str) else None


def read_published(partition: int, value: bytes | None) -> Published | None:
    """A notice or a charge; None where the record is neither."""
    told = _object(value)
    try:
        data = NOTICES[told["type"]].model_validate(told["data"])
        message = told["data"].get("message") or ""
        subject = Subject(partition, told["subject"], told["accountid"], message, message, told["correlationid"])
        return Published(told["id"], subject, unix_milliseconds(told["time"]), data)
    except (KeyError, TypeError, ValueError, AttributeError):  # pydantic's ValidationError is a ValueError
        return None


def _object(value: bytes | None) -> dict[str, Any]:
    try:
        parsed = json.loads(value or b"null")
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
