"""A broker, a decider that can be stopped, and a publisher on them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from contracts.kafka.publisher import Publisher
from tests.faults.decider.process import ProcessOptions
from tests.faults.decider.testbed import DeciderProcess, Testbed
from tests.installation import fresh
from tests.integration.publisher.commands import REGISTER, publisher_of


@pytest.fixture(scope="package")
def testbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    with Testbed(tmp_path_factory.mktemp("testbed")) as testbed:
        yield testbed


@pytest.fixture(scope="package")
def decider(testbed: Testbed) -> DeciderProcess:
    """It decides every partition, and can be stopped and resumed."""
    decider = testbed.start(ProcessOptions(own=testbed.all_partitions, partitions=testbed.partitions))
    asyncio.run(decider.ready())
    return decider


@pytest.fixture
async def publisher(testbed: Testbed, decider: DeciderProcess) -> AsyncIterator[Publisher]:
    del decider  # it runs
    async with publisher_of(testbed) as publisher:
        yield publisher


@pytest.fixture
async def channel(publisher: Publisher) -> str:
    """The name of a registered channel."""
    name = fresh("ch")
    assert (await publisher.send(REGISTER, channel=name)).accepted
    return name
