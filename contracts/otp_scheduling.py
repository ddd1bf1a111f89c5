"""OTP delivery scheduling: one form of switch, countries and Use Own Numbers; for WhatsApp channels only."""

from __future__ import annotations

from typing import Annotated

from pydantic import FailFast

from .countries import CountryCode
from .message import CommandData, EventData


class SaveOtpScheduling(CommandData):
    """The whole form. ``countries`` is a set: order and repeats say nothing.

    With ``use_own_numbers`` on, an empty pool of scheduling resources means sending from the customer's own numbers,
    which may incur international authentication rates: acknowledge them.
    """

    enabled: bool
    countries: Annotated[list[CountryCode], FailFast()]
    use_own_numbers: bool
    international_rates_acknowledged: bool = False


class OtpSchedulingSaved(EventData):
    """The whole form; the countries sorted, each once."""

    enabled: bool
    countries: tuple[str, ...]
    use_own_numbers: bool
    international_rates_acknowledged: bool = False
