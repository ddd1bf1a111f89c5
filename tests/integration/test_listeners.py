"""Listeners at a running installation: whose answer counts, what is sent to them, what a lost gateway changes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from services.domain.webhook_signature import encode_secret, plain_token
from services.infrastructure.embedded.process import free_port
from services.infrastructure.postgres import pool_of
from services.invoker.queue.listeners import LISTENERS_PER_ACCOUNT
from tests.connections import Connections
from tests.customer import ACCOUNT, CODE, Customer
from tests.installation import Answer, Api, Installation, fresh
from tests.invocation_outcomes import outcome_of
from tests.laptop import SECRET, developer_key, listening
from tests.patience import PATIENCE_S
from tests.receivers import Call, Receiver, verify


@pytest.fixture
async def key(installation: Installation, shop: Customer) -> str:
    return await developer_key(installation, ACCOUNT, shop.channel)


@asynccontextmanager
async def api_of(installation: Installation, key: str) -> AsyncIterator[Api]:
    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(f"{installation.address}/v1/", headers=headers) as session:
        yield Api(session)


def trigger(shop: Customer, system: str = "crm") -> asyncio.Task[Answer]:
    path = f"{shop.path(system)}/intents/{CODE}/trigger"
    return asyncio.ensure_future(shop.api("POST", path, {}))


def problem(body: Mapping[str, Any]) -> str:
    return str(body["type"]).rpartition(":")[2]


async def test_no_secret_of_the_account_is_sent_to_a_listener(
    installation: Installation, shop: Customer, receiver: Receiver, key: str
) -> None:
    secret = await shop.open("crm", receiver.url("never"))
    key_id = (await shop.api("GET", f"{shop.path('crm')}/signatures")).body["signatures"][0]["key_id"]
    path = f"channels/{shop.channel}/listeners/{fresh('l')}"
    async with api_of(installation, key) as laptop:
        assert (await laptop("PUT", path, {})).body == {"calls": []}
        triggered = trigger(shop)
        answer = await laptop("PUT", f"{path}?wait=3", {})
        [call] = answer.body["calls"]
        received = json.dumps(answer.body) + json.dumps(dict(answer.headers))
        assert secret.removeprefix("whsec_") not in received
        assert "v1," not in received
        assert key_id not in received
        assert call.keys() == {"delivery", "system", "code", "signature_style", "body", "remaining_s", "traceparent"}
        assert (await laptop("PUT", path, {"known": [call["delivery"]]})).body == {"calls": []}
        refused = await laptop("GET", f"{shop.path('crm')}/signature")
        assert (refused.status, problem(refused.body)) == (403, "Forbidden")

        answers = f"{path}/answers/{call['delivery']}"
        for wrong in ({}, {"status": 200, "failure": "broken"}, {"status": 200, "body": "A"}, {"status": 99}):
            assert (await laptop("PUT", answers, wrong)).status == 422, wrong
        echoed = {"status": 200, "body": "eyJhIjogMX0="}
        assert [(await laptop("PUT", answers, echoed)).status for _ in range(2)] == [200, 200], (
            "to repeat it is allowed"
        )
        other = f"channels/{shop.channel}/listeners/{fresh('l')}/answers"
        assert problem((await laptop("PUT", f"{other}/{call['delivery']}", echoed)).body) == "CallAnswered"
        assert problem((await laptop("PUT", f"{other}/none", echoed)).body) == "CallNotOffered"
        assert (await triggered).body["attempt"]["answer"] == '{"a":1}'
        assert (await laptop("DELETE", path)).status == 200
    assert (await trigger(shop)).body["attempt"]["error"] == "nobody listens"


async def test_an_answer_of_a_laptop_shows_nothing_about_the_system(
    installation: Installation, shop: Customer, receiver: Receiver, key: str
) -> None:
    await shop.open("crm", receiver.url("never"), "plain-token")
    async with listening(installation.address, key, shop.channel, receiver.url("local")) as laptop:
        await shop.send("DisableBusinessSystem", {"system": "crm"})
        delivery = (await trigger(shop)).body["delivery"]
        assert (await laptop.calls.get()).fate == "counts"
        health = (await shop.api("GET", f"{shop.path('crm')}/health")).body
    [attempt] = delivery["attempt_log"]
    assert (delivery["state"], delivery["key_id"], attempt["key_ids"]) == ("delivered", None, [])
    assert (attempt["status"], json.loads(attempt["answer"])) == (200, {"ok": True})
    assert health["verified_at"] is None
    [call] = receiver.calls["local"]
    assert call.headers["x-switchboard-signature"] == plain_token(SECRET)
    assert (call.json["data"], call.json["business_system"]) == ({"order": "1"}, "crm")


@pytest.mark.parametrize(
    ("failure", "stage", "error"),
    [
        ("refused", "connect", "no connection (Connection refused)"),
        ("timeout", "answer", "no whole answer within 15 s"),
        ("broken", "answer", "the connection broke"),
    ],
)
async def test_a_receiver_that_fails_is_a_failed_attempt(
    installation: Installation, shop: Customer, receiver: Receiver, key: str, failure: str, stage: str, error: str
) -> None:
    await shop.open("crm", receiver.url("never"))

    async def broken(call: Call) -> web.StreamResponse:
        transport = call.request.transport
        assert transport is not None
        transport.abort()
        return web.Response()

    where = f"http://127.0.0.1:{free_port()}/nobody" if failure == "refused" else receiver.on("broken", broken)
    if failure == "timeout":  # whose time is over at the listener: a wait of 15 s would show no more
        path = f"channels/{shop.channel}/listeners/{fresh('l')}"
        async with api_of(installation, key) as laptop:
            await laptop("PUT", path, {})
            triggered = trigger(shop)
            [call] = (await laptop("PUT", f"{path}?wait=3", {})).body["calls"]
            assert 0 < call["remaining_s"] <= 15
            await laptop("PUT", f"{path}/answers/{call['delivery']}", {"failure": failure})
            await laptop("DELETE", path)
    else:
        async with listening(installation.address, key, shop.channel, where) as laptop_listening:
            triggered = trigger(shop)
            assert (await laptop_listening.calls.get()).answer == {"failure": failure}
    delivery = (await triggered).body["delivery"]
    [attempt] = delivery["attempt_log"]
    assert (delivery["state"], delivery["reason"]) == ("dead", "TestCallFailed")
    assert (attempt["stage"], attempt["error"], attempt["status"]) == (stage, error, None)


async def test_of_two_listeners_the_first_answer_counts(
    installation: Installation, shop: Customer, receiver: Receiver, key: str
) -> None:
    await shop.open("crm", receiver.url("never"))
    both_have_it, answered = asyncio.Event(), asyncio.Event()

    async def early(_: Call) -> web.StreamResponse:
        await both_have_it.wait()
        return web.json_response({"who": "early"})

    async def late(_: Call) -> web.StreamResponse:
        both_have_it.set()
        await answered.wait()
        return web.json_response({"who": "late"})

    at = installation.address, key, shop.channel
    async with (
        listening(*at, receiver.on("late", late)) as second,
        listening(*at, receiver.on("early", early), "crm") as first,
        listening(*at, receiver.url("others"), "erp"),
    ):
        triggered = trigger(shop)
        assert (await first.calls.get()).fate == "counts"
        answered.set()
        assert (await second.calls.get()).fate == "answered"
        attempt = (await triggered).body["attempt"]
    assert json.loads(attempt["answer"]) == {"who": "early"}
    assert receiver.calls["others"] == []


async def test_a_gateway_is_lost_between_a_call_and_its_answer(
    installation: Installation, shop: Customer, receiver: Receiver, key: str
) -> None:
    """The call is forwarded once. Its answer waits for a gateway, is sent again after a lost receipt, and counts."""
    await shop.open("crm", receiver.url("never"))
    is_away = asyncio.Event()

    async def when_away(_: Call) -> web.StreamResponse:
        await is_away.wait()
        return web.json_response({"answer": "kept"})

    async with (
        Connections(installation.http_port) as between,
        listening(between.address, key, shop.channel, receiver.on("local", when_away)) as laptop,
    ):
        triggered = trigger(shop)
        await receiver.wait_for("local", 1)
        await between.cut()
        assert (await laptop.notes.get()).endswith("Trying again …")
        is_away.set()
        between.lose_answers_to, between.losses = b"/answers/", 2  # the HTTP client itself tries a PUT twice
        await between.open()
        found = await laptop.calls.get()
        assert (found.fate, found.answer["status"]) == ("counts", 200)
        assert between.losses == 0
        assert await laptop.notes.get() == "Listening again."
        assert json.loads((await triggered).body["attempt"]["answer"]) == {"answer": "kept"}
    [call] = receiver.calls["local"]
    verify(call, encode_secret(SECRET))


async def test_an_invoker_is_lost_while_a_call_waits(
    installation: Installation, shop: Customer, receiver: Receiver, key: str
) -> None:
    """The answer that came while there was no invoker is the call's end, told once; the listener goes on."""
    await shop.open("crm", receiver.url("never"))
    invoker_is_lost = asyncio.Event()

    async def when_lost(_: Call) -> web.StreamResponse:
        await invoker_is_lost.wait()
        return web.json_response({"answer": "kept"})

    async with listening(installation.address, key, shop.channel, receiver.on("local", when_lost)) as laptop:
        triggered = trigger(shop)
        [call] = await receiver.wait_for("local", 1)
        await asyncio.to_thread(installation.kill, "invoker")
        invoker_is_lost.set()
        assert (await laptop.calls.get()).fate == "counts"
        await end_leases(installation, call.webhook_id)
        await asyncio.to_thread(installation.restart, "invoker")
        delivery = await ended(shop, call.webhook_id)
        await asyncio.wait([triggered])
        again = (await trigger(shop)).body["delivery"]
        assert (await laptop.calls.get()).call["delivery"] == again["id"]
    assert (delivery["state"], delivery["to_listener"]) == ("delivered", True)
    assert json.loads(delivery["attempt_log"][-1]["answer"]) == {"answer": "kept"}
    assert (await outcome_of(installation, shop.channel, delivery["request_id"]))["data"]["delivery"] == delivery["id"]
    assert [one.webhook_id for one in receiver.calls["local"]] == [delivery["id"], again["id"]]


