"""Scheduling resources: the platform's pools of sender numbers, by country."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from .countries import CountryCode
from .message import CommandData, parse_rfc3339
from .message_routing import E164


def _rfc3339(text: str) -> str:
    parse_rfc3339(text)
    return text


class ReportSchedulingResource(CommandData):
    """A snapshot of one resource: so many ``units`` (messages) are left as of then, valid for so long.

    The record's key is the resource; a record without a value withdraws it.
    """

    resource: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,128}$")]
    country: CountryCode
    sender: E164
    units: Annotated[int, Field(ge=0, lt=2**53)]
    as_of: Annotated[str, AfterValidator(_rfc3339)]
    valid_seconds: Annotated[int, Field(ge=1, le=7 * 24 * 60 * 60)]
