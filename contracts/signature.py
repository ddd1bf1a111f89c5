"""The signature: the secret that authenticates the platform to a business system. No message shows it in the clear."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from .ids import KeyId, SystemId
from .message import CommandData, EventData
from .resources import SignatureMessage

DAY = 24 * 60 * 60
DEFAULT_GRACE_SECONDS = DAY
LONGEST_GRACE_SECONDS = 7 * DAY


def _x25519_public_key(text: str) -> str:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 32:
        raise ValueError("it must be an X25519 public key: the base64 of 32 bytes")
    return text


SealTo = Annotated[str, AfterValidator(_x25519_public_key)]
"""An X25519 public key in base64; the outcome carries the secret in a libsodium sealed box for it."""


class RefreshSignature(SignatureMessage, CommandData):
    """Issues a new signature. For a system that is not open yet, ``api_request_url`` is required."""

    system: SystemId
    grace_seconds: Annotated[int, Field(ge=0, le=LONGEST_GRACE_SECONDS)] = DEFAULT_GRACE_SECONDS
    force: bool = False
    seal_to: SealTo | None = None
    api_request_url: Annotated[str, Field(min_length=1, max_length=512)] | None = None


class RevealSignature(SignatureMessage, CommandData):
    """Requests a valid signature, sealed; each reveal is an event. Without ``key_id``: the newest signature."""

    system: SystemId
    key_id: KeyId | None = None
    seal_to: SealTo


class RevokeSignature(SignatureMessage, CommandData):
    """Ends a signature at once and deletes its secret."""

    system: SystemId
    key_id: KeyId


class IssuedSignature(BaseModel):
    """The public facts of a signature: everything but the secret."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    key_id: str
    fingerprint: str
    issued_at: str


class ReplacedSignature(BaseModel):
    """An old signature and the instant until which it is valid. The event's own time: revoked at once."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    key_id: str
    valid_until: str


class DroppedDraft(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    system: str
    key_id: str


class SignatureRefreshed(SignatureMessage, EventData):
    """A new signature. Only a draft, of a system that is not open yet, has an ``api_request_url``."""

    system: str
    key_id: str
    fingerprint: str
    api_request_url: str | None = None
    replaced: tuple[ReplacedSignature, ...] = ()
    dropped_draft: DroppedDraft | None = None


class SignatureRevealed(SignatureMessage, EventData):
    """A signature was shown, sealed, to the one who asked."""

    system: str
    key_id: str


class SignatureRevoked(SignatureMessage, EventData):
    """A signature ended, and its secret was deleted."""

    system: str
    key_id: str
