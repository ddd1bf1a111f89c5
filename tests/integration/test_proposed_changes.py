"""Two people for a change, on the running installation: over HTTP, at an instant, and over a restart of the decider."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from contracts.message import rfc3339, unix_milliseconds
from contracts.sealing import SealKey
from services.gateway.authentication import api_keys
from services.gateway.authentication.roles import Role, Scope
from services.infrastructure.postgres import pool_of
from tests.installation import Api, Installation, fresh

FORM = {"enabled": True, "countries": ["ID"], "use_own_numbers": False}
OTHER_FORM = FORM | {"countries": ["IN"]}
OFF = {"enabled": False, "countries": [], "use_own_numbers": False}
_WAIT_S = 30
_RESTART_MS = 15_000


def form(change: str, data: dict[str, Any] = FORM, **more: Any) -> dict[str, Any]:
    return {"change": change, "command": {"type": "SaveOtpScheduling", "data": data}, **more}


class People:
    """Callers of one account; `as_` gives each a key of its own with one role, made on first use."""

    def __init__(self, installation: Installation, account: str, session: aiohttp.ClientSession) -> None:
        self._installation, self._account, self._session = installation, account, session
        self.tokens: dict[str, str] = {}

    async def join(self, name: str, *roles: Role) -> None:
        pool = await pool_of(self._installation.settings, size=1)
        try:
            self.tokens[name] = await api_keys.create(
                pool, label=name, scope=Scope(self._account), roles=frozenset(roles)
            )
        finally:
            await pool.close()

    async def ask(self, name: str, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Status, and the body; of a problem only its name."""
        headers = {"Authorization": f"Bearer {self.tokens[name]}"}
        answer = await Api(self._session)(method, path, body, headers=headers)
        if answer.status >= 400:
            return answer.status, answer.body["type"].rpartition(":")[2]
        return answer.status, answer.body


@asynccontextmanager
async def _people(installation: Installation) -> AsyncIterator[tuple[People, str]]:
    """Anna and Bert edit, Paula approves too, Kim keeps signatures, Adam administers; and their channel."""
    account, channel = fresh("acct"), fresh("ch")
    shop = {"channel_type": "whatsapp", "name": "Shop", "enterprise_authenticated": True}
    async with installation.api(None, **{"Switchboard-Account": account}) as platform:
        assert (await platform("PUT", f"channels/{channel}", shop)).status == 201
        crm = {"name": "CRM", "api_request_url": "https://crm.example/hook"}
        assert (await platform("PUT", f"channels/{channel}/business-systems/crm", crm)).status == 201
    async with aiohttp.ClientSession(f"{installation.address}/v1/") as session:
        people = People(installation, account, session)
        await people.join("anna", Role.EDITOR)
        await people.join("bert", Role.EDITOR)
        await people.join("paula", Role.APPROVER, Role.EDITOR)
        await people.join("kim", Role.SIGNATURE_KEEPER)
        await people.join("adam", Role.ADMINISTRATOR)
        at = f"channels/{channel}"
        assert (await people.ask("adam", "PUT", f"{at}/approvals", {"required_for": ["otp-scheduling", "signature"]}))[
            0
        ] == 200
        yield people, at


@pytest.fixture
async def people(installation: Installation) -> AsyncIterator[tuple[People, str]]:
    async with _people(installation) as found:
        yield found


async def _change(people: People, at: str, change: str, version: int) -> Any:
    return (await people.ask("anna", "GET", f"{at}/proposed-changes/{change}?min_version={version}"))[1]


