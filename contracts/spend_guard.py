"""The spend guard: limits on what authentication messages may cost, watched (`monitor`) or kept (`enforce`)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from .message import CommandData
from .rates import Amount, Currency, canonical_amount
from .section import SectionEvent, SectionSettings

RESOURCE = "spend-guard"

GuardMode = Literal["off", "monitor", "enforce"]
DailyMessages = Annotated[int, Field(ge=0, le=1_000_000_000)]


class MaxRate(BaseModel):
    """The highest expected rate of one message. A rate in another currency counts as above it."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    amount: Amount
    currency: Currency


class SaveSpendGuard(CommandData):
    """The whole form. `monitor` decides as without it and says what `enforce` would have done, which is to fail.

    ``daily_messages_per_country`` counts the channel's authentication messages to each country on each UTC day.
    """

    resource: ClassVar[str] = RESOURCE

    mode: GuardMode
    max_rate: MaxRate | None = None
    daily_messages_per_country: DailyMessages | None = None


class SpendGuardSettings(SectionSettings):
    """The limits on what authentication messages may cost, and whether they are watched or kept."""

    resource: ClassVar[str] = RESOURCE

    mode: GuardMode = "off"
    max_rate: MaxRate | None = None
    daily_messages_per_country: int | None = None

    def canonical(self) -> SpendGuardSettings:
        if self.max_rate is None:
            return self
        amount = canonical_amount(self.max_rate.amount)
        return self.model_copy(update={"max_rate": self.max_rate.model_copy(update={"amount": amount})})

    def save_command(self) -> SaveSpendGuard:
        return SaveSpendGuard(
            mode=self.mode, max_rate=self.max_rate, daily_messages_per_country=self.daily_messages_per_country
        )


class SavedMaxRate(BaseModel):
    """A `MaxRate` in an event; the amount without zeros at its end."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    amount: str
    currency: str


class SpendGuardSaved(SectionEvent):
    """The whole form."""

    resource: ClassVar[str] = RESOURCE
    settings = SpendGuardSettings

    mode: GuardMode
    max_rate: SavedMaxRate | None = None
    daily_messages_per_country: int | None = None

    def section(self) -> SpendGuardSettings:
        most = self.max_rate
        return SpendGuardSettings(
            mode=self.mode,
            max_rate=None if most is None else MaxRate(amount=most.amount, currency=most.currency),
            daily_messages_per_country=self.daily_messages_per_country,
        )
