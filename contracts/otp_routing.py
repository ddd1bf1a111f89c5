"""Asking for the route of one authentication message, and the decision with its reason."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .ids import AccountId
from .message import CommandData, EventData

OtpRoute = Literal["scheduling", "own-numbers", "ordinary", "fail"]


class RouteOtp(CommandData):
    """``recipient`` is an E.164 number, or a business-scoped user id, which has no country."""

    recipient: Annotated[str, Field(min_length=1, max_length=128)]
    category: Literal["authentication", "marketing", "utility", "service"]
    settings_version: Annotated[int, Field(ge=1)] | None = None


class OtpRouted(EventData):
    """``rule`` is the stable name of what decided; ``settings_version`` is of the settings that were read."""

    route: OtpRoute
    rule: str
    message: str
    country: str | None = None
    scheduling_fee: bool = False
    international_rate: bool = False
    provider: AccountId | None = None
    settings_version: int
