"""An exported file, applied, leads to what it shows."""

from __future__ import annotations

import sys
from itertools import permutations
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from contracts.business_system import OpenBusinessSystem
from contracts.kafka.publisher import Outcome
from contracts.outcome import CommandAccepted
from services.audit.log.errors import AuditError
from services.audit.settings_files.plan import plan, rehearse
from services.audit.settings_files.plan_execution import CommandPlan, ExecutionResult, expected_version
from services.audit.settings_files.settings_file import export, parse, target_leaves, with_version
from services.audit.settings_files.strict_yaml import dump, load
from services.audit.timeline.channel_settings import state_leaves
from services.audit.timeline.settings_at import channel_at, parse_moment
from tests.audit import MadeUpLog, copy_of
from tests.unit.audit.histories import CHANNELS, PERMISSION, REGISTER, history, settable, steps


def test_the_version_to_expect() -> None:
    made = [("business-systems/crm", 8), ("sms", 9)]
    assert expected_version(7, "business-systems/crm/intents/A", made) == 8
    assert expected_version(7, "business-systems/crm", [("business-systems/crm/intents/A", 8)]) == 8
    assert expected_version(7, "business-systems/crm-2", made) == 7
    assert expected_version(7, "otp-scheduling", made) == 7
    assert expected_version(7, "sms", made) == 9


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(taken=steps)
async def test_an_exported_file_applied(tmp_path: Path, taken: list[Any]) -> None:
    """To its own channel it is nothing; another channel becomes the same, but for its name and its signatures."""
    made = history(taken)
    log = copy_of(tmp_path / "log.jsonl", made.records)
    one, other = [(await channel_at(log, channel, [parse_moment("now")], made.now))[0] for channel in CHANNELS]
    current = state_leaves(one.state, made.now)
    text = export(one, current)
    file = parse(text)
    assert plan(current, target_leaves(file, current, as_itself=True), PERMISSION) == []
    theirs = state_leaves(other.state, made.now)
    target = target_leaves(file, theirs, as_itself=False)
    rehearsal = rehearse(CHANNELS[1], other.state, plan(theirs, target, PERMISSION), made.now)
    if rehearsal.refused is not None:
        assert type(rehearsal.refused[1]).__name__ == "BusinessSystemNameTaken"
        return
    reached = settable(state_leaves(rehearsal.state, made.now))
    assert {path: value for path, value in reached.items() if path[0] != "channel"} == {
        path: value for path, value in settable(current).items() if path[0] != "channel"
    }
    assert plan(state_leaves(rehearsal.state, made.now), target, PERMISSION) == []


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
    assert file.sections()["otp_scheduling"].model_dump()["countries"] == ["NO", "ID"]
    text = "format: 1\nversion: 3  # ours\nname: 'version: 3'\n"
    assert with_version(text, 12) == "format: 1\nversion: 12  # ours\nname: 'version: 3'\n"
    assert with_version("name: x\n", 12) == "name: x\n"


SYSTEM = "{name: %s, api_request_url: https://a.example/x}"


def opened(*names: str) -> MadeUpLog:
    log = MadeUpLog(partitions=1)
    log.send("ch-1", REGISTER)
    for number, name in enumerate(names):
        log.send("ch-1", OpenBusinessSystem(system=f"s{number}", name=name, api_request_url="https://a.example/x"))
    return log


@pytest.mark.parametrize("permutation", list(permutations(range(4))))
def test_systems_that_exchange_names(permutation: tuple[int, ...]) -> None:
    """Every permutation, each with one system deleted, one opened, and the freed name taken."""
    names = ["A", "B", "C", "D"]
    log = opened(*names, "gone")
    current = state_leaves(log.state("ch-1"), log.now)
    wanted = [names[index] for index in permutation]
    wanted[permutation[0]], new = "gone", wanted[permutation[0]]
    parts = [f"s{number}: {SYSTEM % name}" for number, name in enumerate(wanted)] + [f"new: {SYSTEM % new}"]
    target = target_leaves(parse(f"business_systems: {{{', '.join(parts)}}}"), current, as_itself=True)
    commands = plan(current, target, PERMISSION)
    rehearsal = rehearse("ch-1", log.state("ch-1"), commands, log.now)
    assert rehearsal.refused is None, rehearsal.refused
    assert settable(state_leaves(rehearsal.state, log.now)) == settable(target)
    assert len(commands) <= 8


