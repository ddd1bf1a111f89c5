"""What the history answers with over HTTP: for the OpenAPI document; no answer is validated by these types."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from pydantic import Field, with_config
from typing_extensions import TypedDict

from contracts.message import Time


@with_config(use_attribute_docstrings=True)
class HistoryEntry(TypedDict):
    """An event, or a rejection; what does not apply is left out."""

    position: Annotated[str, Field(description="topic/partition/offset", examples=["switchboard.events/3/17"])]
    id: str
    time: Time
    account: str
    channel: str
    type: str
    """The event's type, or `CommandRejected`."""

    command: NotRequired[str]
    """The command's type."""

    command_id: str
    correlation_id: str
    actor: NotRequired[str]
    source: NotRequired[str]
    """The client that sent the command."""

    version: NotRequired[int]
    """The channel's version after the event."""

    resource: NotRequired[str]
    before: NotRequired[dict[str, Any]]
    """What the event changed, as resource/field, with its values before."""

    after: NotRequired[dict[str, Any]]
    data: NotRequired[dict[str, Any]]
    """Of the event, where it changed no setting."""

    rejection: NotRequired[str]
    message: NotRequired[str]
    repeated: NotRequired[bool]
    """An answer that was given before."""


@with_config(use_attribute_docstrings=True)
class HistoryPage(TypedDict):
    """Events and rejections, newest first."""

    entries: list[HistoryEntry]
    next: str | None
    cursor: str | None
    """Changes continue after it; null while the broker is away."""
