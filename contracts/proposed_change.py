"""Proposed changes: a command that is carried out once a person other than its author has approved it.

A proposed change never changes itself. To edit one is to propose another that replaces it.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from .approvals import SaveApprovals
from .business_system import DeleteBusinessSystem, EditBusinessSystem, EnableBusinessSystem, OpenBusinessSystem
from .channel import RetireChannel
from .ids import ID_PATTERN
from .message import CommandData, EventData, Remarks, parse_rfc3339
from .otp_scheduling import SaveOtpScheduling
from .resources import ChangeMessage
from .signature import RefreshSignature, RevokeSignature

Type = TypeVar("Type", bound=str)
Data = TypeVar("Data", bound=CommandData)

ChangeId = Annotated[str, StringConstraints(pattern=ID_PATTERN)]


def _instant(text: str) -> str:
    parse_rfc3339(text)
    return text


def _unsealed(command: RefreshSignature) -> RefreshSignature:
    if command.seal_to is not None:
        raise ValueError("it must not have 'seal_to': once the change is approved, RevealSignature shows the secret")
    return command


class ProposedCommand(CommandData, Generic[Type, Data]):
    """The command that is carried out: its type and data."""

    type: Type
    data: Data

    @classmethod
    def model_parametrized_name(cls, params: tuple[Any, ...]) -> str:
        """``ProposedRetireChannel``, as schemas name it."""
        return f"Proposed{get_args(params[0])[0]}"


AnyProposedCommand = Annotated[
    ProposedCommand[Literal["RefreshSignature"], Annotated[RefreshSignature, AfterValidator(_unsealed)]]
    | ProposedCommand[Literal["RevokeSignature"], RevokeSignature]
    | ProposedCommand[Literal["SaveOtpScheduling"], SaveOtpScheduling]
    | ProposedCommand[Literal["OpenBusinessSystem"], OpenBusinessSystem]
    | ProposedCommand[Literal["EditBusinessSystem"], EditBusinessSystem]
    | ProposedCommand[Literal["DeleteBusinessSystem"], DeleteBusinessSystem]
    | ProposedCommand[Literal["EnableBusinessSystem"], EnableBusinessSystem]
    | ProposedCommand[Literal["RetireChannel"], RetireChannel]
    | ProposedCommand[Literal["SaveApprovals"], SaveApprovals],
    Field(discriminator="type"),
]


class ProposeChange(CommandData):
    """Proposes a command. It must be one that would be accepted now.

    ``at`` (RFC 3339) is the instant at which it is carried out, once approved; without it, that is on approval.
    ``replaces`` is an earlier change of the same author, which is then void. An expected version is about what the
    proposed command changes.
    """

    change: ChangeId
    command: AnyProposedCommand
    comment: Remarks | None = None
    at: Annotated[str, StringConstraints(max_length=64), AfterValidator(_instant)] | None = None
    replaces: ChangeId | None = None

    @property
    def resource(self) -> str:
        resource: str = self.command.data.resource
        return resource


class ApproveChange(ChangeMessage, CommandData):
    """Approves a change, and carries it out unless it is for a later instant. Not for its author."""

    change: ChangeId
    comment: Remarks | None = None


class DeclineChange(ChangeMessage, CommandData):
    """Declines a change that is not carried out yet, approved or not. Its author withdraws it so."""

    change: ChangeId
    comment: Remarks | None = None


class ApplyChange(ChangeMessage, CommandData):
    """Carries out an approved change whose instant has come. The decider sends it to itself."""

    change: ChangeId


class RecordedCommand(BaseModel):
    """A proposed command in an event; ``data`` is as it was proposed."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: str
    data: dict[str, Any]


class ChangeProposed(ChangeMessage, EventData):
    """``before`` and ``after`` are the difference that it would make: resource/field -> value, as in the history.

    ``affects`` is the resource that it would change: any event on its path makes it void. ``digest`` is the hex SHA-256
    of the command, ``expected_version`` the channel's version that it was judged at. ``owner`` is the person whose key
    proposed it, who does not approve it by another key.
    """

    change: str
    proposed_by: str
    affects: str
    command: RecordedCommand
    digest: str
    expected_version: int
    before: dict[str, Any]
    after: dict[str, Any]
    owner: str | None = None
    comment: str | None = None
    at: str | None = None


class ChangeApproved(ChangeMessage, EventData):
    """Of the command with that digest, at that version. Without ``at``, `ChangeApplied` follows."""

    change: str
    approved_by: str
    digest: str
    expected_version: int
    comment: str | None = None
    at: str | None = None


class ChangeDeclined(ChangeMessage, EventData):
    """A proposed change was declined, or withdrawn by its author."""

    change: str
    comment: str | None = None


class ChangeVoided(ChangeMessage, EventData):
    """It can no longer be carried out; ``reason`` is a sentence."""

    change: str
    reason: str


class ChangeApplied(ChangeMessage, EventData):
    """The command's own events follow."""

    change: str
    proposed_by: str
    approved_by: str
