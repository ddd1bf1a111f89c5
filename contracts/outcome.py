"""An outcome: the decider's answer to a command, one record for each time a command comes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from .rejections import Rejection, rejection_named


class WouldAppend(BaseModel):
    """An event that a dry run would have appended."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: str
    data: dict[str, Any]


class CommandAccepted(BaseModel):
    """``version`` is the channel's after the command; ``events`` their ids, empty when nothing changed.

    A dry run has ``would_append`` instead of ``events``. ``sealed`` is the base64 of a libsodium sealed box.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: int
    events: tuple[str, ...] = ()
    would_append: tuple[WouldAppend, ...] | None = None
    sealed: str | None = None


class CommandRejected(BaseModel):
    """``rejection`` is a stable name, ``message`` a sentence; what the rejection is about stands beside them.

    ``version`` is None on an `InvalidCommand`, which nothing was looked up for.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    rejection: str
    message: str
    version: int | None = None

    def typed(self) -> Rejection | None:
        """The rejection as its own type; None where this reader does not know it."""
        kind = rejection_named(self.rejection)
        return None if kind is None else kind.model_validate(self.model_extra)


class OutcomeEnvelope(BaseModel):
    """An outcome as it is read. ``repeated`` marks the answer to an id that came before."""

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
