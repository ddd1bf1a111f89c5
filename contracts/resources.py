"""Resources: the parts of a channel's settings, named by paths. Each command and event says which one it changes.

A version is kept per resource, so that two people who change different parts do not collide. The paths are `channel`,
the path of each section (`sms`, `otp-scheduling`), `business-systems/crm`, `business-systems/crm/signature`,
`business-systems/crm/intents/ORDER` and `proposed-changes/c-1`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

CHANNEL = "channel"
PROPOSED_CHANGES = "proposed-changes"


def on_same_path(left: str, right: str) -> bool:
    """Whether both are one resource, or one of them lies below the other."""
    return left == right or left.startswith(f"{right}/") or right.startswith(f"{left}/")


class ChannelMessage:
    """Mixin of messages on the channel itself."""

    __slots__ = ()

    resource: ClassVar[str] = CHANNEL


class BusinessSystemMessage:
    """Mixin of messages on one business system."""

    __slots__ = ()

    if TYPE_CHECKING:
        system: str

    @property
    def resource(self) -> str:
        return f"business-systems/{self.system}"


class SignatureMessage:
    """Mixin of messages on the signature of one business system."""

    __slots__ = ()

    if TYPE_CHECKING:
        system: str

    @property
    def resource(self) -> str:
        return f"business-systems/{self.system}/signature"


class IntentMessage:
    """Mixin of messages on one intent of a business system."""

    __slots__ = ()

    if TYPE_CHECKING:
        system: str
        code: str

    @property
    def resource(self) -> str:
        return f"business-systems/{self.system}/intents/{self.code}"


class ChangeMessage:
    """Mixin of messages on one proposed change."""

    __slots__ = ()

    if TYPE_CHECKING:
        change: str

    @property
    def resource(self) -> str:
        return f"{PROPOSED_CHANGES}/{self.change}"
