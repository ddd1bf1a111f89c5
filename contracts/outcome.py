"""An outcome: the decider's answer to a command, one record each time a command is read."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from .envelope import Origin
from .rejection import Rejection
from .rejections import rejection_named


class WouldAppend(BaseModel):
    """An event that a dry run would have appended."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: str
    data: dict[str, Any]


class CommandAccepted(BaseModel):
    """``version`` is the channel's version after the command; ``events`` are event ids, empty when nothing changed.

    A dry run has ``would_append`` instead of ``events``. ``sealed`` is the base64 of a libsodium sealed box with
    the secret of the signature ``key_id``. ``notices`` are sentences about what not to expect of what was saved.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: int
    events: tuple[str, ...] = ()
    would_append: tuple[WouldAppend, ...] | None = None
    key_id: str | None = None
    sealed: str | None = None
    notices: tuple[str, ...] = ()


class CommandRejected(BaseModel):
    """``rejection`` is a stable name and ``message`` a sentence; the rejection's own facts are further members.

    ``version`` is None on an `InvalidCommand`: an invalid command is refused before its channel is looked up.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    rejection: str
    message: str
    version: int | None = None

    def typed(self) -> Rejection | None:
        """The rejection as its own type; None for a type that this version does not know."""
        kind = rejection_named(self.rejection)
        return None if kind is None else kind.model_validate(self.model_extra)


class OutcomeEnvelope(Origin):
    """An outcome as it is read. ``repeated`` marks the answer to a command id that was answered before."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    specversion: str
    id: str
    type: Literal["CommandAccepted", "CommandRejected"]
    source: str
    subject: str
    time: str
    accountid: str
    actor: str | None = None
    commandsource: str | None = None
    commandtype: str | None = None
    causationid: str
    correlationid: str
    traceparent: str | None = None
    repeated: bool = False
    data: dict[str, Any]

    def body(self) -> CommandAccepted | CommandRejected:
        kind = CommandAccepted if self.type == "CommandAccepted" else CommandRejected
        return kind.model_validate(self.data)
