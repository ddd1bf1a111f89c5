"""The spend guard: saved as a whole, on any channel; a guard that is on has a limit."""

from __future__ import annotations

from typing import get_args

import pytest

from contracts.channel import ChannelType
from contracts.rejections import SpendGuardNeedsLimit
from contracts.spend_guard import GuardMode, MaxRate, SavedMaxRate, SaveSpendGuard, SpendGuardSaved
from tests.unit.domain.given import Scenario, given
from tests.unit.domain.histories import WHATSAPP, channel_of


def form(mode: GuardMode, amount: str | None = None, daily: int | None = None) -> SaveSpendGuard:
    most = None if amount is None else MaxRate(amount=amount, currency="AED")
    return SaveSpendGuard(mode=mode, max_rate=most, daily_messages_per_country=daily)


def saved(mode: GuardMode, amount: str | None = None, daily: int | None = None) -> SpendGuardSaved:
    most = None if amount is None else SavedMaxRate(amount=amount, currency="AED")
    return SpendGuardSaved(mode=mode, max_rate=most, daily_messages_per_country=daily)


SCENARIOS: dict[str, Scenario] = {
    "at first it is off, without limits": given(WHATSAPP).when(form("off")).then(),
    "it is saved as one form": given(WHATSAPP).when(form("enforce", "0.05", 100)).then(saved("enforce", "0.05", 100)),
    "a limit alone is enough": given(WHATSAPP).when(form("monitor", daily=0)).then(saved("monitor", daily=0)),
    "what the form leaves out has no limit": given(WHATSAPP, form("enforce", "0.05", 100))
    .when(form("enforce", "0.05"))
    .then(saved("enforce", "0.05")),
    "a guard that is on has a limit": given(WHATSAPP).when(form("enforce")).then(SpendGuardNeedsLimit(mode="enforce")),
    "one that only watches has one too": given(WHATSAPP)
    .when(form("monitor"))
    .then(SpendGuardNeedsLimit(mode="monitor")),
    "it is switched off with its limits kept": given(WHATSAPP, form("enforce", "0.05"))
    .when(form("off", "0.05"))
    .then(saved("off", "0.05")),
    "the same again changes nothing": given(WHATSAPP, form("enforce", "0.05", 9))
    .when(form("enforce", "0.05", 9))
    .then(),
    "an amount is written in one way": given(WHATSAPP).when(form("enforce", "00.050")).then(saved("enforce", "0.05")),
    "the same amount written otherwise changes nothing": given(WHATSAPP, form("enforce", "10"))
    .when(form("enforce", "10.00"))
    .then(),
}


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))
def test_spend_guard(scenario: Scenario) -> None:
    scenario.check()


@pytest.mark.parametrize("channel_type", get_args(ChannelType))
def test_every_type_of_channel_has_it(channel_type: ChannelType) -> None:
    given(channel_of(channel_type)).when(form("enforce", "0.05")).then(saved("enforce", "0.05")).check()
