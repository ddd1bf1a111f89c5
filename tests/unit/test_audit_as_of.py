"""Settings in time: as of random cuts of random histories, against a fold that knows nothing of the audit's."""

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

from contracts.business_system import (
    DeleteBusinessSystem,
    DisableBusinessSystem,
    EditBusinessSystem,
    EnableBusinessSystem,
    OpenBusinessSystem,
)
from contracts.channel import EditChannel, RegisterChannel, RetireChannel
from contracts.intent import AddIntent, DeleteIntent, EditIntent, ReferToIntent, ReleaseIntent
from contracts.message import CommandData, rfc3339
from contracts.otp_scheduling import SaveOtpScheduling
from contracts.sealing import SealKey
from contracts.signature import RefreshSignature, RevealSignature, RevokeSignature
from contracts.sms import ToggleSms
from services.audit.as_of import channel_at, channels_at, moment
from services.audit.carrying_out import expected_version
from services.audit.difference import difference
from services.audit.leaves import MISSING, changes, leaves_of, same
from services.audit.log import AuditError
from services.audit.plan import Leave, plan, rehearse
from services.audit.settings_file import exported, parse, wanted, with_version
from services.audit.undo import command_at, undo
from tests.audit import START, MadeUpLog, copy_of

CHANNELS = ("ch-1", "ch-8")
REGISTER = RegisterChannel(channel_type="whatsapp", name="Shop", enterprise_authenticated=True)
LEAVE = Leave(force=True, international_rates_acknowledged=True)

systems = st.sampled_from(["crm", "erp"])
codes = st.sampled_from(["A", "B"])
names = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=8)
documents = st.dictionaries(
    st.text(max_size=3), st.none() | st.booleans() | st.integers() | st.text(max_size=3), max_size=2
)
commands: st.SearchStrategy[CommandData] = st.one_of(
    st.builds(ToggleSms, enabled=st.booleans()),
    st.builds(EditChannel, name=names, provider=st.none() | st.just("prov")),
    st.builds(OpenBusinessSystem, system=systems, name=names, api_request_url=st.just("https://a.example/x")),
    st.builds(EditBusinessSystem, system=systems, name=names, remarks=names),
    st.builds(
        EditBusinessSystem, system=systems, signature_style=st.sampled_from(["plain-token", "standard-webhooks"])
    ),
    st.builds(DeleteBusinessSystem, system=systems, force=st.booleans()),
    st.builds(DisableBusinessSystem, system=systems),
    st.builds(EnableBusinessSystem, system=systems),
    st.builds(RefreshSignature, system=systems, grace_seconds=st.sampled_from([0, 3]), force=st.booleans()),
    st.builds(RefreshSignature, system=systems, api_request_url=st.just("https://a.example/y")),
    st.builds(RevokeSignature, system=systems, key_id=st.sampled_from(["key-1", "key-2", "key-3"])),
    st.builds(RevealSignature, system=systems, seal_to=st.just(SealKey(bytes(32)).seal_to)),
    st.builds(AddIntent, system=systems, code=codes, name=names, default_data=documents),
    st.builds(EditIntent, system=systems, code=codes, name=names, default_data=documents),
    st.builds(DeleteIntent, system=systems, code=codes, force=st.booleans()),
    st.builds(ReferToIntent, system=systems, code=codes, template=st.just("t")),
    st.builds(ReleaseIntent, system=systems, code=codes, template=st.just("t")),
    st.builds(
        SaveOtpScheduling,
        enabled=st.booleans(),
        countries=st.lists(st.sampled_from(["NO", "ID", "IN"]), max_size=3),
        use_own_numbers=st.booleans(),
        international_rates_acknowledged=st.sampled_from([True]),
    ),
)
steps = st.lists(st.tuples(st.sampled_from(CHANNELS), commands, st.integers(0, 2_000)), max_size=25)


