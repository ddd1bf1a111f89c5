"""Approvals: the parts of a channel's settings that change only after a second person has approved the change."""

from __future__ import annotations

from typing import ClassVar, Literal

from .message import CommandData
from .section import SectionEvent, SectionSettings

RESOURCE = "approvals"

ApprovedSection = Literal["signature", "otp-scheduling", "business-systems", "retire"]


class SaveApprovals(CommandData):
    """The whole form. ``required_for`` is a set: order and repeats say nothing.

    While it is not empty, saving it needs an approval too.
    """

    resource: ClassVar[str] = RESOURCE

    required_for: list[ApprovedSection]


class ApprovalsSettings(SectionSettings):
    """What a second person must approve changes of: none at first."""

    resource: ClassVar[str] = RESOURCE

    required_for: tuple[str, ...] = ()

    def canonical(self) -> ApprovalsSettings:
        return self.model_copy(update={"required_for": tuple(sorted(set(self.required_for)))})

    def save_command(self) -> SaveApprovals:
        return SaveApprovals.model_validate({"required_for": list(self.required_for)})


class ApprovalsSaved(SectionEvent):
    """The whole form; sorted, each once."""

    resource: ClassVar[str] = RESOURCE
    settings = ApprovalsSettings

    required_for: tuple[str, ...]
