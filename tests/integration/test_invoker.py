"""Signed calls from request to outcome on Kafka, against receivers that verify as customers do."""

from __future__ import annotations

import asyncio

from aiohttp import web

from contracts.sealing import plain_token_of
from tests.customer import CODE, Customer
from tests.installation import Installation, fresh
from tests.invocation_outcomes import outcome_of
from tests.receivers import Call, Receiver, statuses, verifies, verify


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
    told = await outcome_of(installation, shop.channel, asked["request_id"])
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


async def test_a_failure_is_retried_with_the_same_webhook_id(receiver: Receiver, shop: Customer) -> None:
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
    told = await outcome_of(installation, shop.channel, asked["request_id"])
    assert (told["type"], told["data"]["reason"]) == ("InvocationFailed", "RetriesExhausted")


async def test_both_signatures_are_sent_while_the_old_one_is_valid(receiver: Receiver, shop: Customer) -> None:
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
    told = await outcome_of(installation, shop.channel, asked["request_id"])
    assert told["data"]["reason"] == "BusinessSystemUnknown"


async def test_deliveries_of_a_deleted_system_do_not_go_to_its_successor(receiver: Receiver, shop: Customer) -> None:
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


async def test_deliveries_of_a_retired_channel_end(
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
        told = await outcome_of(installation, shop.channel, one["request_id"])
        assert (told["type"], told["data"]["status"], told["data"]["reason"]) == (
            *("InvocationFailed", "dead"),
            "ChannelIsRetired",
        )
    assert len(receiver.calls["retired"]) == 1


async def test_a_disabled_system_parks_deliveries_and_continues_when_enabled(
    receiver: Receiver, shop: Customer
) -> None:
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
