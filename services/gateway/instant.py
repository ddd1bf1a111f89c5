"""Times in requests: RFC 3339 with an offset, and within what the database can compare."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, BeforeValidator

from contracts.message import parse_rfc3339


def _parsed(value: Any) -> datetime:
    """A number is no time, although pydantic would take it for one."""
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str):
        raise ValueError("it must be a text")
    return parse_rfc3339(value).astimezone(UTC)


Instant = Annotated[AwareDatetime, BeforeValidator(_parsed)]
