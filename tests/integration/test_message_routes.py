"""Messages over HTTP, on a running Switchboard: decided, listed, shown with their timeline, reported, charged."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from services.gateway.routes import messages, what_if
from tests.gateways import gateway
from tests.installation import Api, Installation, fresh, run_apart
from tests.messages import SENDER, SINGAPOREAN, report_resource, scheduled_channel, until_resource, until_shown

OTP = {"recipient": SINGAPOREAN, "category": "authentication"}


@pytest.fixture(scope="module")
def account() -> str:
    return fresh("acct")


@pytest.fixture(scope="module")
def channel(installation: Installation, account: str) -> str:
    """A channel with OTP scheduling for Singapore, Use Own Numbers off, and SMS on."""

    async def make() -> str:
        name, version = await scheduled_channel(installation, account)
        async with installation.api(account) as api:
            assert (await api("GET", f"channels/{name}/settings?min_version={version}")).status == 200
        return name

    return run_apart(make())


@pytest.fixture
async def api(installation: Installation, account: str) -> AsyncIterator[Api]:
    async with installation.api(account) as api:
        yield api


@pytest.fixture
async def platform(installation: Installation) -> AsyncIterator[Api]:
    async with installation.api(None) as api:
        yield api


@pytest.fixture(autouse=True)
def withdrawn(installation: Installation) -> Iterator[None]:
    """No resource is left behind for the next test."""
    yield

    async def withdraw() -> None:
        async with installation.api(None) as platform:
            assert (await platform("DELETE", "scheduling-resources/pool-sg")).status == 202
            await until_resource(platform, "pool-sg", lambda one: one is None or one["state"] == "withdrawn")

    run_apart(withdraw())


async def test_a_dry_run_says_what_the_decision_then_is_and_reserves_nothing(
    api: Api, platform: Api, channel: str
) -> None:
    await report_resource(platform, 1)
    at = f"channels/{channel}/message-decisions"
    key = {"Idempotency-Key": fresh("m")}

    dry = [await api("POST", f"{at}?dry_run=true", OTP, headers=key) for _ in range(3)]
    assert (await api("GET", f"channels/{channel}/messages/{key['Idempotency-Key']}")).status == 404
    real = await api("POST", at, OTP, headers=key)
    changing = {"decided_at", "reserved_until"}
    said = [{name: value for name, value in one.body.items() if name not in changing} for one in (*dry, real)]

    assert [one.status for one in (*dry, real)] == [200] * 4
    assert said[0] == said[1] == said[2] == said[3]
    assert (real.body["route"], real.body["rule"], real.body["sender"]) == ("scheduled", "ResourceAvailable", SENDER)
    assert (real.body["message"], real.body["country"]) == (key["Idempotency-Key"], "SG")
    assert not {"recipient_hash", "pool"} & real.body.keys()
    assert (await api("POST", at, OTP)).body["rule"] == "ResourcesExhausted"


async def test_what_other_settings_would_have_made_of_the_messages(
    installation: Installation, platform: Api, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel, version = await scheduled_channel(installation, account)
    await report_resource(platform, 1)
    async with gateway(installation, account) as (api, _):
        rules = [(await api("POST", f"channels/{channel}/message-decisions", OTP)).body["rule"] for _ in range(3)]
        assert rules == ["ResourceAvailable", "ResourcesExhausted", "ResourcesExhausted"]
        proposed = {"otp_scheduling": {"enabled": True, "countries": ["SG"], "use_own_numbers": True}}
        at = f"channels/{channel}/what-if?min_version={version}"
        [singapore] = (await api("POST", at, proposed)).body["countries"]
        changes = [{"from": "failed", "to": "own_number", "messages": 2}]
        assert (singapore["country"], singapore["messages"], singapore["changes"]) == ("SG", 3, changes)
        [same] = (await api("POST", f"channels/{channel}/what-if", {})).body["countries"]
        assert same["changes"] == []
        none = await api("POST", f"channels/{channel}/what-if?from=2026-01-01&to=2026-01-02", proposed)
        assert none.body == {"countries": []}
        for query, body, status, name in (
            ("from=2026-01-01", proposed, 400, "ParameterInvalid"),
            ("", {"otp_scheduling": {"enabled": "maybe"}}, 422, "InvalidRequest"),
            ("", {"sms": {}}, 422, "InvalidRequest"),
        ):
            refused = await api("POST", f"channels/{channel}/what-if?{query}", body)
            assert (refused.status, refused.body["type"].rsplit(":", 1)[1]) == (status, name), refused.body
        monkeypatch.setattr(what_if, "MAX_MESSAGES", 2)
        assert (await api("POST", f"channels/{channel}/what-if", proposed)).status == 409


async def test_the_same_message_again_gets_its_decision_and_another_with_its_id_is_refused(
    api: Api, platform: Api, channel: str
) -> None:
    await report_resource(platform, 2)
    at, key = f"channels/{channel}/message-decisions", {"Idempotency-Key": fresh("m")}

    both = await asyncio.gather(*(api("POST", at, OTP, headers=key) for _ in range(2)))
    again = await api("POST", at, OTP, headers=key)
    other = await api("POST", at, OTP | {"category": "marketing"}, headers=key)

    assert both[0].body == both[1].body == again.body
    assert (other.status, other.body["type"]) == (409, "urn:switchboard:problem:MessageIdReused")
    [pool] = [one for one in (await platform("GET", "scheduling-resources")).body["resources"] if one["units"] == 2]
    assert pool["available"] == 1


async def test_the_whole_timeline_of_a_message(api: Api, platform: Api, channel: str) -> None:
    await report_resource(platform, 1)
    at, message = f"channels/{channel}", fresh("m")
    fallback = {"to": SINGAPOREAN, "wait_seconds": 600, "on": ["undelivered"]}
    await api("POST", f"{at}/message-decisions", OTP | {"sms_fallback": fallback}, headers={"Idempotency-Key": message})
    moment = datetime.now(UTC).isoformat(timespec="milliseconds")
    for status in ("sent", "sent", "delivered"):
        reported = await api(
            "POST", f"{at}/messages/{message}/statuses", {"status": status, "via": "chat", "at": moment}
        )
        assert (reported.status, reported.body["message"]) == (202, message)
    shown = await until_shown(api, channel, message, lambda one: one["sms_fallback"]["state"] == "withheld")

    assert shown["decision"]["route"] == "scheduled"
    assert (shown["reservation"]["state"], shown["reservation"]["resource"]) == ("posted", "pool-sg")
    assert (shown["charge"]["country"], shown["charge"]["fee_class"]) == ("SG", "scheduled")
    assert [(one["type"], one.get("status") or one.get("ended") or one.get("reason")) for one in shown["timeline"]] == [
        ("RouteMessage", None),
        ("MessageRouted", None),
        ("ReportStatus", "sent"),
        ("ReservationSettled", "posted"),
        ("MessageCharged", None),
        ("ReportStatus", "delivered"),
        ("SmsFallbackWithheld", "Delivered"),
    ]
    assert shown["timeline"][1]["sentence"] == shown["decision"]["sentence"]
    assert SINGAPOREAN not in str(shown)


async def test_lists_have_pages_and_filters(api: Api, channel: str) -> None:
    at = f"channels/{channel}"
    for category in ("marketing", "authentication", "utility", "marketing"):
        await api("POST", f"{at}/message-decisions", OTP | {"category": category})
    whole = (await api("GET", f"{at}/messages?limit=1000")).body
    pages, before = [], ""
    while before is not None:
        page = (await api("GET", f"{at}/messages?limit=3{before and f'&before={before}'}")).body
        pages += page["messages"]
        before = page["next"]

    assert pages == whole["messages"]
    assert whole["next"] is None
    assert [one["requested_at"] for one in pages] == sorted((one["requested_at"] for one in pages), reverse=True)
    marketing = (await api("GET", f"{at}/messages?category=marketing&route=not_applicable")).body["messages"]
    assert len(marketing) == 2
    assert {one["rule"] for one in marketing} == {"CategoryNotAuthentication"}
    assert (await api("GET", f"{at}/messages?country=IN")).body["messages"] == []
    assert (await api("GET", f"{at}/messages?route=scheduled&until=2020-01-01T00:00:00Z")).body["messages"] == []
    assert SINGAPOREAN not in str(whole)
    assert (await api("GET", f"{at}/messages?before=yesterday")).status == 400


async def test_another_accounts_channel_looks_like_an_unknown_one(
    installation: Installation, api: Api, channel: str
) -> None:
    message = fresh("m")
    await api("POST", f"channels/{channel}/message-decisions", OTP, headers={"Idempotency-Key": message})
    status = {"status": "sent", "via": "chat", "at": "2026-11-26T08:00:00Z"}
    unknown = fresh("ch")
    async with installation.api(fresh("other")) as other:
        for method, path, body in (
            ("GET", "messages", None),
            ("GET", f"messages/{message}", None),
            ("POST", f"messages/{message}/statuses", status),
            ("POST", "message-decisions", OTP),
            ("POST", "message-decisions?dry_run=true", OTP),
        ):
            foreign = await other(method, f"channels/{channel}/{path}", body)
            missing = await other(method, f"channels/{unknown}/{path}", body)
            assert (foreign.status, foreign.body["type"]) == (404, "urn:switchboard:problem:ChannelUnknown"), path
            variable = {"message", "command_id"}
            same = [
                {name: str(value).replace(name_of, "") for name, value in one.body.items() if name not in variable}
                for one, name_of in ((foreign, channel), (missing, unknown))
            ]
            assert same[0] == same[1]
        assert (await other("GET", "usage")).body == {"usage": []}
    assert (await api("GET", f"channels/{channel}/messages/{fresh('m')}")).body["title"] == "Message unknown"


async def test_usage_as_json_and_as_csv(api: Api, platform: Api, channel: str, account: str) -> None:
    await report_resource(platform, 1)
    message = fresh("m")
    await api("POST", f"channels/{channel}/message-decisions", OTP, headers={"Idempotency-Key": message})
    before = (await api("GET", "usage")).body["usage"]
    status = {"status": "read", "via": "chat", "at": datetime.now(UTC).isoformat()}
    await api("POST", f"channels/{channel}/messages/{message}/statuses", status)
    await until_shown(api, channel, message, lambda one: one["charge"] is not None)

    rows = (await api("GET", "usage")).body["usage"]
    assert sum(row["messages"] for row in rows) == sum(row["messages"] for row in before) + 1
    assert {(row["account"], row["channel"], row["country"], row["fee_class"]) for row in rows} == {
        (account, channel, "SG", "scheduled")
    }
    headers = {"Accept": "text/csv"}
    async with api.session.get("usage", headers=headers) as response:
        assert response.content_type == "text/csv"
        read = list(csv.DictReader(io.StringIO(await response.text())))
    assert [{**row, "messages": int(row["messages"])} for row in read] == [
        {name: "" if value is None else value for name, value in row.items()} for row in rows
    ]
    assert (await api("GET", "usage?from=2026-01-01&to=2026-01-02")).body == {"usage": []}
    assert (await api("GET", "usage?from=2026-01-02&to=2026-01-01")).status == 400
    assert (await api("GET", "usage", headers={"Accept": "image/png"})).status == 406
    everybody = (await platform("GET", "usage")).body["usage"]
    assert [row for row in everybody if row["account"] == account] == rows


async def test_only_the_platform_reports_resources_and_an_account_sees_no_numbers(api: Api, platform: Api) -> None:
    await report_resource(platform, 7)
    report = {"resource": "mine", "country": "SG", "sender": SENDER, "units": 9, "as_of": "2026-11-26T08:00:00Z"}

    assert (await api("POST", "scheduling-resources", report | {"valid_seconds": 60})).status == 403
    assert (await api("DELETE", "scheduling-resources/pool-sg")).status == 403
    assert (await platform("POST", "scheduling-resources", report)).status == 422
    old: dict[str, Any] = {"resource": fresh("pool"), "as_of": "0001-01-01T00:00:00Z", "valid_seconds": 60}
    unwritable = await platform("POST", "scheduling-resources", report | old | {"as_of": "0001-01-01T00:00:00+14:00"})
    assert (unwritable.status, "'as_of' is wrong: it must be within the years" in unwritable.body["detail"]) == (
        422,
        True,
    )
    assert (await platform("POST", "scheduling-resources", report | old)).status == 202
    await until_resource(platform, old["resource"], lambda one: one is not None and one["state"] == "stale")
    seen = (await api("GET", "scheduling-resources")).body
    assert {"country": "SG", "state": "available"} in seen["countries"]
    assert SENDER not in str(seen)


async def test_a_decision_that_does_not_arrive_in_time(
    installation: Installation, account: str, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "DECISION_TIMEOUT_S", 0)
    key = {"Idempotency-Key": fresh("m")}
    async with gateway(installation, account) as (api, _):
        late = await api("POST", f"channels/{channel}/message-decisions", OTP, headers=key)
        monkeypatch.undo()
        again = await api("POST", f"channels/{channel}/message-decisions", OTP, headers=key)

    assert (late.status, late.body["command_id"]) == (504, key["Idempotency-Key"])
    assert (again.status, again.body["message"]) == (200, key["Idempotency-Key"])


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"category": "authentication"}, "'recipient' is missing"),
        (OTP | {"recipient": "6591234567"}, "'recipient' is wrong: it must be an E.164 number"),
        (OTP | {"settings_version": 0}, "'settings_version' is wrong"),
        (OTP | {"text": "hello"}, "'text' is not a known field"),
    ],
    ids=["missing", "number", "version", "field"],
)
async def test_a_bad_request_is_refused_with_its_field(
    api: Api, channel: str, body: dict[str, object], says: str
) -> None:
    answer = await api("POST", f"channels/{channel}/message-decisions", body)
    assert (answer.status, answer.body["title"]) == (422, "Invalid command")
    assert says in answer.body["detail"]


async def test_a_version_that_never_comes(api: Api, channel: str) -> None:
    answer = await api("POST", f"channels/{channel}/message-decisions", OTP | {"settings_version": 99})
    assert (answer.status, answer.body["reason"]) == (409, "SettingsNotKnown")
