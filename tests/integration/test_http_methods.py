"""HEAD, OPTIONS, Allow, and conditional reads: what HTTP promises of a resource."""

from __future__ import annotations

import asyncio

import pytest

from tests.installation import Api, Installation, fresh
from tests.patience import PATIENCE_S

WHATSAPP = {"channel_type": "whatsapp", "name": "Shop", "enterprise_authenticated": True}
CRM = {"name": "CRM", "api_request_url": "https://crm.example/hook"}
ORDER = {"name": "Order", "default_data": {}}


async def registered(api: Api) -> str:
    """The path of a new channel with a business system and an intent."""
    channel = f"channels/{fresh('ch')}"
    assert (await api("PUT", channel, WHATSAPP)).status == 201
    assert (await api("PUT", f"{channel}/business-systems/crm", CRM)).status == 201
    answer = await api("PUT", f"{channel}/business-systems/crm/intents/ORDER", ORDER)
    await api("GET", f"{channel}?min_version={answer.body['version']}")
    return channel


@pytest.mark.parametrize(
    "path",
    [
        *("", "/settings", "/sms", "/otp-scheduling", "/spend-guard", "/business-systems", "/business-systems/crm"),
        *("/business-systems/crm/intents", "/business-systems/crm/intents/ORDER"),
    ],
)
async def test_a_read_is_not_repeated_to_who_has_it(installation: Installation, path: str) -> None:
    async with installation.api(None, **{"Switchboard-Account": fresh("acct")}) as api:
        channel = await registered(api)
        etag = (await api("GET", channel + path)).headers["ETag"]
        for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            answer = await api("GET", channel + path, headers={"If-None-Match": known})
            assert (answer.status, answer.headers["ETag"], answer.body) == (304, etag, None)
        for other in ('"99"', etag.strip('"'), ""):
            assert (await api("GET", channel + path, headers={"If-None-Match": other})).status == 200


async def test_a_change_makes_an_etag_old(installation: Installation) -> None:
    async with installation.api(None, **{"Switchboard-Account": fresh("acct")}) as api:
        channel = await registered(api)
        known = {"If-None-Match": (await api("GET", f"{channel}/sms")).headers["ETag"]}
        version = (await api("PUT", f"{channel}/sms", {"enabled": True})).body["version"]
        answer = await api("GET", f"{channel}/sms?min_version={version}", headers=known)
        assert (answer.status, answer.body) == (200, {"enabled": True})


async def test_head_is_get_without_the_body(installation: Installation) -> None:
    async with installation.api(None, **{"Switchboard-Account": fresh("acct")}) as api:
        channel = await registered(api)
        for path, accept in ((f"{channel}/settings", "*/*"), ("changes", "text/event-stream"), ("usage", "text/csv")):
            async with asyncio.timeout(PATIENCE_S), api.session.head(path, headers={"Accept": accept}) as head:
                assert (head.status, await head.read()) == (200, b""), path
            async with api.session.get(path, headers={"Accept": accept}) as whole:
                assert head.headers["Content-Type"] == whole.headers["Content-Type"]
                assert head.headers.get("ETag") == whole.headers.get("ETag")
        async with api.session.head("channels/none") as head:
            assert head.status == 404
        async with api.session.head(f"{installation.address}/healthz") as head:
            assert head.status == 200
        async with api.session.head(f"{channel}/invocations/none") as head:
            assert head.status == 404


async def test_allow_names_every_method_of_a_path(installation: Installation) -> None:
    async with installation.api(fresh("acct")) as api:
        for path, allow in (
            ("channels/c", "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"),
            ("channels/c/sms", "GET, HEAD, OPTIONS, PUT"),
            ("deliveries/replay", "OPTIONS, POST"),
            ("channels/c/message-decisions", "OPTIONS, POST"),
        ):
            refused = await api("TRACE", path)
            assert (refused.status, refused.headers["Allow"]) == (405, allow)
            assert refused.body["detail"].endswith(f"only {allow}.")
            answer = await api("OPTIONS", path)
            assert (answer.status, answer.headers["Allow"], answer.body) == (204, allow, None)
        assert (await api("OPTIONS", "channel")).status == 404


async def test_a_system_is_disabled_and_enabled(installation: Installation) -> None:
    async with installation.api(None, **{"Switchboard-Account": fresh("acct")}) as api:
        system = f"{await registered(api)}/business-systems/crm"
        for action, disabled in (("disable", True), ("enable", False)):
            answer = await api("POST", f"{system}/{action}", {"reason": "maintenance"})
            assert (answer.status, len(answer.body["events"])) == (200, 1)
            shown = await api("GET", f"{system}?min_version={answer.body['version']}")
            assert shown.body["disabled"] is disabled
            assert (await api("POST", f"{system}/{action}")).body["events"] == []
        assert (await api("POST", f"{system}x/disable")).body["rejection"] == "BusinessSystemUnknown"


async def test_a_template_refers_to_an_intent_and_releases_it(installation: Installation) -> None:
    async with installation.api(None, **{"Switchboard-Account": fresh("acct")}) as api:
        intent = f"{await registered(api)}/business-systems/crm/intents/ORDER"
        answer = await api("PUT", f"{intent}/references/order-update")
        shown = await api("GET", f"{intent}?min_version={answer.body['version']}")
        assert shown.body["templates"] == ["order-update"]
        assert (await api("PUT", f"{intent}/references/order-update")).body["rejection"] == "TemplateRefersAlready"
        assert (await api("DELETE", intent)).body["rejection"] == "IntentInUse"
        answer = await api("DELETE", f"{intent}/references/order-update")
        shown = await api("GET", f"{intent}?min_version={answer.body['version']}")
        assert shown.body["templates"] == []
        assert (await api("DELETE", f"{intent}/references/order-update")).body["rejection"] == "TemplateDoesNotRefer"


async def test_a_refresh_says_which_signature_it_issued(installation: Installation) -> None:
    async with installation.api(None, **{"Switchboard-Account": fresh("acct")}) as api:
        system = f"{await registered(api)}/business-systems/crm"
        issued = (await api("POST", f"{system}/signature")).body
        shown = await api("GET", f"{system}?min_version={issued['version']}")
        assert issued["key_id"] == shown.body["signatures"][0]["key_id"]
        revealed = (await api("GET", f"{system}/signature?key_id={issued['key_id']}")).body
        assert (revealed["key_id"], revealed["signature"]) == (issued["key_id"], issued["signature"])


async def test_a_number_is_no_time_and_an_unknown_parameter_is_refused(installation: Installation) -> None:
    async with installation.api(fresh("acct")) as api:
        for path in ("history?since=1700000000", "deliveries?until=2026-11-22", "history?since=2026-11-22T08:00:00"):
            refused = await api("GET", path)
            assert (refused.status, refused.body["type"]) == (400, "urn:switchboard:problem:ParameterInvalid")
            assert "RFC 3339 time with an offset" in refused.body["detail"]
        refused = await api("PUT", "channels/c/sms?dryrun=true", {"enabled": True})
        assert (refused.status, refused.body["type"]) == (400, "urn:switchboard:problem:ParameterUnknown")
        assert refused.body["detail"] == "There is no parameter 'dryrun'; this route takes dry_run."
