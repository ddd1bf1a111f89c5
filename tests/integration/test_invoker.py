"""Signed calls from the request on Kafka to the outcome on Kafka, against receivers that verify as customers do."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from aiohttp import web
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from contracts import topics
from contracts.partitioner import partition_of
from contracts.sealing import plain_token_of
from services.domain.signing import plain_token
from tests.customer import CODE, Customer, customer
from tests.installation import Installation, fresh
from tests.receivers import Call, Receiver, echo, statuses, verifies, verify
from tests.servers import PARTITIONS


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


async def outcomes_of(installation: Installation, channel: str, request_id: str) -> list[dict[str, Any]]:
    """Everything that `switchboard.invocations` says about a request."""
    partition = TopicPartition(topics.INVOCATIONS.name, partition_of(channel, PARTITIONS))
    consumer = AIOKafkaConsumer(bootstrap_servers=installation.bootstrap_servers, isolation_level="read_committed")
    await consumer.start()
    found = []
    try:
        consumer.assign([partition])
        end = (await consumer.end_offsets([partition]))[partition]
        consumer.seek(partition, 0)
        while await consumer.position(partition) < end:
            for record in (await consumer.getmany(partition, timeout_ms=500)).get(partition, ()):
                envelope = json.loads(record.value)
                if envelope["causationid"] == request_id:
                    found.append(envelope)
    finally:
        await consumer.stop()
    return found


async def until_told(installation: Installation, channel: str, request_id: str) -> dict[str, Any]:
    """The one outcome of a request."""
    async with asyncio.timeout(15):
        while not (found := await outcomes_of(installation, channel, request_id)):
            pass  # reading to the topic's end takes its time
    assert len({one["id"] for one in found}) == 1
    return found[0]


async def test_a_call_is_verified_and_its_answer_is_the_result(
    installation: Installation, receiver: Receiver, shop: Customer
) -> None:
    async def shipped(_: Call) -> web.StreamResponse:
        return web.json_response({"status": "shipped"})

    secret = await shop.open("crm", receiver.on("a", shipped))
    asked = await shop.invoke("crm", data={"order": "42"}, template="tpl-1")
    [call] = receiver.calls["a"]
    verify(call, secret)
    assert call.headers["content-type"] == "application/json"
    assert {
        name: call.json[name] for name in ("type", "channel", "account", "business_system", "template", "data")
    } == {
        "type": CODE,
        "channel": shop.channel,
        "account": "acme",
        "business_system": "crm",
        "template": "tpl-1",
        "data": {"order": "42"},
    }
    delivery = asked["delivery"]
    assert (delivery["state"], delivery["id"], delivery["attempts"]) == ("delivered", call.webhook_id, 1)
    told = await until_told(installation, shop.channel, asked["request_id"])
    assert told["type"] == "IntentInvoked"
    assert told["data"]["result"] == {"status": "shipped"}
    assert told["data"]["key_id"] == delivery["key_id"]


async def test_default_data_is_used_where_none_is_given(receiver: Receiver, shop: Customer) -> None:
    await shop.open("crm", receiver.url("default"))
    await shop.invoke("crm")
    [call] = receiver.calls["default"]
    assert call.json["data"] == {"order": "1"}


async def test_the_same_request_twice_is_one_delivery(receiver: Receiver, shop: Customer) -> None:
    await shop.open("crm", receiver.url("twice"))
    body = {"system": "crm", "code": CODE}
    key = {"Idempotency-Key": fresh("req")}
    path = f"channels/{shop.channel}/invocations?wait=20"
    answers = [await shop.api("POST", path, body, headers=key) for _ in range(2)]
    assert answers[0].body == answers[1].body
    await asyncio.sleep(0.5)
    assert len(receiver.calls["twice"]) == 1


async def test_a_failure_is_tried_again_with_the_same_webhook_id(receiver: Receiver, shop: Customer) -> None:
    secret = await shop.open("crm", receiver.on("again", statuses(500, 503, 200)))
    asked = await shop.invoke("crm")
    calls = receiver.calls["again"]
    assert asked["delivery"]["state"] == "delivered"
    assert [one["status"] for one in asked["delivery"]["attempt_log"]] == [500, 503, 200]
    assert len({call.webhook_id for call in calls}) == 1
    assert len({call.body for call in calls}) == 1
    for call in calls:
        verify(call, secret)


async def test_attempts_end(installation: Installation, receiver: Receiver, shop: Customer) -> None:
    await shop.open("crm", receiver.on("never", statuses(500)))
    asked = await shop.invoke("crm")
    assert (asked["delivery"]["state"], asked["delivery"]["reason"]) == ("dead", "RetriesExhausted")
    assert len(receiver.calls["never"]) == asked["delivery"]["attempts"] == 4
    told = await until_told(installation, shop.channel, asked["request_id"])
    assert (told["type"], told["data"]["reason"]) == ("InvocationFailed", "RetriesExhausted")


async def test_both_signatures_go_out_while_the_old_one_is_valid(receiver: Receiver, shop: Customer) -> None:
    answered = asyncio.Event()

    async def refuses_until_rotated(_: Call) -> web.StreamResponse:
        return web.Response(status=200 if answered.is_set() else 500)

    old = await shop.open("crm", receiver.on("rotate", refuses_until_rotated))
    asked = await shop.invoke("crm", wait=0)
    await receiver.wait_for("rotate", 1)
    refreshed = await shop.api("POST", f"{shop.path('crm')}/signature", {"grace_seconds": 600})
    new = refreshed.body["signature"]
    await shop.known(refreshed)
    answered.set()
    await shop.until(asked["request_id"], "delivered")
    first, *_, last = receiver.calls["rotate"]
    assert verifies(first, old)
    assert not verifies(first, new)
    verify(last, old)
    verify(last, new)
    assert len(last.headers["webhook-signature"].split()) == 2

    replaced = (await shop.api("GET", shop.path("crm"))).body["signatures"]
    [old_key] = [one["key_id"] for one in replaced if one["valid_until"] is not None]
    await shop.known(await shop.api("DELETE", f"{shop.path('crm')}/signature/{old_key}"))
    await shop.invoke("crm")
    assert not verifies(receiver.calls["rotate"][-1], old)
    verify(receiver.calls["rotate"][-1], new)


async def test_the_plain_style_sends_tokens(receiver: Receiver, shop: Customer) -> None:
    old = await shop.open("crm", receiver.url("plain"), "plain-token")
    await shop.invoke("crm")
    refreshed = await shop.api("POST", f"{shop.path('crm')}/signature", {"grace_seconds": 600})
    await shop.known(refreshed)
    await shop.invoke("crm")
    first, second = receiver.calls["plain"]
    assert first.headers["x-switchboard-signature"] == plain_token_of(old)
    assert "x-switchboard-signature-previous" not in first.headers
    assert second.headers["x-switchboard-signature"] == refreshed.body["plain_token"]
    assert second.headers["x-switchboard-signature-previous"] == plain_token_of(old)
    assert "webhook-signature" not in second.headers


async def test_an_edited_address_is_used_at_the_next_attempt(receiver: Receiver, shop: Customer) -> None:
    secret = await shop.open("crm", receiver.on("wrong", statuses(500)))
    asked = await shop.invoke("crm", wait=0)
    await receiver.wait_for("wrong", 1)
    edited = await shop.api("PATCH", shop.path("crm"), {"api_request_url": receiver.url("right")})
    await shop.known(edited)
    await shop.until(asked["request_id"], "delivered")
    [call] = receiver.calls["right"]
    assert call.webhook_id == receiver.calls["wrong"][0].webhook_id
    verify(call, secret)


async def test_a_deleted_system_is_not_called_again(
    installation: Installation, receiver: Receiver, shop: Customer
) -> None:
    held = asyncio.Event()

    async def hold(_: Call) -> web.StreamResponse:
        await held.wait()
        return web.Response(status=500)

    await shop.open("crm", receiver.on("gone", hold))
    asked = await shop.invoke("crm", wait=0)
    await receiver.wait_for("gone", 1)
    await shop.known(await shop.api("DELETE", shop.path("crm")))
    held.set()
    ended = await shop.until(asked["request_id"], "dead")
    assert ended["reason"] == "BusinessSystemUnknown"
    assert len(receiver.calls["gone"]) == 1
    told = await until_told(installation, shop.channel, asked["request_id"])
    assert told["data"]["reason"] == "BusinessSystemUnknown"


async def test_what_waits_for_a_deleted_system_does_not_go_to_its_successor(receiver: Receiver, shop: Customer) -> None:
    held = asyncio.Event()

    async def hold(_: Call) -> web.StreamResponse:
        await held.wait()
        return web.Response(status=500)

    await shop.open("crm", receiver.on("predecessor", hold))
    asked = await shop.invoke("crm", wait=0)
    await receiver.wait_for("predecessor", 1)
    await shop.known(await shop.api("DELETE", shop.path("crm")))
    await shop.open("crm", receiver.url("successor"))
    later = await shop.invoke("crm")
    held.set()
    assert (await shop.until(asked["request_id"], "dead"))["reason"] == "BusinessSystemUnknown"
    assert [call.webhook_id for call in receiver.calls["successor"]] == [later["delivery"]["id"]]


async def test_what_waits_for_a_retired_channel_ends(
    installation: Installation, receiver: Receiver, shop: Customer
) -> None:
    await shop.open("crm", receiver.on("retired", statuses(503, **{"Retry-After": "3600"})))
    asked = await shop.invoke("crm", wait=0)
    await receiver.wait_for("retired", 1)
    await shop.send("DisableBusinessSystem", {"system": "crm"})
    later = await shop.invoke("crm", wait=0)
    for one in (asked, later):
        await shop.until(one["request_id"], "parked")
    await shop.send("RetireChannel", {})
    for one in (asked, later):
        told = await until_told(installation, shop.channel, one["request_id"])
        assert (told["type"], told["data"]["status"], told["data"]["reason"]) == (
            *("InvocationFailed", "dead"),
            "ChannelIsRetired",
        )
    assert len(receiver.calls["retired"]) == 1


async def test_data_that_breaks_the_schema_is_refused(
    installation: Installation, receiver: Receiver, shop: Customer
) -> None:
    await shop.open("crm", receiver.url("schema"))
    edit = f"{shop.path('crm')}/intents/{CODE}"
    await shop.known(await shop.api("PATCH", edit, {"schema": {"required": ["order"]}}))
    refused = await shop.invoke("crm", data={"other": 1})
    assert (refused["delivery"]["state"], refused["delivery"]["reason"]) == ("refused", "DataBreaksSchema")
    told = await until_told(installation, shop.channel, refused["request_id"])
    assert '"order" is a required property' in told["data"]["message"]
    await shop.known(await shop.api("PATCH", edit, {"schema": None}))
    assert (await shop.invoke("crm", data={"other": 1}))["delivery"]["state"] == "delivered"


async def test_a_dry_run_says_what_would_be_and_calls_nobody(receiver: Receiver, shop: Customer) -> None:
    await shop.open("crm", receiver.url("dry"))
    path = f"channels/{shop.channel}/invocations?dry_run=true"
    would = await shop.api("POST", path, {"system": "crm", "code": CODE, "data": {"a": 1}})
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
async def test_headers_that_are_no_text_lose_no_request(
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
        async with asyncio.timeout(15):
            async for record in consumer:
                if record.value == value:
                    break
    finally:
        await consumer.stop()
    headers = {name: text.decode() for name, text in record.headers}
    assert record.key == b"\xff"
    assert "not JSON" in headers.pop("reason")
    assert headers == {"topic": topics.INVOCATION_REQUESTS.name, "partition": "1", "offset": str(sent.offset)}


async def test_a_disabled_system_parks_what_waits_and_goes_on_when_enabled(receiver: Receiver, shop: Customer) -> None:
    held = asyncio.Event()

    async def hold(call: Call) -> web.StreamResponse:
        await held.wait()
        return web.Response(status=500 if call.number == 1 else 200)

    secret = await shop.open("crm", receiver.on("parked", hold))
    retried = await shop.invoke("crm", wait=0)
    await receiver.wait_for("parked", 1)
    command = {"system": "crm", "reason": "maintenance"}
    await shop.send("DisableBusinessSystem", command)
    later = await shop.invoke("crm", wait=0)
    held.set()
    for one in (retried, later):
        await shop.until(one["request_id"], "parked")
    assert len(receiver.calls["parked"]) == 1
    await shop.send("EnableBusinessSystem", {"system": "crm"})
    for one in (retried, later):
        assert (await shop.until(one["request_id"], "delivered"))["reason"] is None
    for call in receiver.calls["parked"]:
        verify(call, secret)


@pytest.mark.parametrize("style", ["standard-webhooks", "plain-token"])
async def test_an_echoing_receiver_leaves_no_secret_behind(
    installation: Installation, receiver: Receiver, shop: Customer, style: str
) -> None:
    path = f"echo-{style}"
    secret = await shop.open("crm", receiver.on(path, echo), style)
    asked = await shop.invoke("crm")
    told = await until_told(installation, shop.channel, asked["request_id"])
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
async def test_what_is_unknown_is_refused(
    installation: Installation, receiver: Receiver, shop: Customer, what: str, data: dict[str, Any], reason: str
) -> None:
    await shop.open("crm", receiver.url(f"unknown-{what}"))
    answer = await shop.api("POST", f"channels/{shop.channel}/invocations?wait=20", data)
    assert answer.body["delivery"]["state"] == "refused"
    told = await until_told(installation, shop.channel, answer.body["request_id"])
    assert (told["data"]["status"], told["data"]["reason"]) == ("refused", reason)


async def test_a_time_to_live_ends_a_request(installation: Installation, receiver: Receiver, shop: Customer) -> None:
    await shop.open("crm", receiver.on("ttl", statuses(503, **{"Retry-After": "3600"})))
    asked = await shop.invoke("crm", ttl_seconds=1)
    assert (asked["delivery"]["state"], asked["delivery"]["reason"]) == ("dead", "TimeToLiveOver")
    assert len(receiver.calls["ttl"]) == 1
    told = await until_told(installation, shop.channel, asked["request_id"])
    assert told["data"]["reason"] == "TimeToLiveOver"
