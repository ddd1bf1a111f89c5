"""What a verification answers with over HTTP: for the OpenAPI document; no answer is validated by these types."""

from __future__ import annotations

from pydantic import with_config
from typing_extensions import TypedDict

from services.audit.log.source import Position


class FindingJson(TypedDict):
    """Something that is wrong with the log."""

    position: Position
    channel: str | None
    what: str


@with_config(use_attribute_docstrings=True)
class Verification(TypedDict):
    """What was checked of the log, and what is wrong with it."""

    sound: bool
    events: int
    channels: int
    compared_with_channel_state: int
    """Channels whose state on its topic was compared with the fold of their events."""

    read_to: list[Position]
    findings: list[FindingJson]
    """The first bad record first."""