async def test_a_form_is_proposed_approved_and_carried_out(people: tuple[People, str]) -> None:
    who, at = people
    assert await who.ask("anna", "PUT", f"{at}/otp-scheduling", FORM) == (409, "ApprovalRequired")
    status, proposed = await who.ask("anna", "POST", f"{at}/proposed-changes", form("c-1", comment="for Jakarta"))
    assert status == 201
    waiting = await _change(who, at, "c-1", proposed["version"])
    assert (waiting["status"], waiting["comment"]) == ("proposed", "for Jakarta")
    assert (waiting["before"], waiting["after"]) == ({"otp-scheduling": OFF}, {"otp-scheduling": FORM})

    assert await who.ask("anna", "POST", f"{at}/proposed-changes/c-1/approve", {}) == (403, "Forbidden")
    status, approved = await who.ask("paula", "POST", f"{at}/proposed-changes/c-1/approve", {"comment": "go"})
    assert (status, len(approved["events"])) == (200, 3)
    assert await who.ask("paula", "POST", f"{at}/proposed-changes/c-1/approve", {}) == (409, "ChangeDecided")

    settings = (await who.ask("anna", "GET", f"{at}/settings?min_version={approved['version']}"))[1]
    assert settings["otp_scheduling"] == FORM
    applied = await _change(who, at, "c-1", approved["version"])
    assert (applied["status"], applied["decision_comment"]) == ("applied", "go")
    assert applied["proposed_by"] != applied["approved_by"]
    log = (await who.ask("adam", "GET", f"{at}/history?type=ApprovalRequired&type=OtpSchedulingSaved"))[1]["entries"]
    assert [entry["type"] for entry in log] == ["OtpSchedulingSaved", "CommandRejected"]


async def test_who_proposes_what_and_who_approves(people: tuple[People, str]) -> None:
    who, at = people
    retire = {"change": "c-9", "command": {"type": "RetireChannel", "data": {}}}
    refresh = {"change": "c-8", "command": {"type": "RefreshSignature", "data": {"system": "crm"}}}
    for name, body in (("anna", retire), ("anna", refresh), ("kim", retire), ("kim", form("c-7")), ("adam", refresh)):
        assert await who.ask(name, "POST", f"{at}/proposed-changes", body) == (403, "Forbidden"), (name, body)
    toggle = {"change": "c-6", "command": {"type": "ToggleSms", "data": {"enabled": True}}}
    assert await who.ask("anna", "POST", f"{at}/proposed-changes", toggle) == (422, "InvalidCommand")
    sealed = {
        "change": "c-8",
        "command": {"type": "RefreshSignature", "data": {"system": "crm", "seal_to": SealKey().seal_to}},
    }
    assert await who.ask("kim", "POST", f"{at}/proposed-changes", sealed) == (422, "InvalidCommand")

    status, first = await who.ask("paula", "POST", f"{at}/proposed-changes", form("c-1"))
    assert status == 201
    assert await who.ask("paula", "POST", f"{at}/proposed-changes/c-1/approve", {}) == (403, "AuthorCannotApprove")
    assert await who.ask("adam", "POST", f"{at}/proposed-changes/c-1/approve", {}) == (403, "Forbidden")
    decline = f"{at}/proposed-changes/c-2/decline?min_version={first['version'] + 1}"
    declining = asyncio.ensure_future(who.ask("bert", "POST", decline, {}))
    assert not (await asyncio.wait([declining], timeout=0.3))[0], "it waits for the change"
    assert (await who.ask("anna", "POST", f"{at}/proposed-changes", form("c-2")))[0] == 201
    assert await declining == (403, "Forbidden")
    assert (await who.ask("anna", "POST", f"{at}/proposed-changes/c-2/decline", {}))[0] == 200
    status, declined = await who.ask("paula", "POST", f"{at}/proposed-changes/c-1/decline", {"comment": "no"})
    assert status == 200
    assert (await _change(who, at, "c-1", declined["version"]))["status"] == "declined"
    assert await who.ask("anna", "GET", f"{at}/proposed-changes/c-3") == (404, "ChangeUnknown")


