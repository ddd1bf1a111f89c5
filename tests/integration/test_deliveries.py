"""The delivery log over HTTP and on the command line: lists, replays, test calls, proofs, metrics, and disabling."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from services.domain.webhook_signature import fingerprint
from tests.commands import run_here
from tests.customer import CODE, Customer
from tests.installation import Installation, fresh
from tests.receivers import Call, Receiver, statuses, verifies, verify


async def cli(installation: Installation, *arguments: str) -> tuple[int, str]:
    """The command's exit code, and what it printed."""
    done = await asyncio.to_thread(run_here, installation.environment, *arguments)
    return done.returncode, done.stdout + done.stderr


async def test_410_disables_the_system_and_deliveries_continue_when_it_is_enabled(
    receiver: Receiver, shop: Customer
) -> None:
    await shop.open("crm", receiver.on("gone", statuses(410, 200)))
    invocation = await shop.invoke("crm")
    assert (invocation["delivery"]["state"], invocation["delivery"]["reason"]) == ("dead", "EndpointGone")
    await shop.disabled("crm")
    later = await shop.invoke("crm", wait=0)
    await shop.until(later["request_id"], "parked")
    assert len(receiver.calls["gone"]) == 1
    await shop.send("EnableBusinessSystem", {"system": "crm"})
    await shop.until(later["request_id"], "delivered")

    replayed = await shop.api("POST", f"deliveries/{invocation['delivery']['id']}/replay")
    assert replayed.status == 202
    ended = await shop.until(invocation["request_id"], "delivered")
    assert (ended["replays"], [one["status"] for one in ended["attempt_log"]]) == (1, [410, 200])
    ids = [call.webhook_id for call in receiver.calls["gone"]]
    assert ids[0] == ids[2] != ids[1]


async def test_the_log_is_paged_and_visible_to_its_account_only(
    installation: Installation, receiver: Receiver, shop: Customer
) -> None:
    await shop.open("crm", receiver.on("list", statuses(200)))
    await shop.open("erp", receiver.on("dead", statuses(500)))
    delivered = [(await shop.invoke("crm"))["delivery"]["id"] for _ in range(3)]
    dead = (await shop.invoke("erp"))["delivery"]["id"]
    mine = f"deliveries?channel={shop.channel}"
    assert [one["id"] for one in (await shop.api("GET", mine)).body["deliveries"]] == [dead, *reversed(delivered)]
    page = (await shop.api("GET", f"{mine}&limit=3")).body
    rest = (await shop.api("GET", f"{mine}&limit=3&before={page['next']}")).body
    assert [one["id"] for one in page["deliveries"] + rest["deliveries"]] == [dead, *reversed(delivered)]
    assert rest["next"] is None
    for only in ("state=dead", "system=erp", "state=dead&system=erp"):
        assert [one["id"] for one in (await shop.api("GET", f"{mine}&{only}")).body["deliveries"]] == [dead]
    assert (await shop.api("GET", f"{mine}&state=lost")).status == 400
    shown = (await shop.api("GET", f"deliveries/{dead}")).body
    assert [json.loads(one["answer"]) for one in shown["attempt_log"]] == [{"status": 500}] * 4
    async with installation.api("other") as other:
        assert (await other("GET", mine)).body["deliveries"] == []
        for method, path in (("GET", f"deliveries/{dead}"), ("POST", f"deliveries/{dead}/replay")):
            answer = await other(method, path)
            assert (answer.status, answer.body["type"]) == (404, "urn:switchboard:problem:DeliveryUnknown")
        everything = {"channel": shop.channel}
        assert (await other("POST", "deliveries/replay", everything)).body == {"replayed": 0, "more": False}


async def test_many_deliveries_are_replayed(receiver: Receiver, shop: Customer) -> None:
    broken = True

    async def answer(_: Call) -> web.StreamResponse:
        return web.Response(status=500 if broken else 200)

    await shop.open("crm", receiver.on("many", answer))
    invocations = await asyncio.gather(*(shop.invoke("crm") for _ in range(2)))
    assert {invocation["delivery"]["state"] for invocation in invocations} == {"dead"}
    broken = False
    everything = {"channel": shop.channel, "system": "crm"}
    replayed = await shop.api("POST", "deliveries/replay", everything)
    assert (replayed.status, replayed.body) == (202, {"replayed": 2, "more": False})
    for invocation in invocations:
        await shop.until(invocation["request_id"], "delivered")
    assert len({call.webhook_id for call in receiver.calls["many"]}) == 2
    calls = len(receiver.calls["many"])
    assert (await shop.api("POST", "deliveries/replay", everything)).body["replayed"] == 0
    for states in (["due"], []):
        refused = await shop.api("POST", "deliveries/replay", everything | {"states": states})
        assert refused.status == 422, refused.body
    assert len(receiver.calls["many"]) == calls, "what was delivered is not called again"


