"""Activate SMS is a switch of any channel."""

from __future__ import annotations

from typing import get_args

import pytest

from contracts.channel import ChannelType
from contracts.sms import SmsActivated, SmsDeactivated, ToggleSms
from tests.unit.domain.given import Scenario, given
from tests.unit.domain.histories import WHATSAPP, channel_of

ON, OFF = ToggleSms(enabled=True), ToggleSms(enabled=False)

SCENARIOS: dict[str, Scenario] = {
    "it is off at first": given(WHATSAPP).when(OFF).then(),
    "it is switched on": given(WHATSAPP).when(ON).then(SmsActivated()),
    "on again appends nothing": given(WHATSAPP, ON).when(ON).then(),
    "it is switched off": given(WHATSAPP, ON).when(OFF).then(SmsDeactivated()),
    "off again appends nothing": given(WHATSAPP, ON, OFF).when(OFF).then(),
    "and on once more": given(WHATSAPP, ON, OFF).when(ON).then(SmsActivated()),
}


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))
def test_sms(scenario: Scenario) -> None:
    scenario.check()


@pytest.mark.parametrize("channel_type", get_args(ChannelType))
def test_every_type_of_channel_has_the_switch(channel_type: ChannelType) -> None:
    given(channel_of(channel_type)).when(ON).then(SmsActivated()).check()
