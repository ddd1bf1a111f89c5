"""The settings at random moments against a second fold of the log, and what is answered at the edges."""

from __future__ import annotations

import copy
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonpatch
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts import topics
from contracts.business_system import (
    OpenBusinessSystem,
)
from contracts.message import rfc3339, unix_milliseconds
from services.audit.log.copied_log import CopiedRecord
from services.audit.log.errors import AuditError
from services.audit.timeline.audit_log import AuditFilter, ranges_to_read, read_audit_log
from services.audit.timeline.diff import diff_report
from services.audit.timeline.settings_at import channel_at, channels_at, parse_moment
from tests.audit import START, MadeUpLog, copy_of
from tests.unit.audit.histories import CHANNELS, REGISTER, history, steps


def folded(log: MadeUpLog, channel: str, versions: int, clock: int | None) -> dict[str, Any] | None:  # noqa: C901
    """The settings after so many events, folded from their JSON alone, in the simplest way there is."""
    found: dict[str, Any] = {}
    systems: dict[str, Any] = {}
    values = [json.loads(one.value or b"") for one in log.records if one.key == channel.encode()][:versions]
    for event in values:
        data, kind = event["data"], event["type"]
        system = systems.get(data.get("system"), {})
        intent = system.get("intents", {}).get(data.get("code"), {})
        match kind:
            case "ChannelRegistered":
                found = {"name": data["name"], "provider": data.get("provider"), "retired": False}
                found |= {"home_country": None, "international_rates_from": None}
                guard = {"mode": "off", "max_rate": None, "daily_messages_per_country": None}
                sms, form = False, {"enabled": False, "countries": [], "use_own_numbers": False}
            case "ChannelEdited":
                found |= data
            case "ChannelRetired":
                found["retired"] = True
                for each in systems.values():
                    each["signatures"] = []
            case "SmsActivated" | "SmsDeactivated":
                sms = kind == "SmsActivated"
            case "OtpSchedulingSaved":
                form = {key: data[key] for key in form}
            case "SpendGuardSaved":
                guard = data
            case "BusinessSystemOpened":
                fields = {key: data[key] for key in ("name", "api_request_url")}
                systems[data["system"]] = fields | {
                    "remarks": data.get("remarks", ""),
                    "signature_style": data.get("signature_style", "standard-webhooks"),
                    "disabled": False,
                    "signatures": [data["signature"] | {"valid_until": None}] if data.get("signature") else [],
                    "intents": {},
                }
            case "BusinessSystemEdited":
                system |= {key: value for key, value in data.items() if key != "system"}
            case "BusinessSystemDeleted":
                del systems[data["system"]]
            case "BusinessSystemDisabled" | "BusinessSystemEnabled":
                system["disabled"] = kind == "BusinessSystemDisabled"
            case "SignatureRefreshed" if data.get("api_request_url") is not None:
                pass  # drawn before the system is open
            case "SignatureRevealed":
                pass
            case "SignatureRevoked" if not system:
                pass  # one drawn before the system was open
            case "SignatureRevoked":
                system["signatures"] = [one for one in system["signatures"] if one["key_id"] != data["key_id"]]
            case "SignatureRefreshed":
                for old in system["signatures"]:
                    for gone in data.get("replaced", ()):
                        if old["key_id"] == gone["key_id"]:
                            old["valid_until"] = gone["valid_until"]
                fresh = {"key_id": data["key_id"], "fingerprint": data["fingerprint"], "issued_at": event["time"]}
                system["signatures"] = [fresh | {"valid_until": None}, *system["signatures"]]
            case "IntentAdded":
                keys = ("name", "default_data")
                system["intents"][data["code"]] = {key: data[key] for key in keys} | {"schema": None, "templates": []}
            case "IntentEdited":
                intent |= {key: value for key, value in data.items() if key not in ("system", "code")}
            case "IntentDeleted":
                del system["intents"][data["code"]]
            case "IntentReferredTo":
                intent["templates"] = [*intent["templates"], data["template"]]
            case "IntentReleased":
                intent["templates"] = [one for one in intent["templates"] if one != data["template"]]
            case _:
                raise AssertionError(kind)
    if not values:
        return None
    now = rfc3339(clock) if clock is not None else values[-1]["time"]
    return {
        "channel": channel,
        "account": "acme",
        "channel_type": "whatsapp",
        **found,
        "version": len(values),
        "business_systems": [
            {"system": name}
            | system
            | {
                "signatures": [
                    one for one in system["signatures"] if one["valid_until"] is None or one["valid_until"] > now
                ],
                "intents": [{"code": code} | one for code, one in sorted(system["intents"].items())],
            }
            for name, system in sorted(copy.deepcopy(systems).items())
        ],
        "sms": {"enabled": sms},
        "otp_scheduling": form,
        "spend_guard": guard,
        "approvals": {"required_for": []},
    }


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(taken=steps, data=st.data())
async def test_as_of_and_diff_at_random_cuts(tmp_path: Path, taken: list[Any], data: st.DataObject) -> None:
    made = history(taken, retired=data.draw(st.booleans()))
    log = copy_of(tmp_path / "log.jsonl", made.records)
    channel = data.draw(st.sampled_from(CHANNELS))
    times = made.times[channel]
    versions = data.draw(st.lists(st.integers(1, len(times)), min_size=1, max_size=3))
    cuts = data.draw(st.lists(st.integers(START - 5, made.now + 5), min_size=1, max_size=3))
    asked = [parse_moment(str(version)) for version in versions] + [parse_moment(rfc3339(cut)) for cut in cuts]
    answers = await channel_at(log, channel, asked, made.now)
    found = [answer.as_json()["settings"] for answer in answers]
    expected = [folded(made, channel, version, None) for version in versions]
    expected += [folded(made, channel, sum(time <= cut for time in times), cut) for cut in cuts]
    assert found == expected

    for answer, cut in zip(answers[len(versions) :], cuts, strict=True):
        assert ("did not exist yet" in " ".join(answer.notes)) == (cut < times[0])
        assert ("lies in the future" in " ".join(answer.notes)) == (cut > made.now)
    for before, after in pairwise(answers):
        report = diff_report(before, after)
        first, second = (answer.as_json()["settings"] for answer in (before, after))
        assert jsonpatch.apply_patch(first, report["patch"]) == second
        assert jsonpatch.apply_patch(second, diff_report(after, before)["patch"]) == first
        unversioned = [None if one is None else one | {"version": 0} for one in (first, second)]
        assert bool(report["words"]) == (unversioned[0] != unversioned[1])