@pytest.mark.parametrize("header", ["", "x" * 256, "00-zz-zz-zz"], ids=["empty", "long", "no trace"])
async def test_a_request_with_a_bad_trace_header_is_found(receiver: Receiver, shop: Customer, header: str) -> None:
    await shop.open("crm", receiver.url("traced"))
    body, headers = {"system": "crm", "code": CODE}, {"traceparent": header, "tracestate": header}
    accepted = await shop.api("POST", f"channels/{shop.channel}/invocations", body, headers=headers)
    assert accepted.status == 202
    await shop.until(accepted.body["request_id"], "delivered")


async def test_a_refused_request_is_validated_again_by_a_replay(receiver: Receiver, shop: Customer) -> None:
    await shop.open("crm", receiver.url("anew"))
    body = {"system": "crm", "code": "LATER"}
    answer = (await shop.api("POST", f"channels/{shop.channel}/invocations?wait=20", body)).body
    assert answer["delivery"]["reason"] == "IntentUnknown"
    added = await shop.api("PUT", f"{shop.path('crm')}/intents/LATER", {"name": "Later", "default_data": {"a": 1}})
    await shop.known(added)
    await shop.api("POST", f"deliveries/{answer['delivery']['id']}/replay")
    await shop.until(answer["request_id"], "delivered")
    assert receiver.calls["anew"][0].json["data"] == {"a": 1}


async def test_a_test_call_is_made_like_a_real_one(receiver: Receiver, shop: Customer) -> None:
    secret = await shop.open("crm", receiver.on("test", statuses(200, 500)))
    answer = await shop.api("POST", f"{shop.path('crm')}/test-calls")
    assert answer.status == 200, answer.body
    [call] = receiver.calls["test"]
    verify(call, secret)
    assert call.json["type"] == "switchboard.test"
    attempt = answer.body["attempt"]
    assert (attempt["status"], attempt["number"], json.loads(attempt["answer"])) == (200, 1, {"status": 200})

    await shop.send("DisableBusinessSystem", {"system": "crm"})
    failed = await shop.api("POST", f"{shop.path('crm')}/test-calls")
    assert (failed.body["attempt"]["status"], failed.body["delivery"]["state"]) == (500, "dead")
    assert failed.body["delivery"]["reason"] == "TestCallFailed"
    assert len(receiver.calls["test"]) == 2
    again = await shop.api("POST", f"deliveries/{failed.body['delivery']['id']}/replay")
    assert again.status == 409
    assert (await shop.api("POST", f"{shop.path('none')}/test-calls")).status == 404
    assert (await shop.api("POST", f"{shop.path('crm')}/test-calls", {"colour": 1})).status == 422


async def test_an_old_signature_is_revoked_once_the_new_one_is_accepted(receiver: Receiver, shop: Customer) -> None:
    known: list[str] = []

    async def check(call: Call) -> web.StreamResponse:
        return web.Response(status=200 if any(verifies(call, secret) for secret in known) else 401)

    known.append(await shop.open("crm", receiver.on("proof", check)))
    refreshed = await shop.api("POST", f"{shop.path('crm')}/signature", {"grace_seconds": 3600})
    await shop.known(refreshed)
    new, old = await _signatures(shop)
    assert new["accepted_at"] is None
    await shop.invoke("crm")  # carries both: the receiver accepts the old one, and nothing shows for the new one
    assert (await _signatures(shop))[0]["accepted_at"] is None
    retirement = f"{shop.path('crm')}/signature/{old['key_id']}/retirement"
    refused = await shop.api("POST", retirement)
    assert (refused.status, refused.body["type"]) == (409, "urn:switchboard:problem:SignatureNotProven")

    alone = {"key_id": new["key_id"]}
    failed = await shop.api("POST", f"{shop.path('crm')}/test-calls", alone)
    assert failed.body["attempt"]["status"] == 401
    known.append(refreshed.body["signature"])
    passed = await shop.api("POST", f"{shop.path('crm')}/test-calls", alone)
    call = receiver.calls["proof"][-1]
    assert verifies(call, known[1])
    assert not verifies(call, known[0])
    assert passed.body["attempt"]["accepted_key_id"] == new["key_id"]
    proven = (await _signatures(shop))[0]
    assert (proven["accepted_how"], proven["delivery"]) == ("alone", passed.body["delivery"]["id"])
    retired = await shop.api("POST", retirement)
    assert (retired.status, retired.body["proof"]["key_id"]) == (200, new["key_id"])
    await shop.known(retired)
    assert [one["key_id"] for one in await _signatures(shop)] == [new["key_id"]]
    unknown = await shop.api("POST", f"{shop.path('crm')}/test-calls", {"key_id": old["key_id"]})
    assert unknown.body["delivery"]["reason"] == "SignatureUnknown"