async def test_a_gateway_is_restarted_below_a_listener(
    installation: Installation, shop: Customer, receiver: Receiver, key: str
) -> None:
    await shop.open("crm", receiver.url("never"))
    async with listening(installation.address, key, shop.channel, receiver.url("local")) as laptop:
        await asyncio.to_thread(installation.kill, "gateway")
        assert (await laptop.notes.get()).endswith("Trying again …")
        await asyncio.to_thread(installation.restart, "gateway")
        assert await laptop.notes.get() == "Listening again."
        assert (await trigger(shop)).body["delivery"]["state"] == "delivered"
        assert (await laptop.calls.get()).fate == "counts"
    assert len(receiver.calls["local"]) == 1


async def end_leases(installation: Installation, delivery: str) -> None:
    """As if the 40 s of a lost invoker's lease were over."""
    pool = await pool_of(installation.settings, size=1)
    try:
        await pool.execute("UPDATE invoker.deliveries SET leased_until = now() WHERE id = $1", delivery)
    finally:
        await pool.close()


async def ended(shop: Customer, delivery: str) -> dict[str, Any]:
    """The delivery, once it has ended."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = (await shop.api("GET", f"deliveries/{delivery}")).body
            if found["ended_at"] is not None:
                return dict(found)
            await asyncio.sleep(0.1)


async def test_an_account_has_a_limit_of_listeners(installation: Installation) -> None:
    account, channel = fresh("acct"), fresh("ch")
    whatsapp = {"channel_type": "whatsapp", "name": "Shop", "enterprise_authenticated": True}
    async with installation.api(None, **{"Switchboard-Account": account}) as platform:
        assert (await platform("PUT", f"channels/{channel}", whatsapp)).status == 201
    async with installation.api(fresh("acct")) as stranger:
        refused = await stranger("PUT", f"channels/{channel}/listeners/l", {})
        assert (refused.status, problem(refused.body)) == (404, "ChannelUnknown")
    async with installation.api(account) as api:
        paths = [f"channels/{channel}/listeners/l-{number}" for number in range(LISTENERS_PER_ACCOUNT + 1)]
        answers = await asyncio.gather(*(api("PUT", f"{path}?min_version=1", {}) for path in paths))
        assert sorted(answer.status for answer in answers) == [200] * LISTENERS_PER_ACCOUNT + [429]
        [refused] = [answer for answer in answers if answer.status == 429]
        assert problem(refused.body) == "TooManyListeners"
        again = next(path for path, answer in zip(paths, answers, strict=True) if answer.status == 200)
        assert (await api("PUT", again, {})).status == 200, "one that is there goes on"
        await api("DELETE", again)
        assert (await api("PUT", paths[answers.index(refused)], {})).status == 200