def history(taken: list[tuple[str, CommandData, int]], *, retired: bool = False) -> MadeUpLog:
    log = MadeUpLog()
    for channel in CHANNELS:
        log.send(channel, REGISTER)
        log.now += 10
    for channel, command, wait in taken:
        log.send(channel, command)
        log.now += wait
    if retired:
        log.send(CHANNELS[0], RetireChannel())
        log.now += 10
    return log


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
                sms, form = False, {"enabled": False, "countries": [], "use_own_numbers": False}
            case "ChannelEdited":
                found |= data
            case "ChannelRetired":
                found["retired"] = True
                systems.clear()
            case "SmsActivated" | "SmsDeactivated":
                sms = kind == "SmsActivated"
            case "OtpSchedulingSaved":
                form = {key: data[key] for key in form}
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
    }


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(taken=steps, data=st.data())
async def test_as_of_and_diff_at_random_cuts(tmp_path: Path, taken: list[Any], data: st.DataObject) -> None:
    made = history(taken, retired=data.draw(st.booleans()))
    log = copy_of(tmp_path / "log.jsonl", made.records)
    channel = data.draw(st.sampled_from(CHANNELS))
    times = made.times[channel]
    versions = data.draw(st.lists(st.integers(1, len(times)), min_size=1, max_size=3))
    cuts = data.draw(st.lists(st.integers(START - 5, made.now + 5), min_size=1, max_size=3))
    asked = [moment(str(version)) for version in versions] + [moment(rfc3339(cut)) for cut in cuts]
    thens = await channel_at(log, channel, asked, made.now)
    found = [then.answer()["settings"] for then in thens]
    expected = [folded(made, channel, version, None) for version in versions]
    expected += [folded(made, channel, sum(time <= cut for time in times), cut) for cut in cuts]
    assert found == expected

    for then, cut in zip(thens[len(versions) :], cuts, strict=True):
        assert ("did not exist yet" in " ".join(then.notes)) == (cut < times[0])
        assert ("lies in the future" in " ".join(then.notes)) == (cut > made.now)
    for before, after in pairwise(thens):
        answer = difference(before, after)
        first, second = (then.answer()["settings"] for then in (before, after))
        assert jsonpatch.apply_patch(first, answer["patch"]) == second
        assert jsonpatch.apply_patch(second, difference(after, before)["patch"]) == first
        unversioned = [None if one is None else one | {"version": 0} for one in (first, second)]
        assert bool(answer["words"]) == (unversioned[0] != unversioned[1])


async def test_answers_at_the_edges(tmp_path: Path) -> None:
    made = MadeUpLog()
    made.send("ch-1", REGISTER)
    made.now += 1000
    made.send("ch-1", OpenBusinessSystem(system="crm", name="CRM", api_request_url="https://crm.example"))
    log = copy_of(tmp_path / "log.jsonl", made.records)

    async def at(text: str) -> Any:
        return (await channel_at(log, "ch-1", [moment(text)], made.now))[0]

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
        await channel_at(log, "ch-9", [moment("1")], made.now)
    with pytest.raises(AuditError, match="neither a version"):
        moment("yesterday")
    with pytest.raises(AuditError, match="A version belongs to one channel"):
        await channels_at(log, [moment("1")], made.now, account="acme")
    assert [len(thens) for thens in await channels_at(log, [moment("now")], made.now, account="acme")] == [1]
    assert await channels_at(log, [moment("now")], made.now, account="other") == []


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(taken=steps, data=st.data())
async def test_undo_restores_what_was(tmp_path: Path, taken: list[Any], data: st.DataObject) -> None:
    """Whatever the command, its commands lead back, by the rules; but for signatures, and versions."""
    made = history(taken)
    log = copy_of(tmp_path / "log.jsonl", made.records)
    channel = data.draw(st.sampled_from(CHANNELS))
    version = data.draw(st.integers(2, max(2, len(made.times[channel]))))
    if version > len(made.times[channel]):
        with pytest.raises(AuditError, match="there is no version 2"):
            await command_at(log, channel, version)
        return
    undone = await command_at(log, channel, version)
    undoing = undo(undone, LEAVE, made.now, since=True)
    rehearsal = rehearse(channel, undone.current, undoing.commands, made.now)
    if rehearsal.refused is not None:  # names that swap between systems need a third one
        assert type(rehearsal.refused[1]).__name__ == "BusinessSystemNameTaken"
        return
    reached, was = leaves_of(rehearsal.state, made.now), leaves_of(undone.before, made.now)
    assert _settable(reached) == _settable(was)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(taken=steps, data=st.data())
