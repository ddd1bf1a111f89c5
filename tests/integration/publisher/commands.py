"""The publishers that the tests share, and a command for them."""

from __future__ import annotations

from contracts.channel import RegisterChannel
from contracts.kafka.publisher import Publisher
from contracts.sealing import SealKey
from tests.faults.decider.testbed import Testbed

REGISTER = RegisterChannel(channel_type="viber", name="Shop", enterprise_authenticated=True)


def publisher_of(testbed: Testbed, seal_key: SealKey | None = None) -> Publisher:
    return Publisher(testbed.kafka.bootstrap_servers, source="tests", account="acme", seal_key=seal_key)
