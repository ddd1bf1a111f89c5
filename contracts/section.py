"""A section: a part of a channel's settings that one command saves as a whole, such as the SMS switch."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict

from .message import CommandData, EventData


class SettingsModel(BaseModel):
    """Base of the models that settings are read as."""

    model_config = ConfigDict(
        frozen=True,
        validate_by_alias=True,
        validate_by_name=True,
        serialize_by_alias=True,
        json_schema_serialization_defaults_required=True,
    )


class SectionSettings(SettingsModel):
    """The settings of one section. Without arguments: what a newly registered channel has."""

    resource: ClassVar[str]
    """The section's path, ``otp-scheduling``."""

    def canonical(self) -> Self:
        """The same settings as an event has them: where a list stands for a set, sorted and each item once."""
        return self

    @abstractmethod
    def save_command(self) -> CommandData:
        """The command that saves these settings. Raises ValidationError where the contract does not allow them."""


class SectionEvent(EventData):
    """An event that changes a section."""

    resource: ClassVar[str]
    settings: ClassVar[type[SectionSettings]]

    def section(self) -> SectionSettings:
        """The whole section after the event: the fields of ``settings`` as the event has them, unless overridden."""
        return self.settings.model_validate(self, from_attributes=True)