async def test_undo_of_one_command_leaves_the_others(tmp_path: Path, taken: list[Any], data: st.DataObject) -> None:
    """What the command changed is as before it, what others changed stays; or it is refused, and says why."""
    made = history(taken)
    log = copy_of(tmp_path / "log.jsonl", made.records)
    channel = data.draw(st.sampled_from(CHANNELS))
    undone = await command_at(log, channel, data.draw(st.integers(1, len(made.times[channel]))))
    before, after, current = (
        _settable(leaves_of(state, made.now)) for state in (undone.before, undone.after, undone.current)
    )
    try:
        undoing = undo(undone, LEAVE, made.now, since=False)
    except AuditError as error:
        sentence = str(error)
        if "registration" not in sentence:
            assert "changed since" in sentence
            assert undone.events[-1].envelope.sequence < len(made.times[channel])
        return
    rehearsal = rehearse(channel, undone.current, undoing.commands, made.now)
    if rehearsal.refused is not None:
        assert type(rehearsal.refused[1]).__name__ == "BusinessSystemNameTaken"
        return
    reached = _settable(leaves_of(rehearsal.state, made.now))
    own = changes(before, after)
    for path in reached.keys() | current.keys() | before.keys():
        expected = before if path in own else current
        assert same(reached.get(path, MISSING), expected.get(path, MISSING)), path


@pytest.mark.parametrize(
    ("command", "sentences"),
    [
        (
            OpenBusinessSystem(system="erp", name="ERP", api_request_url="https://erp.example"),
            ["This deletes the secret of key-2 of business system 'erp' for good."],
        ),
        (
            DeleteBusinessSystem(system="crm"),
            [
                "The secret of key-1 of business system 'crm' is deleted and never comes back.",
                "A new signature of business system 'crm' is drawn; its receiver must be given it.",
            ],
        ),
        (
            EditBusinessSystem(system="crm", signature_style="plain-token"),
            [
                "The secret of key-1 of business system 'crm' is deleted and never comes back.",
                "This deletes the secret of key-2 of business system 'crm' for good.",
                "A new signature of business system 'crm' is drawn; its receiver must be given it.",
            ],
        ),
        (
            RefreshSignature(system="crm"),
            [
                "Signature key-2 of business system 'crm' is drawn, and stays until the next refresh.",
                "Signature key-1 of business system 'crm' does not become the current one again.",
            ],
        ),
        (
            RefreshSignature(system="crm", grace_seconds=0),
            [
                "The secret of key-1 of business system 'crm' is deleted and never comes back.",
                "Signature key-2 of business system 'crm' is drawn, and stays until the next refresh.",
            ],
        ),
        (
            RefreshSignature(system="new", api_request_url="https://new.example"),
            ["Signature key-2, drawn before business system 'new' is opened, stays for its opening."],
        ),
        (
            RevokeSignature(system="old", key_id="key-2"),
            ["The secret of key-2 of business system 'old' is deleted and never comes back."],
        ),
        (ToggleSms(enabled=True), []),
    ],
)
@pytest.mark.parametrize("since", [False, True])
async def test_what_an_undo_says_of_signatures(
    tmp_path: Path, command: CommandData, sentences: list[str], *, since: bool
) -> None:
    made = MadeUpLog()
    made.send("ch-1", REGISTER)
    made.send("ch-1", OpenBusinessSystem(system="crm", name="CRM", api_request_url="https://crm.example"))
    version = 4
    if isinstance(command, RevokeSignature):
        made.send("ch-1", RefreshSignature(system="old", api_request_url="https://old.example"))
        version = 5
    made.now += 1_000
    assert made.send("ch-1", command)
    made.now += 1_000
    undone = await command_at(copy_of(tmp_path / "log.jsonl", made.records), "ch-1", version)
    undoing = undo(undone, LEAVE, made.now, since=since)
    assert (undoing.stays, undoing.refused) == (sentences, None)


