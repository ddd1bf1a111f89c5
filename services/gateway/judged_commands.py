"""Requests that rely on settings, which the read model must have before anything is sent: ``?min_version=`` waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeVar

from contracts.invocation import InvokeIntent, MakeTestCall, TriggerIntent
from contracts.message_routing import RouteMessage
from services.gateway.commands import ChannelCommand
from services.gateway.problem_types import raises
from services.gateway.reads import MinVersion, ReadSettings, read_settings, require_channel
from services.gateway.requests import built

_Versioned = TypeVar("_Versioned", InvokeIntent, MakeTestCall, TriggerIntent, RouteMessage)


@raises("ReadModelBehind", "TooManyFollowers")
@dataclass(frozen=True, slots=True)
class _JudgedCommand(ChannelCommand):
    """A request to one channel that is judged by the settings in the read model."""

    min_version: MinVersion = None

    async def require_channel(self) -> tuple[str, int]:
        """Returns the channel's account and version. Raises `Problem`."""
        return await require_channel(self.request, self.caller, self.channel, self.min_version)

    async def settings(self) -> ReadSettings:
        """Returns the settings. Raises `Problem`."""
        return await read_settings(self.request, self.caller, self.channel, self.min_version)

    def with_version(self, message: _Versioned) -> _Versioned:
        """Returns the message, for which the service that reads it waits for ``min_version`` too."""
        version = max(self.min_version or 0, message.settings_version or 0)
        return message.model_copy(update={"settings_version": version}) if version else message


JudgedCommand = Annotated[_JudgedCommand, built(_JudgedCommand)]
