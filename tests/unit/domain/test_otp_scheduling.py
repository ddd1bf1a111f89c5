"""OTP delivery scheduling: saved as a whole, on WhatsApp channels only; international rates are acknowledged."""

from __future__ import annotations

from typing import get_args

import pytest

from contracts.channel import ChannelType
from contracts.otp_scheduling import OtpSchedulingSaved, SaveOtpScheduling
from contracts.rejections import (
    InternationalRatesNotAcknowledged,
    OtpSchedulingNeedsCountries,
    OtpSchedulingNeedsWhatsApp,
)
from services.domain.decision import Decision
from tests.unit.domain.given import Scenario, given
from tests.unit.domain.histories import WHATSAPP, channel_of


def form(*countries: str, on: bool = True, own: bool = False, ack: bool = False) -> SaveOtpScheduling:
    return SaveOtpScheduling(
        enabled=on, countries=list(countries), use_own_numbers=own, international_rates_acknowledged=ack
    )


def saved(*countries: str, on: bool = True, own: bool = False, ack: bool = False) -> OtpSchedulingSaved:
    return OtpSchedulingSaved(
        enabled=on, countries=countries, use_own_numbers=own, international_rates_acknowledged=ack
    )


def unacknowledged(*countries: str) -> InternationalRatesNotAcknowledged:
    return InternationalRatesNotAcknowledged(countries=list(countries))


SCENARIOS: dict[str, Scenario] = {
    "at first it is off, without countries, without own numbers": given(WHATSAPP).when(form(on=False)).then(),
    "it is saved as one form": given(WHATSAPP).when(form("ID")).then(saved("ID")),
    "countries are a set, kept sorted": given(WHATSAPP).when(form("IN", "ID", "IN")).then(saved("ID", "IN")),
    "the same set in another order changes nothing": given(WHATSAPP, form("ID", "IN"))
    .when(form("IN", "ID", "ID"))
    .then(),
    "it is on only for at least one country": given(WHATSAPP).when(form()).then(OtpSchedulingNeedsCountries()),
    "off needs no country": given(WHATSAPP, form("ID")).when(form(on=False)).then(saved(on=False)),
    "the countries are saved off too": given(WHATSAPP).when(form("ID", on=False)).then(saved("ID", on=False)),
    "own numbers need the rates acknowledged": given(WHATSAPP)
    .when(form("IN", "ID", own=True))
    .then(unacknowledged("ID", "IN")),
    "acknowledged, own numbers are saved": given(WHATSAPP)
    .when(form("ID", own=True, ack=True))
    .then(saved("ID", own=True, ack=True)),
    "only a country that is newly exposed needs it": given(WHATSAPP, form("ID", own=True, ack=True))
    .when(form("ID", "IN", "AE", own=True))
    .then(unacknowledged("AE", "IN")),
    "fewer countries need none": given(WHATSAPP, form("ID", "IN", own=True, ack=True))
    .when(form("ID", own=True))
    .then(saved("ID", own=True)),
    "own numbers while the switch is off need none": given(WHATSAPP)
    .when(form("ID", on=False, own=True))
    .then(saved("ID", on=False, own=True)),
    "switching on what was saved off with own numbers needs it": given(WHATSAPP, form("ID", on=False, own=True))
    .when(form("ID", own=True))
    .then(unacknowledged("ID")),
    "adding own numbers to what is on needs it": given(WHATSAPP, form("ID"))
    .when(form("ID", own=True))
    .then(unacknowledged("ID")),
    "switched off and on again needs it again": given(
        WHATSAPP, form("ID", own=True, ack=True), form("ID", on=False, own=True)
    )
    .when(form("ID", own=True))
    .then(unacknowledged("ID")),
    "own numbers off again need none": given(WHATSAPP, form("ID", own=True, ack=True))
    .when(form("ID"))
    .then(saved("ID")),
    "the same form again changes nothing, and needs nothing": given(WHATSAPP, form("ID", own=True, ack=True))
    .when(form("ID", own=True))
    .then(),
    "acknowledging what nothing asks for is no change": given(WHATSAPP, form("ID")).when(form("ID", ack=True)).then(),
    "without countries is refused before the acknowledgement": given(WHATSAPP)
    .when(form(own=True))
    .then(OtpSchedulingNeedsCountries()),
}


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))
def test_otp_scheduling(scenario: Scenario) -> None:
    scenario.check()


@pytest.mark.parametrize("channel_type", [kind for kind in get_args(ChannelType) if kind != "whatsapp"])
@pytest.mark.parametrize("asked", [form("ID"), form(on=False)], ids=["on", "off"])
def test_only_whatsapp_channels_have_it(channel_type: ChannelType, asked: SaveOtpScheduling) -> None:
    given(channel_of(channel_type)).when(asked).then(OtpSchedulingNeedsWhatsApp(channel_type=channel_type)).check()


def test_countries_that_share_numbers_with_another_are_told() -> None:
    decided = given(WHATSAPP).when(form("IM", "IN", "KZ")).decided()
    assert isinstance(decided, Decision)
    assert decided.notices == (
        "Mobile numbers of IM may count as GB: choose GB too, if they are meant.",
        "Toll-free numbers of KZ may count as RU: choose RU too, if they are meant.",
    )
    unshared = given(WHATSAPP).when(form("IN")).decided()
    assert isinstance(unshared, Decision)
    assert unshared.notices == ()