async def _signatures(shop: Customer) -> list[dict[str, Any]]:
    """The newest first."""
    found = (await shop.api("GET", f"{shop.path('crm')}/signatures")).body["signatures"]
    return sorted(found, key=lambda one: one["valid_until"] is not None)


@pytest.mark.parametrize("by", ["key id", "fingerprint"])
async def test_a_receiver_names_the_signature_that_it_verified(receiver: Receiver, shop: Customer, by: str) -> None:
    names: dict[str, str] = {}

    async def name(call: Call) -> web.StreamResponse:
        named = next((name for secret, name in reversed(names.items()) if verifies(call, secret)), "none")
        return web.json_response({"ok": True}, headers={"Webhook-Key-Id": named})

    path = f"named-{by[:3]}"
    old = await shop.open("crm", receiver.on(path, name))
    refreshed = await shop.api("POST", f"{shop.path('crm')}/signature", {"grace_seconds": 3600})
    await shop.known(refreshed)
    new, before = await _signatures(shop)
    field = "key_id" if by == "key id" else "fingerprint"
    names |= {old: before[field], refreshed.body["signature"]: new[field]}
    assert fingerprint(b"") not in names.values()
    invocation = await shop.invoke("crm")
    assert invocation["delivery"]["attempt_log"][0]["accepted_key_id"] == new["key_id"]
    proven = (await _signatures(shop))[0]
    assert (proven["key_id"], proven["accepted_how"]) == (new["key_id"], "named")
    retired = await shop.api("POST", f"{shop.path('crm')}/signature/{before['key_id']}/retirement")
    assert retired.status == 200
    newest = await shop.api("POST", f"{shop.path('crm')}/signature/{new['key_id']}/retirement")
    assert newest.status == 409


async def test_metrics_count_due_deliveries_and_results(
    installation: Installation, receiver: Receiver, shop: Customer
) -> None:
    async def metrics() -> dict[str, float]:
        port = installation.services["gateway"].environment["SWITCHBOARD_METRICS_PORT"]
        async with shop.api.session.get(f"http://127.0.0.1:{port}/metrics") as response:
            lines = (await response.text()).splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}

    delivered = 'switchboard_delivery_results_total{result="delivered"}'
    before = await metrics()
    await shop.open("crm", receiver.url("metrics"))
    await shop.invoke("crm")
    await asyncio.sleep(1.5)  # what is counted comes to the database once a second
    after = await metrics()
    assert after[delivered] >= before[delivered] + 1
    for name in (
        'switchboard_deliveries{state="due"}',
        'switchboard_deliveries{state="in_flight"}',
        'switchboard_deliveries_oldest_seconds{state="due"}',
        "switchboard_deliveries_overdue_seconds",
        "switchboard_circuits_open",
        "switchboard_invocations_unpublished",
        "switchboard_reservations_open",
    ):
        assert name in after


async def test_the_command_line(installation: Installation, receiver: Receiver, shop: Customer) -> None:
    await shop.open("crm", receiver.on("cli", statuses(410, 200)))
    invocation = await shop.invoke("crm")
    delivery = invocation["delivery"]["id"]
    mine = ("--account", "acme", "--channel", shop.channel)
    listing, showing = await asyncio.gather(
        cli(installation, "deliveries", "list", *mine, "--state", "dead"),
        cli(installation, "deliveries", "show", delivery),
    )
    assert (listing[0], json.loads(listing[1])["id"]) == (0, delivery)
    assert (showing[0], json.loads(showing[1])["reason"]) == (0, "EndpointGone")
    await shop.disabled("crm")
    await shop.send("EnableBusinessSystem", {"system": "crm"})
    replaying, calling, missing, invoking, refused = await asyncio.gather(
        cli(installation, "deliveries", "replay", delivery),
        cli(installation, "deliveries", "test-call", *mine, "--system", "crm"),
        cli(installation, "deliveries", "show", fresh("none")),
        cli(installation, "invoke", CODE, *mine, "--system", "crm", "--data", '{"from": "the command line"}'),
        cli(installation, "invoke", "NO_INTENT", *mine, "--system", "crm"),
    )
    assert (replaying[0], json.loads(replaying[1])) == (0, {"replayed": 1, "more": False})
    assert (calling[0], json.loads(calling[1])["state"]) == (0, "delivered")
    assert (invoking[0], json.loads(invoking[1])["state"]) == (0, "delivered")
    assert {"from": "the command line"} in [call.json["data"] for call in receiver.calls["cli"]]
    assert (refused[0], json.loads(refused[1])["reason"]) == (1, "IntentUnknown")
    assert missing[0] == 2
    assert missing[1].startswith("switchboard: There is no delivery")
    await shop.until(invocation["request_id"], "delivered")
    assert CODE in showing[1]
