"""A channel belongs to an account that completed enterprise authentication; retiring it is permanent."""

from __future__ import annotations

from typing import get_args

import pytest

from contracts.channel import ChannelEdited, ChannelRegistered, ChannelRetired, ChannelType, EditChannel, RetireChannel
from contracts.rejections import (
    ChannelAlreadyRegistered,
    ChannelIsRetired,
    ChannelUnknown,
    EnterpriseAuthenticationMissing,
)
from contracts.sms import SmsActivated, ToggleSms
from tests.unit.domain.given import ACCOUNT, CHANNEL, Scenario, given
from tests.unit.domain.histories import OPEN_CRM, OPEN_ERP, WHATSAPP, channel_of, draft

REGISTERED = ChannelRegistered(channel_type="whatsapp", name="Shop", enterprise_authenticated=True, provider=None)
UNAUTHENTICATED = WHATSAPP.model_copy(update={"enterprise_authenticated": False})

SCENARIOS: dict[str, Scenario] = {
    "the platform registers a channel": given().when(WHATSAPP).then(REGISTERED),
    "a provider may manage it from the start": given()
    .when(WHATSAPP.model_copy(update={"provider": "agency"}))
    .then(REGISTERED.model_copy(update={"provider": "agency"})),
    "without enterprise authentication there is no channel": given()
    .when(UNAUTHENTICATED)
    .then(EnterpriseAuthenticationMissing(account=ACCOUNT)),
    "a channel is registered once": given(WHATSAPP).when(WHATSAPP).then(ChannelAlreadyRegistered(channel=CHANNEL)),
    "a channel is registered once, whatever the form says": given(WHATSAPP)
    .when(channel_of("line"))
    .then(ChannelAlreadyRegistered(channel=CHANNEL)),
    "another account cannot take its name": given(WHATSAPP)
    .when(WHATSAPP, by="other")
    .then(ChannelAlreadyRegistered(channel=CHANNEL)),
    "an event alone makes it known": given(REGISTERED).when(ToggleSms(enabled=True)).then(SmsActivated()),
    "nothing can be set on a channel that nobody registered": given()
    .when(ToggleSms(enabled=True))
    .then(ChannelUnknown(channel=CHANNEL)),
    "another account's channel looks unknown": given(WHATSAPP)
    .when(ToggleSms(enabled=True), by="other")
    .then(ChannelUnknown(channel=CHANNEL)),
    "another account's retired channel looks unknown": given(WHATSAPP, RetireChannel())
    .when(ToggleSms(enabled=True), by="other")
    .then(ChannelUnknown(channel=CHANNEL)),
    "an edit says only what changed": given(WHATSAPP)
    .when(EditChannel(name="Store", provider=None))
    .then(ChannelEdited(name="Store")),
    "a provider is set": given(WHATSAPP).when(EditChannel(provider="agency")).then(ChannelEdited(provider="agency")),
    "null clears the provider": given(WHATSAPP, EditChannel(provider="agency"))
    .when(EditChannel(provider=None))
    .then(ChannelEdited(provider=None)),
    "the platform states where international rates apply": given(WHATSAPP)
    .when(EditChannel(home_country="SG", international_rates_from={"IN": "2026-12-01"}))
    .then(ChannelEdited(home_country="SG", international_rates_from={"IN": "2026-12-01"})),
    "no international rate is none, however it is written": given(WHATSAPP)
    .when(EditChannel(international_rates_from={}))
    .then(),
    "null clears the international rates": given(WHATSAPP, EditChannel(international_rates_from={"IN": "2026-12-01"}))
    .when(EditChannel(international_rates_from=None))
    .then(ChannelEdited(international_rates_from=None)),
    "what is left out stays": given(WHATSAPP, EditChannel(provider="agency"), EditChannel(name="Store"))
    .when(EditChannel(name="Store", provider="agency"))
    .then(),
    "an edit that changes nothing appends nothing": given(WHATSAPP).when(EditChannel(name="Shop")).then(),
    "an edit of nothing appends nothing": given(WHATSAPP).when(EditChannel()).then(),
    "a channel without systems is retired": given(WHATSAPP).when(RetireChannel()).then(ChannelRetired(), deletes=()),
    "with a channel go all its signatures, drafts too": given(WHATSAPP, OPEN_CRM, OPEN_ERP, draft("shop"))
    .when(RetireChannel())
    .then(ChannelRetired(), deletes=(("shop", "key-3"), ("crm", "key-1"), ("erp", "key-2"))),
    "a retired channel is not retired again": given(WHATSAPP, RetireChannel())
    .when(RetireChannel())
    .then(ChannelIsRetired(channel=CHANNEL)),
    "a retired channel takes no commands": given(WHATSAPP, RetireChannel())
    .when(ToggleSms(enabled=True))
    .then(ChannelIsRetired(channel=CHANNEL)),
    "a retired channel takes none that would change nothing either": given(WHATSAPP, RetireChannel())
    .when(EditChannel())
    .then(ChannelIsRetired(channel=CHANNEL)),
    "a retired channel is never registered again": given(WHATSAPP, RetireChannel())
    .when(WHATSAPP)
    .then(ChannelIsRetired(channel=CHANNEL)),
}


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))
def test_channel(scenario: Scenario) -> None:
    scenario.check()


@pytest.mark.parametrize("channel_type", get_args(ChannelType))
def test_every_type_of_channel_can_be_registered(channel_type: ChannelType) -> None:
    given().when(channel_of(channel_type)).then(REGISTERED.model_copy(update={"channel_type": channel_type})).check()
