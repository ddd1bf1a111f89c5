"""An undo of a random command restores what was and leaves the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.business_system import (
    DeleteBusinessSystem,
    EditBusinessSystem,
    OpenBusinessSystem,
)
from contracts.json_values import same_json
from contracts.message import CommandData
from contracts.settings_diff import MISSING, diff
from contracts.signature import RefreshSignature, RevokeSignature
from contracts.sms import ToggleSms
from services.audit.log.errors import AuditError
from services.audit.settings_files.plan import rehearse
from services.audit.settings_files.undo import command_at, undo
from services.audit.timeline.channel_settings import state_leaves
from tests.audit import MadeUpLog, copy_of
from tests.unit.audit.histories import CHANNELS, PERMISSION, REGISTER, history, settable, steps


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
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
    undoing = undo(undone, PERMISSION, made.now, since=True)
    rehearsal = rehearse(channel, undone.current, undoing.commands, made.now)
    assert rehearsal.refused is None
    reached, was = state_leaves(rehearsal.state, made.now), state_leaves(undone.before, made.now)
    assert settable(reached) == settable(was)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(taken=steps, data=st.data())
async def test_undo_of_one_command_leaves_the_others(tmp_path: Path, taken: list[Any], data: st.DataObject) -> None:
    """What the command changed is as before it, what others changed stays; or it is refused, and says why."""
    made = history(taken)
    log = copy_of(tmp_path / "log.jsonl", made.records)
    channel = data.draw(st.sampled_from(CHANNELS))
    undone = await command_at(log, channel, data.draw(st.integers(1, len(made.times[channel]))))
    before, after, current = (
        settable(state_leaves(state, made.now)) for state in (undone.before, undone.after, undone.current)
    )
    try:
        undoing = undo(undone, PERMISSION, made.now, since=False)
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
    reached = settable(state_leaves(rehearsal.state, made.now))
    own = diff(before, after)
    for path in reached.keys() | current.keys() | before.keys():
        expected = before if path in own else current
        assert same_json(reached.get(path, MISSING), expected.get(path, MISSING)), path


@pytest.mark.parametrize(
    ("command", "sentences"),
    [
        (
            OpenBusinessSystem(system="erp", name="ERP", api_request_url="https://erp.example"),
            ["Would delete the secret of key-2 of business system 'erp' for good."],
        ),
        (
            DeleteBusinessSystem(system="crm"),
            [
                "The secret of key-1 of business system 'crm' is deleted and never comes back.",
                "Would issue a new signature of business system 'crm'; give it to the receiver.",
            ],
        ),
        (
            EditBusinessSystem(system="crm", signature_style="plain-token"),
            [
                "The secret of key-1 of business system 'crm' is deleted and never comes back.",
                "Would delete the secret of key-2 of business system 'crm' for good.",
                "Would issue a new signature of business system 'crm'; give it to the receiver.",
            ],
        ),
        (
            RefreshSignature(system="crm"),
            [
                "Signature key-2 of business system 'crm' was issued, and stays until the next refresh.",
                "Signature key-1 of business system 'crm' does not become the current one again.",
            ],
        ),
        (
            RefreshSignature(system="crm", grace_seconds=0),
            [
                "The secret of key-1 of business system 'crm' is deleted and never comes back.",
                "Signature key-2 of business system 'crm' was issued, and stays until the next refresh.",
            ],
        ),
        (
            RefreshSignature(system="new", api_request_url="https://new.example"),
            ["Signature key-2, issued before business system 'new' is opened, stays for its opening."],
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
    undoing = undo(undone, PERMISSION, made.now, since=since)
    assert (undoing.stays, undoing.refused) == (sentences, None)


@pytest.mark.parametrize("names", [("B", "A", "C"), ("B", "C", "A"), ("D", "A", "B")], ids=["swap", "circle", "chain"])
async def test_an_undo_of_exchanged_names(tmp_path: Path, names: tuple[str, ...]) -> None:
    """Each name is taken by another system until that one has its own again."""
    made, systems = MadeUpLog(), ("a", "b", "c")
    made.send("ch-1", REGISTER)
    for system in systems:
        made.send("ch-1", OpenBusinessSystem(system=system, name=system.upper(), api_request_url="https://a.example"))
    renamed = 1 + len(made.records)
    for system in systems:
        made.send("ch-1", EditBusinessSystem(system=system, name=f"{system} for a moment"))
    for system, name in zip(systems, names, strict=True):
        made.send("ch-1", EditBusinessSystem(system=system, name=name))
    undone = await command_at(copy_of(tmp_path / "log.jsonl", made.records), "ch-1", renamed)
    rehearsal = rehearse("ch-1", undone.current, undo(undone, PERMISSION, made.now, since=True).commands, made.now)
    assert rehearsal.refused is None
    assert rehearsal.state.channel is not None
    assert rehearsal.state.channel.systems == {"a": "A", "b": "B", "c": "C"}