async def test_answers_at_the_edges(tmp_path: Path) -> None:
    made = MadeUpLog()
    made.send("ch-1", REGISTER)
    made.now += 1000
    made.send("ch-1", OpenBusinessSystem(system="crm", name="CRM", api_request_url="https://crm.example"))
    log = copy_of(tmp_path / "log.jsonl", made.records)

    async def at(text: str) -> Any:
        return (await channel_at(log, "ch-1", [parse_moment(text)], made.now))[0]

    early = await at("2001-01-01")
    assert early.settings is None
    assert early.notes == (
        f"Channel 'ch-1' did not exist yet: its first event is of {rfc3339(START)}, at switchboard.events/0/0.",
    )
    between = await at("2")
    assert between.settings is not None
    assert "between two events of one command (command-2)" in between.notes[0]
    assert (await at("3")).notes == ()
    assert "lies in the future" in (await at("2999-12-31T23:59:59Z")).notes[0]
    with pytest.raises(AuditError, match="is at version 3; version 4 is yet to come"):
        await at("4")
    with pytest.raises(AuditError, match="holds no event of channel 'ch-9'"):
        await channel_at(log, "ch-9", [parse_moment("1")], made.now)
    with pytest.raises(AuditError, match="neither a version"):
        parse_moment("yesterday")
    with pytest.raises(AuditError, match="A version belongs to one channel"):
        await channels_at(log, [parse_moment("1")], made.now, account="acme")
    assert [len(answers) for answers in await channels_at(log, [parse_moment("now")], made.now, account="acme")] == [1]
    assert await channels_at(log, [parse_moment("now")], made.now, account="other") == []


def test_a_moment_is_cut_to_the_millisecond_and_never_rounded() -> None:
    """Rounded up, ``at`` would show a later event; an ``until`` that is cut would hide an earlier one."""
    moment = parse_moment("2026-11-22T08:00:10.2026Z")
    assert moment.time == unix_milliseconds("2026-11-22T08:00:10.202Z")
    assert moment.excluded_end == unix_milliseconds("2026-11-22T08:00:10.203Z")
    whole = parse_moment("2026-11-22T08:00:10.203Z")
    assert whole.time == whole.excluded_end == unix_milliseconds("2026-11-22T09:00:10.2039+01:00")


async def test_a_rejection_has_the_data_that_the_history_has(tmp_path: Path) -> None:
    value = {
        "specversion": "1.0", "id": "o-1", "type": "CommandRejected", "source": "switchboard", "subject": "ch-1",
        "time": "2026-11-22T08:00:00.000Z", "accountid": "acme", "causationid": "c-1", "correlationid": "c-1",
        "data": {"rejection": "BusinessSystemUnknown", "message": "No.", "version": 1, "system": "crm"},
    }  # fmt: skip
    text = json.dumps(value, separators=(",", ":")).encode()
    log = copy_of(tmp_path / "log.jsonl", [CopiedRecord(topics.OUTCOMES.name, 0, 0, 0, b"ch-1", text, ())])
    ranges = await ranges_to_read(log, AuditFilter())
    (entry,) = [entry async for entry in read_audit_log(log, AuditFilter(), ranges)]
    assert (entry.rejection, entry.data) == ("BusinessSystemUnknown", {"system": "crm"})