async def test_keys_of_one_person_are_one_person(people: tuple[People, str]) -> None:
    """Whoever makes a key approves nothing by it, unless it belongs to somebody else."""
    who, at = people
    await who.join("olga", Role.ADMINISTRATOR, Role.APPROVER, Role.EDITOR)

    async def make(name: str, **more: str) -> str | None:
        status, made = await who.ask("olga", "POST", "api-keys", {"label": name, "roles": ["approver"], **more})
        assert status == 201
        who.tokens[name] = made["token"]
        return str(made["owner"])

    olga = f"api-key:{api_keys.key_id_of(who.tokens['olga'])}"
    assert await make("second") == olga
    assert await make("rita", owner="rita@acme.example") == "rita@acme.example"
    status, rotated = await who.ask("olga", "POST", f"api-keys/{olga.removeprefix('api-key:')}/rotation", {})
    assert (status, rotated["owner"]) == (201, olga)
    who.tokens["rotated"] = rotated["token"]
    assert (await who.ask("olga", "POST", f"{at}/proposed-changes", form("c-1")))[0] == 201
    for name in ("olga", "second", "rotated"):
        refused = await who.ask(name, "POST", f"{at}/proposed-changes/c-1/approve", {})
        assert refused == (403, "AuthorCannotApprove"), name
    assert (await who.ask("rita", "POST", f"{at}/proposed-changes/c-1/approve", {}))[0] == 200
    assert (await who.ask("rotated", "POST", f"{at}/proposed-changes", form("c-2", OTHER_FORM)))[0] == 201
    assert (await who.ask("second", "POST", f"{at}/proposed-changes/c-2/approve", {}))[0] == 403


async def test_an_edit_and_what_overtakes_make_void(people: tuple[People, str]) -> None:
    who, at = people
    for body in (form("c-1"), form("c-2", OTHER_FORM, replaces="c-1"), form("c-3")):
        assert (await who.ask("anna", "POST", f"{at}/proposed-changes", body))[0] == 201
    assert await who.ask("paula", "POST", f"{at}/proposed-changes/c-1/approve", {}) == (409, "ChangeDecided")
    status, approved = await who.ask("paula", "POST", f"{at}/proposed-changes/c-2/approve", {})
    assert status == 200
    assert await who.ask("paula", "POST", f"{at}/proposed-changes/c-3/approve", {}) == (409, "ChangeDecided")

    page = (await who.ask("bert", "GET", f"{at}/proposed-changes?min_version={approved['version']}"))[1]
    assert [(one["change"], one["status"], one.get("reason")) for one in page["changes"]] == [
        ("c-3", "voided", "'otp-scheduling' changed after it was proposed."),
        ("c-2", "applied", None),
        ("c-1", "voided", "Change 'c-2' replaces it."),
    ]
    first = (await who.ask("bert", "GET", f"{at}/proposed-changes?limit=2"))[1]
    rest = (await who.ask("bert", "GET", f"{at}/proposed-changes?before={first['next']}"))[1]
    assert [one["change"] for one in rest["changes"]] == ["c-1"]
    status, proposed = await who.ask("anna", "POST", f"{at}/proposed-changes", form("c-4", OFF))
    still_open = await who.ask("bert", "GET", f"{at}/proposed-changes?open=true&min_version={proposed['version']}")
    assert [one["change"] for one in still_open[1]["changes"]] == ["c-4"]


async def test_a_signature_that_was_approved_is_revealed_and_its_secret_is_nowhere_before(
    people: tuple[People, str],
) -> None:
    who, at = people
    signature = f"{at}/business-systems/crm/signature"
    assert await who.ask("kim", "POST", signature, {}) == (409, "ApprovalRequired")
    refresh = {"change": "c-1", "command": {"type": "RefreshSignature", "data": {"system": "crm"}}}
    assert (await who.ask("kim", "POST", f"{at}/proposed-changes", refresh))[0] == 201
    status, approved = await who.ask("paula", "POST", f"{at}/proposed-changes/c-1/approve", {})
    assert status == 200
    revealed = (await who.ask("kim", "GET", signature))[1]["signature"]
    history = await who.ask("kim", "GET", f"{at}/history?min_version={approved['version']}")
    assert revealed.startswith("whsec_")
    assert revealed not in str(history) + str(approved)
    assert [entry["type"] for entry in history[1]["entries"]].count("SignatureRefreshed") == 2


