"""A business system: a customer's own system that the platform calls."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import StringConstraints

from .ids import SystemId
from .message import CommandData, EditData, EventData, Remarks
from .names import Name
from .resources import BusinessSystemMessage
from .signature import IssuedSignature

SignatureStyle = Literal["standard-webhooks", "plain-token"]
ApiRequestUrl = Annotated[str, StringConstraints(min_length=1, max_length=512)]
"""``https`` only, unless the operator allows the target. It is judged when the URL is saved and at each call."""

Reason = Annotated[str, StringConstraints(max_length=1024)]


class OpenBusinessSystem(BusinessSystemMessage, CommandData):
    """Opens a business system under an id of your choice, and issues its first signature if none was drafted."""

    system: SystemId
    name: Name
    api_request_url: ApiRequestUrl
    remarks: Remarks | None = None
    signature_style: SignatureStyle = "standard-webhooks"


class EditBusinessSystem(BusinessSystemMessage, EditData):
    """Changes the given fields; null clears the remarks, and resets the signature style to its default."""

    not_clearable = ("name", "api_request_url")

    system: SystemId
    name: Name | None = None
    api_request_url: ApiRequestUrl | None = None
    remarks: Remarks | None = None
    signature_style: SignatureStyle | None = None


class DeleteBusinessSystem(BusinessSystemMessage, CommandData):
    """Deletes a system with its intents and signatures; refused while templates refer to one, unless forced."""

    system: SystemId
    force: bool = False


class DisableBusinessSystem(BusinessSystemMessage, CommandData):
    """Stops the calls of a business system at once; its settings stay."""

    system: SystemId
    reason: Reason | None = None


class EnableBusinessSystem(BusinessSystemMessage, CommandData):
    """Lets a disabled business system be called again."""

    system: SystemId
    reason: Reason | None = None


class BusinessSystemOpened(BusinessSystemMessage, EventData):
    """``signature`` is the draft that the system takes over; without a draft, a `SignatureRefreshed` follows."""

    system: str
    name: str
    api_request_url: str
    remarks: str = ""
    signature_style: SignatureStyle = "standard-webhooks"
    signature: IssuedSignature | None = None


class BusinessSystemEdited(BusinessSystemMessage, EventData):
    """Only the fields that changed."""

    system: str
    name: str | None = None
    api_request_url: str | None = None
    remarks: str | None = None
    signature_style: SignatureStyle | None = None


class BusinessSystemDeleted(BusinessSystemMessage, EventData):
    """Its intents and signatures are deleted with it."""

    system: str


class BusinessSystemDisabled(BusinessSystemMessage, EventData):
    """A business system is not called any more, until it is enabled."""

    system: str
    reason: str | None = None


class BusinessSystemEnabled(BusinessSystemMessage, EventData):
    """A business system is called again."""

    system: str
    reason: str | None = None
