"""The message router as processes on a real broker and database: two of them, one of which is killed in the midst."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts import topics
from contracts.ids import new_id
from contracts.kafka.publisher import Publisher
from contracts.message import rfc3339
from contracts.message_routing import RouteMessage
from contracts.message_status import ReportStatus
from contracts.otp_scheduling import SaveOtpScheduling
from contracts.scheduling_resource import ReportSchedulingResource
from contracts.usage import usage_id
from services.infrastructure.embedded.kafka import EmbeddedKafka
from tests.commands import REGISTER
from tests.installation import Installation, fresh, fresh_database
from tests.servers import Servers

INDIAN = "+919812345678"
UNITS = 150


@pytest.fixture
def routers(
    own_kafka: EmbeddedKafka, shared_servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """On a broker of their own: routers of the shared installation would be of their group, with another database."""
    dsn, directory = fresh_database(shared_servers.dsn), tmp_path_factory.mktemp("routers")
    with Installation(own_kafka.bootstrap_servers, dsn, directory, services=("decider", "message-router")) as running:
        running.services["second"] = running.child("message-router", "-second")
        running.services["second"].start()
        running.services["second"].wait_until_ready()
        yield running


async def published(installation: Installation, topic: str, account: str) -> list[dict[str, Any]]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=installation.bootstrap_servers, isolation_level="read_committed", auto_offset_reset="earliest"
    )
    await consumer.start()
    found = []
    try:
        tps = [TopicPartition(topic, number) for number in range(installation.settings.partitions)]
        consumer.assign(tps)
        ends = await consumer.end_offsets(tps)
        for tp in tps:
            consumer.seek(tp, 0)
            while await consumer.position(tp) < ends[tp]:
                for records in (await consumer.getmany(tp, timeout_ms=200)).values():
                    found += [json.loads(record.value) for record in records]
    finally:
        await consumer.stop()
    return [one for one in found if one["accountid"] == account]


async def send(publisher: Publisher, channels: list[str], numbers: range) -> None:
    message = RouteMessage(recipient=INDIAN, category="authentication")
    at = rfc3339(time.time_ns() // 1_000_000)
    for number in numbers:
        channel, name = channels[number % len(channels)], f"m-{number}"
        report = ReportStatus(message=name, status="delivered", via="chat", at=at)
        await publisher.publish(report, channel=channel, command_id=new_id())  # before its message
        await publisher.publish(message, channel=channel, command_id=name)
        await publisher.publish(message, channel=channel, command_id=name)
        await publisher.publish(report, channel=channel, command_id=new_id())


async def test_each_message_is_decided_and_charged_once_though_a_router_is_killed(routers: Installation) -> None:
    account, resource = fresh("acct"), fresh("pool")
    channels = [fresh("ch") for _ in range(8)]
    async with routers.publisher(account) as publisher:
        for channel in channels:
            await publisher.send(REGISTER, channel=channel)
            form = SaveOtpScheduling(enabled=True, countries=["IN"], use_own_numbers=False)
            await publisher.send(form, channel=channel)
        report = ReportSchedulingResource(
            resource=resource,
            country="IN",
            sender="+911234567890",
            units=UNITS,
            as_of=rfc3339(time.time_ns() // 1_000_000),
            valid_seconds=3600,
        )
        await publisher.publish(report, channel=resource)
        await asyncio.sleep(3)
        await send(publisher, channels, range(100))
        routers.kill("message-router")
        await send(publisher, channels, range(100, 200))
    async with asyncio.timeout(60):
        while True:
            notices = await published(routers, topics.MESSAGE_DECISIONS.name, account)
            usage = await published(routers, topics.USAGE.name, account)
            if sum(one["type"] == "MessageRouted" for one in notices) >= 200 and len(usage) >= UNITS:
                break
            await asyncio.sleep(0.5)
    await asyncio.sleep(1)
    notices = await published(routers, topics.MESSAGE_DECISIONS.name, account)
    usage = await published(routers, topics.USAGE.name, account)
    routed = {one["data"]["message"]: one for one in notices if one["type"] == "MessageRouted"}
    assert max(Counter(one["id"] for one in notices).values()) == 1
    assert Counter(one["data"]["route"] for one in routed.values()) == {"scheduled": UNITS, "failed": 200 - UNITS}
    charged = {name for name, one in routed.items() if one["data"]["route"] == "scheduled"}
    assert sorted(one["id"] for one in usage) == sorted(
        usage_id(account, routed[name]["subject"], name) for name in charged
    )
    assert INDIAN not in json.dumps(notices) + json.dumps(usage) + routers.output()
