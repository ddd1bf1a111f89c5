"""The publisher while brokers are away, topics are missing, or its start is cancelled."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from contracts import topics
from contracts.kafka.publisher import OutcomeTimeout, Publisher, PublisherError
from contracts.sms import ToggleSms
from services.infrastructure.embedded.kafka import EmbeddedKafka
from services.infrastructure.embedded.process import free_port
from tests.faults.decider.testbed import DeciderProcess, Testbed
from tests.integration.publisher.commands import publisher_of


@pytest.mark.timeout(180)
async def test_an_outcome_arrives_although_the_broker_was_killed_meanwhile(
    testbed: Testbed, decider: DeciderProcess, publisher: Publisher, channel: str
) -> None:
    decider.send(signal.SIGSTOP)
    waiting = asyncio.create_task(publisher.send(ToggleSms(enabled=True), channel=channel, timeout=60))
    await asyncio.sleep(0.3)
    testbed.signal_broker(signal.SIGKILL)
    began = time.monotonic()
    impatient = publisher_of(testbed)
    with pytest.raises(PublisherError, match=r"No broker answers at 127.0.0.1:\d+\.$"):
        await impatient.__aenter__()
    with pytest.raises(OutcomeTimeout):
        await publisher.send(ToggleSms(enabled=False), channel=channel, command_id="late", timeout=1)
    assert time.monotonic() - began < 20
    await testbed.restart_broker()
    decider.resume()

    assert (await waiting).version == 2
    late = await publisher.send(ToggleSms(enabled=False), channel=channel, command_id="late", timeout=60)
    assert late.version == 3


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_closing_does_not_wait_for_an_unavailable_broker(
    testbed: Testbed, how: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    """Pending calls fail, and no task is left for Python to warn about."""

    async def closed() -> tuple[float, list[str]]:
        async with publisher_of(testbed) as publisher:
            testbed.signal_broker(how)
            with pytest.raises(OutcomeTimeout):
                await publisher.send(ToggleSms(enabled=True), channel="ch", timeout=0.5)
            waiting = asyncio.create_task(publisher.publish(ToggleSms(enabled=True), channel="ch"))
            await asyncio.sleep(0.1)
            began = time.monotonic()
        took = time.monotonic() - began
        with pytest.raises(PublisherError, match=r"No broker answers at 127.0.0.1:\d+\.$"):
            await waiting
        return took, [str(one) for one in asyncio.all_tasks() if one is not asyncio.current_task()]

    try:
        took, left = asyncio.run(closed())
    finally:
        if how == signal.SIGSTOP:
            testbed.signal_broker(signal.SIGCONT)
        else:
            asyncio.run(testbed.restart_broker())
    assert (took < 15, left) == (True, [])
    assert [one.message for one in caplog.records if one.name == "asyncio"] == []


async def test_no_broker() -> None:
    port = free_port()
    with pytest.raises(PublisherError, match=rf"^No broker answers at 127.0.0.1:{port}\.$"):
        await Publisher(f"127.0.0.1:{port}", source="tests", account="acme").__aenter__()


async def test_missing_and_mismatched_topics(own_kafka: EmbeddedKafka) -> None:
    servers = own_kafka.bootstrap_servers
    with pytest.raises(PublisherError, match=r"has no topic switchboard\.commands; `switchboard topics apply` makes"):
        await Publisher(servers, source="tests", account="acme").__aenter__()
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    await admin.create_topics([NewTopic(topics.COMMANDS.name, 2, 1), NewTopic(topics.OUTCOMES.name, 3, 1)])
    await admin.close()
    with pytest.raises(PublisherError, match=r"commands has 2 partitions and switchboard\.outcomes 3"):
        await Publisher(servers, source="tests", account="acme").__aenter__()


async def test_cancelled_while_it_starts(testbed: Testbed) -> None:
    """An open connection would be a ResourceWarning, and warnings are errors."""
    for moment in (0.0, 0.005, 0.02, 0.05):
        publisher = publisher_of(testbed)
        starting = asyncio.create_task(publisher.__aenter__())
        await asyncio.sleep(moment)
        if starting.cancel():
            await asyncio.gather(starting, return_exceptions=True)
        else:
            await publisher.__aexit__(None, None, None)
