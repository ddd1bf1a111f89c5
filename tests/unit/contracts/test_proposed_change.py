"""What can be proposed: a command as a whole, with its own rules, and never a key to seal a secret to."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import ValidationError

from contracts.envelope import validation_message
from contracts.message_types import COMMANDS
from contracts.proposed_change import AnyProposedCommand, ProposeChange
from tests.unit.domain.histories import SEAL_TO

SEALED = (
    "'data.command.RefreshSignature.data' is wrong: it must not have 'seal_to': once the change is approved, "
    "RevealSignature shows the secret."
)

PROPOSABLE = {
    get_args(one.model_fields["type"].annotation)[0]: one for one in get_args(get_args(AnyProposedCommand)[0])
}


def test_a_proposed_command_is_the_command_of_its_type() -> None:
    assert all(one.model_fields["data"].annotation is COMMANDS[name] for name, one in PROPOSABLE.items())
    assert {one.__name__ for one in PROPOSABLE.values()} == {f"Proposed{name}" for name in PROPOSABLE}


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (
            {"type": "RefreshSignature", "data": {"system": "crm", "seal_to": SEAL_TO}},
            SEALED,
        ),
        ({"type": "Secret word", "data": {}}, "'data.command' is wrong: its 'type' is not one that can stand here."),
        ({"data": {}}, "'data.command' is wrong: its 'type' is not one that can stand here."),
        (
            {"type": "RevokeSignature", "data": {"system": "crm"}},
            "'data.command.RevokeSignature.data.key_id' is missing.",
        ),
        ({"type": "RetireChannel", "data": {}, "at": "now"}, "'data.command.RetireChannel.at' is not a known field."),
    ],
)
def test_what_cannot_be_proposed_is_a_sentence_that_repeats_no_value(command: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError) as raised:
        ProposeChange.model_validate({"change": "c-1", "command": command})

    assert validation_message(raised.value, "data") == sentence


def test_its_resource_is_what_the_command_changes() -> None:
    proposed = {"type": "RevokeSignature", "data": {"system": "crm", "key_id": "key-1"}}
    change = ProposeChange.model_validate({"change": "c-1", "command": proposed})

    assert change.resource == "business-systems/crm/signature"
