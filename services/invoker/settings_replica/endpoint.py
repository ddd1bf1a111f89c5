"""Where a business system is called, and with which signatures."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

from contracts.business_system import SignatureStyle

CHANNEL_IS_RETIRED = "ChannelIsRetired"
SYSTEM_DELETED = "BusinessSystemUnknown"


@dataclass(frozen=True, slots=True)
class LiveSignature:
    """``valid_until`` is None for the newest one."""

    key_id: str
    secret: bytes = field(repr=False)
    valid_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class NoEndpoint:
    """The delivery is not to be called; ``reason`` is a stable name, ``message`` a sentence."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class EndpointNotReady:
    """The signatures have not arrived yet (their topic is not that of their events), or cannot be decrypted."""

    error: str | None = None
    """The sentence for the log; None where they are only expected in a moment."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an account's system is called, and every signature that is valid now, newest first."""

    account: str
    api_request_url: str
    signature_style: SignatureStyle
    disabled: bool
    signatures: tuple[LiveSignature, ...]

    def valid_at(self, now: datetime) -> Endpoint:
        """The same with the signatures that are valid at that moment."""
        valid = tuple(one for one in self.signatures if one.valid_until is None or one.valid_until > now)
        return self if len(valid) == len(self.signatures) else replace(self, signatures=valid)

    def with_only(self, key_id: str) -> Endpoint | NoEndpoint:
        """The same with that signature only."""
        found = tuple(signature for signature in self.signatures if signature.key_id == key_id)
        if not found:
            return NoEndpoint("SignatureUnknown", f"Signature {key_id!r} is not, or no more, valid.")
        return replace(self, signatures=found)

    def for_listener(self) -> Endpoint:
        """The same for a call to a listener: it goes to no URL and carries no signature."""
        return replace(self, api_request_url="", signatures=())


EndpointLookup = Endpoint | NoEndpoint | EndpointNotReady


def no_endpoint(reason: str, channel: str, system: str) -> NoEndpoint:
    """Why a system is no longer called."""
    if reason == CHANNEL_IS_RETIRED:
        return NoEndpoint(reason, f"Channel {channel!r} is retired.")
    return NoEndpoint(reason, f"Business system {system!r} was deleted.")
