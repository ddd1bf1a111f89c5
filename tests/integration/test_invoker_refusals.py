"""Requests that are refused, end early or cannot be read, and secrets that stay secret, from Kafka to Kafka."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from contracts import topics
from contracts.partitioner import partition_of
from services.domain.webhook_signature import plain_token
from tests.customer import CODE, Customer
from tests.installation import Installation, fresh
from tests.invocation_outcomes import outcome_of
from tests.patience import PATIENCE_S
from tests.receivers import Receiver, echo, statuses
from tests.servers import PARTITIONS


async def test_data_that_breaks_the_schema_is_refused(
    installation: Installation, receiver: Receiver, shop: Customer
) -> None:
    await shop.open("crm", receiver.url("schema"))
    edit = f"{shop.path('crm')}/intents/{CODE}"
    await shop.known(await shop.api("PATCH", edit, {"schema": {"required": ["order"]}}))
    refused = await shop.invoke("crm", data={"other": 1})
    assert (refused["delivery"]["state"], refused["delivery"]["reason"]) == ("refused", "DataBreaksSchema")
    told = await outcome_of(installation, shop.channel, refused["request_id"])
    assert '"order" is a required property' in told["data"]["message"]
    await shop.known(await shop.api("PATCH", edit, {"schema": None}))
    assert (await shop.invoke("crm", data={"other": 1}))["delivery"]["state"] == "delivered"


async def test_a_dry_run_shows_the_call_and_makes_none(receiver: Receiver, shop: Customer) -> None:
    await shop.open("crm", receiver.url("dry"))
    path = f"channels/{shop.channel}/invocations?dry_run=true"
    for _ in range(100):  # a dry run does not wait until the invoker has read the settings
        would = await shop.api("POST", path, {"system": "crm", "code": CODE, "data": {"a": 1}})
        if would.body["would"] == "call":
            break
        await asyncio.sleep(0.1)
    assert (would.status, would.body["would"], would.body["body"]["data"]) == (200, "call", {"a": 1})
    would = await shop.api("POST", path, {"system": "crm", "code": "OTHER"})
    assert (would.body["would"], would.body["reason"]) == ("refuse", "IntentUnknown")
    assert (await shop.api("POST", f"{shop.path('crm')}/test-calls?dry_run=true")).status == 422
    assert (await shop.api("GET", f"channels/{shop.channel}/invocations")).body["invocations"] == []
    assert receiver.calls["dry"] == []


async def test_another_request_with_a_used_id_is_refused(receiver: Receiver, shop: Customer) -> None:
    await shop.open("crm", receiver.url("reused"))
    key = {"Idempotency-Key": fresh("req")}
    path = f"channels/{shop.channel}/invocations?wait=20"
    first = await shop.api("POST", path, {"system": "crm", "code": CODE}, headers=key)
    assert first.body["delivery"]["state"] == "delivered"
    other = await shop.api("POST", path, {"system": "crm", "code": CODE, "data": {"a": 1}}, headers=key)
    assert (other.status, other.body["type"]) == (409, "urn:switchboard:problem:RequestIdReused")
    test_call = await shop.api("POST", f"{shop.path('crm')}/test-calls", headers=key)
    assert test_call.status == 409
    assert len(receiver.calls["reused"]) == 1


@pytest.mark.parametrize("header", [b"\xff\xfe", None])
async def test_binary_headers_lose_no_request(
    installation: Installation, receiver: Receiver, shop: Customer, header: bytes | None
) -> None:
    path = f"headers-{header is None}"
    await shop.open("crm", receiver.url(path))
    envelope = {
        "specversion": "1.0",
        "id": fresh("req"),
        "type": "InvokeIntent",
        "source": "tests",
        "subject": shop.channel,
        "accountid": "acme",
        "data": {"system": "crm", "code": CODE},
    }
    async with AIOKafkaProducer(bootstrap_servers=installation.bootstrap_servers) as producer:
        await producer.send_and_wait(
            topics.INVOCATION_REQUESTS.name,
            json.dumps(envelope).encode(),
            partition=partition_of(shop.channel, PARTITIONS),
            headers=[("trace", header)],
        )
    await receiver.wait_for(path, 1)


async def test_an_unreadable_request_is_a_dead_letter(installation: Installation) -> None:
    value = fresh("no-json").encode()
    async with AIOKafkaProducer(bootstrap_servers=installation.bootstrap_servers) as producer:
        sent = await producer.send_and_wait(topics.INVOCATION_REQUESTS.name, value, key=b"\xff", partition=1)
    consumer = AIOKafkaConsumer(bootstrap_servers=installation.bootstrap_servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topics.DEAD_LETTERS.name, 1)])
        async with asyncio.timeout(PATIENCE_S):
            async for record in consumer:
                if record.value == value:
                    break
    finally:
        await consumer.stop()
    headers = {name: text.decode() for name, text in record.headers}
    assert record.key == b"\xff"
    assert "not JSON" in headers.pop("reason")
    assert headers == {"topic": topics.INVOCATION_REQUESTS.name, "partition": "1", "offset": str(sent.offset)}


@pytest.mark.parametrize("style", ["standard-webhooks", "plain-token"])
async def test_an_echoed_secret_is_stored_nowhere(
    installation: Installation, receiver: Receiver, shop: Customer, style: str
) -> None:
    path = f"echo-{style}"
    secret = await shop.open("crm", receiver.on(path, echo), style)
    asked = await shop.invoke("crm")
    told = await outcome_of(installation, shop.channel, asked["request_id"])
    [call] = receiver.calls[path]
    raw = base64.urlsafe_b64decode(secret.partition("_")[2].replace("+", "-").replace("/", "_") + "==")
    forbidden = {secret, secret.partition("_")[2], raw.hex(), plain_token(raw)}
    for value in call.headers.get("webhook-signature", "").split():
        forbidden.add(value.removeprefix("v1,"))
    everything = json.dumps(told) + json.dumps(asked) + await _all_tables(installation)
    assert "[blacked out]" in json.dumps(told["data"]["result"])
    for text in forbidden:
        assert text not in everything
        assert text not in installation.output()


async def _all_tables(installation: Installation) -> str:
    """Everything that the invoker's tables hold, as text; bytes as what they spell."""
    connection = await asyncpg.connect(installation.settings.database_url)
    try:
        found = []
        for table in ("deliveries", "attempts", "outbox"):
            for row in await connection.fetch(f"SELECT * FROM invoker.{table}"):  # noqa: S608 -- our names
                found += [
                    value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in row.values()
                ]
    finally:
        await connection.close()
    return "\n".join(found)