def test_the_version_to_expect() -> None:
    made = [("business-systems/crm", 8), ("sms", 9)]
    assert expected_version(7, "business-systems/crm/intents/A", made) == 8
    assert expected_version(7, "business-systems/crm", [("business-systems/crm/intents/A", 8)]) == 8
    assert expected_version(7, "business-systems/crm-2", made) == 7
    assert expected_version(7, "otp-scheduling", made) == 7
    assert expected_version(7, "sms", made) == 9


def _settable(leaves: dict[Any, Any]) -> dict[Any, Any]:
    return {path: value for path, value in leaves.items() if path[-1] != "signatures"}


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(taken=steps)
async def test_an_exported_file_applied(tmp_path: Path, taken: list[Any]) -> None:
    """To its own channel it is nothing; another channel becomes the same, but for its name and its signatures."""
    made = history(taken)
    log = copy_of(tmp_path / "log.jsonl", made.records)
    one, other = [(await channel_at(log, channel, [moment("now")], made.now))[0] for channel in CHANNELS]
    current = leaves_of(one.state, made.now)
    text = exported(one, current)
    file = parse(text)
    assert plan(current, wanted(file, current, as_itself=True), LEAVE) == []
    theirs = leaves_of(other.state, made.now)
    target = wanted(file, theirs, as_itself=False)
    rehearsal = rehearse(CHANNELS[1], other.state, plan(theirs, target, LEAVE), made.now)
    if rehearsal.refused is not None:
        assert type(rehearsal.refused[1]).__name__ == "BusinessSystemNameTaken"
        return
    reached = _settable(leaves_of(rehearsal.state, made.now))
    assert {path: value for path, value in reached.items() if path[0] != "channel"} == {
        path: value for path, value in _settable(current).items() if path[0] != "channel"
    }
    assert plan(leaves_of(rehearsal.state, made.now), target, LEAVE) == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [", "line 1, column 5: expected the node content"),
        ("- 1", "must be a YAML mapping"),
        ("sms: {enabled: yes}", "'sms.enabled' is wrong"),
        ("smss: {enabled: true}", "'smss' is not a known field"),
        ("sms: {enabled: true}\nsms: {enabled: false}", "line 2, column 1: 'sms' is given twice"),
        ("business_systems: {crm: }", "'business_systems.crm' is wrong: input should be a mapping"),
        ("version: 0", "'version' is wrong: input should be greater than or equal to 1"),
        ("channel: a b", "'channel' is wrong"),
        ("name: 7", "'name' is wrong: input should be a valid string"),
    ],
)
def test_files_that_cannot_be_meant(text: str, sentence: str) -> None:
    with pytest.raises(AuditError, match=sentence) as refused:
        parse(text)
    assert "\n" not in str(refused.value)


def test_countries_are_texts_and_versions_can_be_brought_up_to_date() -> None:
    file = parse("otp_scheduling: {enabled: true, countries: [NO, ID], use_own_numbers: false}")
    assert file.otp_scheduling is not None
    assert file.otp_scheduling.countries == ["NO", "ID"]
    text = "format: 1\nversion: 3  # ours\nname: 'version: 3'\n"
    assert with_version(text, 12) == "format: 1\nversion: 12  # ours\nname: 'version: 3'\n"
    assert with_version("name: x\n", 12) == "name: x\n"
