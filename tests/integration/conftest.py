"""What the tests of signed calls share: a customer, and its receiver."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.customer import Customer, customer
from tests.installation import Installation
from tests.receivers import Receiver


@pytest.fixture(scope="module")
def port(installation: Installation) -> int:
    return installation.receiver_port()


@pytest.fixture
async def receiver(port: int) -> AsyncIterator[Receiver]:
    async with Receiver(port) as running:
        yield running


@pytest.fixture
async def shop(installation: Installation) -> AsyncIterator[Customer]:
    async with customer(installation) as found:
        yield found
