"""A client that a generator made from the served document does every operation, and reads every problem."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.generated_client import PACKAGE, GeneratedClient, generate, type_errors
from tests.installation import Installation, fresh
from tests.patience import PATIENCE_S

PROBLEMS = Path(__file__).parents[1] / "clients" / "problems.json"
"""What a client is refused with, in the document's names. The TypeScript client does the same."""

DAY_AGO = "2026-11-22T08:00:00Z"
WHATSAPP = {"channel_type": "whatsapp", "name": "Shop", "enterprise_authenticated": True}
MESSAGE = {"recipient": "+6591234567", "category": "marketing"}
ORDER = {"name": "Order", "default_data": {"order": "42"}}


async def served_document(installation: Installation) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.get(f"{installation.address}/openapi.json") as answer:
        document: dict[str, Any] = await answer.json()
        return document


@pytest.fixture(scope="module")
def document(installation: Installation) -> dict[str, Any]:
    return asyncio.run(served_document(installation))


@pytest.fixture(scope="module")
def package(document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("generated")
    generate(document, directory)
    sys.path.insert(0, str(directory))
    yield directory
    sys.path.remove(str(directory))
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


@pytest.mark.timeout(240)
def test_the_client_has_no_type_error(package: Path) -> None:
    assert type_errors(package) == ""


@pytest.fixture
async def client(installation: Installation, document: dict[str, Any], package: Path) -> AsyncIterator[GeneratedClient]:
    assert package.exists()
    account = fresh("acct")
    path = {"channel": fresh("ch"), "system": "crm", "code": "ORDER", "switchboard_account": account}
    async with GeneratedClient(document, installation.address, installation.api_key(None), **path) as made:
        yield made


async def test_every_operation(installation: Installation, client: GeneratedClient, document: dict[str, Any]) -> None:
    call, channel = client, client.path["channel"]
    await call("registerChannel", WHATSAPP, status=201)
    await call("editChannel", {"name": "Shop 2"})
    url = f"http://127.0.0.1:{installation.receiver_port()}/nobody-listens"
    await call("openBusinessSystem", {"name": "CRM", "api_request_url": url}, status=201)
    await call("editBusinessSystem", {"remarks": "Ours"})
    await call("addIntent", ORDER, status=201)
    await call("editIntent", {"name": "Order 2"})
    await call("referToIntent", template="t-1")
    issued = await call("refreshSignature", {"grace_seconds": 3600})
    assert (await call("revealSignature")).signature == issued.signature
    await call("toggleSms", {"enabled": True})
    await call("saveOtpScheduling", {"enabled": True, "countries": ["ID"], "use_own_numbers": False})
    version = (await call("saveSpendGuard", {"mode": "off"})).version

    assert (await call("settingsAt", min_version=version)).sms.enabled
    assert (await call("getChannel")).name == "Shop 2"
    assert [one.channel for one in (await call("listChannels")).channels] == [channel]
    assert (await call("getBusinessSystem")).remarks == "Ours"
    assert len((await call("listBusinessSystems")).business_systems) == 1
    assert (await call("getIntent")).templates == ["t-1"]
    assert len((await call("listIntents")).intents) == 1
    newest, old = (await call("listSignatures")).signatures
    assert newest.key_id == issued.key_id
    assert (await call("getSms")).enabled
    assert (await call("getOtpScheduling")).countries == ["ID"]
    assert (await call("getSpendGuard")).mode == "off"
    await call("getHealth")
    await call("saveApprovals", (await call("getApprovals")).to_dict())
    await call("listCustomers")
    await call("saveOnChannels", {"template": channel, "channels": [channel], "sections": ["sms"]}, dry_run=True)

    made = await call("makeTestCall", {})
    assert made.attempt.status is None
    await call("listen", {"system": "erp"}, listener="laptop")
    problem = await call.problem("answerCall", 404, {"status": 200}, listener="laptop", delivery="none")
    assert problem == "CallNotOffered"
    triggered = await call("triggerIntent", {"data": {"order": "7"}})
    assert triggered.attempt.error == "nobody listens"
    await call("leave", listener="laptop")
    invoked = await call("invokeIntent", {"system": "crm", "code": "ORDER"}, status=202)
    assert invoked.request_id
    delivery = await ended(call)
    assert (await call("showDelivery", delivery=delivery)).request.to_dict()["code"] == "ORDER"
    await call("replayDelivery", delivery=delivery, status=202)
    await call("replayDeliveries", {}, status=202)
    await call("listInvocations")
    await call("disableBusinessSystem", {"reason": "maintenance"})
    await call("enableBusinessSystem", {})
    await call("releaseIntent", template="t-1")
    assert await call.problem("retireSignature", 409, key_id=old.key_id) == "SignatureNotProven"
    await call("revokeSignature", key_id=old.key_id)

    message = fresh("m")
    assert (await call("decideMessage", MESSAGE, idempotency_key=message)).message == message
    await call("reportStatus", {"status": "sent", "via": "chat", "at": DAY_AGO}, message=message, status=202)
    assert (await call("showMessage", message=message)).decision.rule == "CategoryNotAuthentication"
    await call("listMessages")
    assert [one.messages for one in (await call("whatIf", {"otp_scheduling": {"enabled": False}})).countries] == [1]
    await call("usage")
    assert (await call("platformHealth")).consumers
    pool = fresh("pool")
    report = {"resource": pool, "country": "ID", "sender": "+6280000000", "units": 0}
    await call("reportSchedulingResource", report | {"as_of": DAY_AGO, "valid_seconds": 60}, status=202)
    await call("listSchedulingResources")
    await call("withdrawSchedulingResource", resource=pool, status=202)
    book = (await call("getRates")).to_dict()
    await call("putRates", {"rates": book["rates"], "sample": book["sample"]})

    assert (await call("changes", cursor="beginning", limit=1)).changes
    assert (await call("channelHistory", min_version=version)).entries
    await call("accountHistory")
    await call("listIntentCatalogue")
    assert (await call("auditAt", at="now")).answers[0].settings.version >= version
    assert (await call("auditDiff", from_="1")).words
    assert (await call("auditLog")).entries
    await call("auditVerify", partition=0)
    await call("accessLog")

    created = await call("createApiKey", {"label": "Generated", "roles": ["viewer"]}, status=201)
    rotated = await call("rotateApiKey", {}, key=created.key_id, status=201)
    assert rotated.replaces == created.key_id
    assert (await call("revokeApiKey", key=rotated.key_id)).revoked_at is not None
    assert len((await call("listApiKeys")).api_keys) >= 2

    decided = await decide_changes(call, installation, document)

    await call("deleteIntent")
    await call("deleteBusinessSystem")
    await call("retireChannel", confirm=channel)
    without_success = {"retireSignature", "answerCall"}  # they need a receiver that verifies, or that is called
    assert client.operations - client.done - decided == without_success


async def decide_changes(call: GeneratedClient, installation: Installation, document: dict[str, Any]) -> set[str]:
    """Proposes two changes, of which somebody else approves one and declines the other. Returns what that one did."""
    approved, declined = fresh("change"), fresh("change")
    for change in (approved, declined):
        command = {"type": "SaveOtpScheduling", "data": {"enabled": False, "countries": [], "use_own_numbers": False}}
        version = (await call("proposeChange", {"change": change, "command": command}, status=201)).version
    assert (await call("getProposedChange", change=approved, min_version=version)).change == approved
    await call("listProposedChanges")
    key = installation.api_key(call.path["switchboard_account"])
    async with GeneratedClient(document, installation.address, key, channel=call.path["channel"]) as approver:
        await approver("declineChange", {}, change=declined)
        await approver("approveChange", {}, change=approved)
        return approver.done


async def ended(call: GeneratedClient) -> str:
    """The id of a delivery that is dead."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = [one for one in (await call("listDeliveries")).deliveries if one.state == "dead" and not one.test]
            if found:
                return str(found[0].id)
            await asyncio.sleep(0.2)


async def test_problems(client: GeneratedClient, installation: Installation, document: dict[str, Any]) -> None:
    await client("registerChannel", WHATSAPP, status=201)
    system = {"name": "CRM", "api_request_url": "https://crm.example/hook"}
    await client("openBusinessSystem", system, status=201)
    version = (await client("addIntent", ORDER, status=201)).version
    await client("getChannel", min_version=version)
    stranger = GeneratedClient(document, installation.address, "sb_none", **client.path)
    key = installation.api_key(fresh("acct"))
    other = GeneratedClient(document, installation.address, key, channel=client.path["channel"])
    async with stranger, other:
        callers = {"": client, "nobody": stranger, "another account": other}
        for row in json.loads(PROBLEMS.read_text()):
            caller = callers[row.get("caller", "")]
            parameters = {name.lower().replace("-", "_"): value for name, value in row.get("parameters", {}).items()}
            problem = await caller.problem(row["operation"], row["status"], row.get("body"), **parameters)
            assert problem == row["problem"], row
