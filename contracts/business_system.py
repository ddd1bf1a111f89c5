"""A business system: a customer's own system that the platform calls."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import StringConstraints

from .ids import SystemId
from .message import CommandData, EditData, EventData, Name, Remarks
from .signature import IssuedSignature

SignatureStyle = Literal["standard-webhooks", "plain-token"]
ApiRequestUrl = Annotated[str, StringConstraints(min_length=1, max_length=512)]
"""``https`` only, unless the operator allows the place; the domain judges where it leads, and so does each dial."""

Reason = Annotated[str, StringConstraints(max_length=1024)]


class OpenBusinessSystem(CommandData):
    system: SystemId
    name: Name
    api_request_url: ApiRequestUrl
    remarks: Remarks | None = None
    signature_style: SignatureStyle = "standard-webhooks"


class EditBusinessSystem(EditData):
    """Changes what is given; null clears the remarks, and puts the signature style back to its default."""

    kept = ("name", "api_request_url")

    system: SystemId
    name: Name | None = None
    api_request_url: ApiRequestUrl | None = None
    remarks: Remarks | None = None
    signature_style: SignatureStyle | None = None


class DeleteBusinessSystem(CommandData):
    """Deletes a system with its intents and signatures; refused while templates refer to one, unless forced."""

    system: SystemId
    force: bool = False


class DisableBusinessSystem(CommandData):
    system: SystemId
    reason: Reason | None = None


class EnableBusinessSystem(CommandData):
    system: SystemId
    reason: Reason | None = None


class BusinessSystemOpened(EventData):
    """``signature`` is the drafted one that it took over; without one, a `SignatureRefreshed` follows."""

    system: str
    name: str
    api_request_url: str
    remarks: str = ""
    signature_style: SignatureStyle = "standard-webhooks"
    signature: IssuedSignature | None = None


class BusinessSystemEdited(EventData):
    """Only what changed."""

    system: str
    name: str | None = None
    api_request_url: str | None = None
    remarks: str | None = None
    signature_style: SignatureStyle | None = None


class BusinessSystemDeleted(EventData):
    """With it go its intents and its signatures."""

    system: str


class BusinessSystemDisabled(EventData):
    system: str
    reason: str | None = None


class BusinessSystemEnabled(EventData):
    system: str
    reason: str | None = None