@pytest.mark.parametrize(
    ("kept", "written", "same"),
    [
        ("Büro", "Bu\u0308ro", True),
        ("Bu\u0308ro", "Büro", True),  # kept before names had one form
        ("CRM", " CRM\u3000", True),
        ("two  spaces", "two spaces", False),
        ("CRM", "crm", False),
    ],
)
def test_names_are_compared_as_they_are_kept(kept: str, written: str, same: bool) -> None:  # noqa: FBT001 -- a case
    system = ("business-systems", "crm")
    current: dict[tuple[str, ...], Any] = {
        ("channel", "name"): kept,
        system: True,
        (*system, "name"): kept,
        (*system, "intents", "A"): True,
        (*system, "intents", "A", "name"): kept,
    }
    file = parse(dump({
        "name": written,
        "business_systems": {"crm": {
            "name": written, "api_request_url": "https://a.example/", "intents": {"A": {"name": written}}
        }},
    }))  # fmt: skip
    target = target_leaves(file, current, as_itself=True)
    names = {path for path, value in target.items() if path[-1] == "name" and value != kept}
    assert names == (set() if same else {path for path in current if path[-1] == "name"})


def test_a_name_that_stays_taken_is_refused() -> None:
    log = opened("A", "B")
    current = state_leaves(log.state("ch-1"), log.now)
    parts = f"s0: {SYSTEM % 'B'}, s1: {SYSTEM % 'B'}"
    target = target_leaves(parse(f"business_systems: {{{parts}}}"), current, as_itself=True)
    refused = rehearse("ch-1", log.state("ch-1"), plan(current, target, PERMISSION), log.now).refused
    assert refused is not None
    assert type(refused[1]).__name__ == "BusinessSystemNameTaken"


def test_limits_are_said_at_once() -> None:
    intents = "".join(f"      I{number}: {{name: x}}\n" for number in range(2_000))
    head = "business_systems:\n  crm:\n    name: CRM\n    api_request_url: https://a.example\n    intents:\n"
    with pytest.raises(AuditError, match="Business system 'crm' has 2,000 intents in the file; at most 200 fit"):
        parse(head + intents)
    systems = ", ".join(f"s{number}: {SYSTEM % number}" for number in range(11))
    with pytest.raises(AuditError, match="The file has 11 business systems; at most 10 fit"):
        parse(f"business_systems: {{{systems}}}")


def test_twice_the_intents_are_twice_the_work() -> None:
    """Counted in our own lines that run, since time depends on the machine."""
    ours = Path(plan.__code__.co_filename).parent

    def lines_of(intents: int) -> int:
        listed = "".join(f"      I{number}: {{name: x, default_data: {{a: 1}}}}\n" for number in range(intents))
        systems = (
            f"  s{number}:\n    name: S{number}\n    api_request_url: https://a.example\n" for number in range(5)
        )
        text = "business_systems:\n" + "".join(f"{system}    intents:\n{listed}" for system in systems)
        lines = 0

        def count(frame: FrameType, *_: object) -> object:
            nonlocal lines
            if Path(frame.f_code.co_filename).parent != ours:
                return None  # what a library does for each intent would hide what we do
            lines += 1
            return count

        before = sys.gettrace()
        sys.settrace(count)  # type: ignore[arg-type]
        try:
            commands = plan({}, target_leaves(parse(text), {}, as_itself=False), PERMISSION)
        finally:
            sys.settrace(before)
        assert len(commands) == 5 + 5 * intents
        return lines

    assert lines_of(40) < 2.2 * lines_of(20)


def test_line_ends_and_large_numbers_stay() -> None:
    assert with_version("format: 1\r\nversion: 3\r\nname: x\r\n", 12) == "format: 1\r\nversion: 12\r\nname: x\r\n"
    for number in (10**4299, -(10**4299)):
        assert load(dump({"n": number})) == {"n": number}


@pytest.mark.parametrize(
    ("version", "events", "uninterrupted"), [(9, 2, True), (10, 2, False), (7, 0, True), (8, 0, False)]
)
def test_a_change_in_between_is_noticed(version: int, events: int, uninterrupted: bool) -> None:  # noqa: FBT001 -- a case
    """An accepted command's version counts what came between on other paths too."""
    envelope = {"version": version, "events": [f"e{number}" for number in range(events)]}
    outcome = Outcome("c-1", CommandAccepted.model_validate(envelope), repeated=False)
    assert ExecutionResult(CommandPlan("ch-1", "acme", 7, []), (outcome,), None).uninterrupted is uninterrupted
