"""OTP delivery scheduling: one form of switch, countries and Use Own Numbers; for WhatsApp channels only."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import FailFast

from .countries import CountryCode
from .message import CommandData
from .section import SectionEvent, SectionSettings

RESOURCE = "otp-scheduling"


class SaveOtpScheduling(CommandData):
    """The whole form. ``countries`` is a set: order and repeats say nothing.

    With ``use_own_numbers`` on, an empty pool of scheduling resources means sending from the customer's own numbers,
    which may incur international authentication rates: acknowledge them.
    """

    resource: ClassVar[str] = RESOURCE

    enabled: bool
    countries: Annotated[list[CountryCode], FailFast()]
    use_own_numbers: bool
    international_rates_acknowledged: bool = False


class OtpSchedulingSettings(SectionSettings):
    """Whether one-time passwords go out from the platform's numbers, to which countries, and what is used without."""

    resource: ClassVar[str] = RESOURCE

    enabled: bool = False
    countries: tuple[str, ...] = ()
    use_own_numbers: bool = False

    def canonical(self) -> OtpSchedulingSettings:
        return self.model_copy(update={"countries": tuple(sorted(set(self.countries)))})

    def save_command(self) -> SaveOtpScheduling:
        """Without the acknowledgement of international rates, which a person must give."""
        return SaveOtpScheduling(
            enabled=self.enabled, countries=list(self.countries), use_own_numbers=self.use_own_numbers
        )


class OtpSchedulingSaved(SectionEvent):
    """The whole form; the countries sorted, each once."""

    resource: ClassVar[str] = RESOURCE
    settings = OtpSchedulingSettings

    enabled: bool
    countries: tuple[str, ...]
    use_own_numbers: bool
    international_rates_acknowledged: bool = False