async def test_a_scheduled_change_outlives_the_key_that_approved_it_and_the_decider(
    installation: Installation, people: tuple[People, str]
) -> None:
    """And is carried out once, after the restart, although its instant passed meanwhile."""
    who, at = people
    instant = rfc3339(time.time_ns() // 1_000_000 + _RESTART_MS)
    assert (await who.ask("anna", "POST", f"{at}/proposed-changes", form("c-1", at=instant)))[0] == 201
    status, approved = await who.ask("paula", "POST", f"{at}/proposed-changes/c-1/approve", {})
    assert (status, len(approved["events"])) == (200, 1)
    key = api_keys.key_id_of(who.tokens["paula"])
    assert (await who.ask("adam", "DELETE", f"api-keys/{key}"))[0] == 200
    assert await who.ask("paula", "POST", f"{at}/proposed-changes/c-1/approve", {}) == (401, "Unauthenticated")
    assert (await _change(who, at, "c-1", approved["version"]))["status"] == "approved"

    installation.services["decider"].stop()
    await asyncio.to_thread(installation.services["decider"].wait)
    assert rfc3339(time.time_ns() // 1_000_000) < instant, "the decider was to stop before the instant"
    await _reach(instant)
    assert (await _change(who, at, "c-1", approved["version"]))["status"] == "approved"
    await asyncio.to_thread(installation.restart, "decider")

    await _until_closed(who, at, "c-1")
    installation.kill("decider")
    await asyncio.to_thread(installation.restart, "decider")
    status, toggled = await who.ask("anna", "PUT", f"{at}/sms", {"enabled": True})
    entries = (await who.ask("anna", "GET", f"{at}/history?min_version={toggled['version']}"))[1]["entries"]
    kinds = [entry["type"] for entry in entries]
    assert kinds[:4] == ["SmsActivated", "OtpSchedulingSaved", "ChangeApplied", "ChangeApproved"]
    assert kinds.count("ChangeApplied") == 1
    assert (await _change(who, at, "c-1", toggled["version"]))["status"] == "applied"


async def test_what_is_scheduled_past_the_end_of_the_channel_never_happens(people: tuple[People, str]) -> None:
    who, at = people
    instant = rfc3339(time.time_ns() // 1_000_000 + 3_000)
    assert (await who.ask("anna", "POST", f"{at}/proposed-changes", form("c-1", at=instant)))[0] == 201
    assert (await who.ask("paula", "POST", f"{at}/proposed-changes/c-1/approve", {}))[0] == 200
    channel = at.removeprefix("channels/")
    status, retired = await who.ask("adam", "DELETE", f"{at}?confirm={channel}")
    assert status == 200
    await _reach(instant)
    await asyncio.sleep(1.5)
    found = await _change(who, at, "c-1", retired["version"])
    assert (found["status"], found["reason"]) == ("voided", "The channel was retired.")
    entries = (await who.ask("anna", "GET", f"{at}/history"))[1]["entries"]
    assert [entry["type"] for entry in entries[:2]] == ["ChannelRetired", "ChangeVoided"]
    assert await who.ask("paula", "POST", f"{at}/proposed-changes/c-1/approve", {}) == (410, "ChannelIsRetired")


async def _reach(instant: str) -> None:
    await asyncio.sleep(max(0.0, unix_milliseconds(instant) / 1000 - time.time()) + 0.1)


async def _until_closed(people: People, at: str, change: str) -> None:
    async with asyncio.timeout(_WAIT_S):
        while (await people.ask("anna", "GET", f"{at}/proposed-changes/{change}"))[1]["status"] == "approved":  # noqa: ASYNC110 -- over HTTP
            await asyncio.sleep(0.2)