@pytest.mark.parametrize(
    ("what", "data", "reason"),
    [
        ("system", {"system": "erp", "code": CODE}, "BusinessSystemUnknown"),
        ("intent", {"system": "crm", "code": "OTHER"}, "IntentUnknown"),
    ],
)
async def test_an_unknown_system_or_intent_is_refused(
    installation: Installation, receiver: Receiver, shop: Customer, what: str, data: dict[str, Any], reason: str
) -> None:
    await shop.open("crm", receiver.url(f"unknown-{what}"))
    answer = await shop.api("POST", f"channels/{shop.channel}/invocations?wait=20", data)
    assert answer.body["delivery"]["state"] == "refused"
    told = await outcome_of(installation, shop.channel, answer.body["request_id"])
    assert (told["data"]["status"], told["data"]["reason"]) == ("refused", reason)


async def test_a_time_to_live_ends_a_request(installation: Installation, receiver: Receiver, shop: Customer) -> None:
    await shop.open("crm", receiver.on("ttl", statuses(503, **{"Retry-After": "3600"})))
    asked = await shop.invoke("crm", ttl_seconds=1)
    assert (asked["delivery"]["state"], asked["delivery"]["reason"]) == ("dead", "TimeToLiveOver")
    assert len(receiver.calls["ttl"]) == 1
    told = await outcome_of(installation, shop.channel, asked["request_id"])
    assert told["data"]["reason"] == "TimeToLiveOver"
