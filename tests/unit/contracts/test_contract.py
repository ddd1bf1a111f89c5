"""The contract's files are up to date, and a change that would break somebody is refused with a sentence."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

import contracts
from contracts.compatibility import Schemas, breaks
from contracts.message_types import COMMANDS, EVENTS
from contracts.rejections import REJECTIONS
from contracts.schemas import REJECTED, json_schemas
from services.cli.contract import problems
from services.gateway.asyncapi.document import asyncapi

HOME = Path(contracts.__file__).parent.parent
RELEASED = json_schemas()


def test_the_files_are_up_to_date_and_break_nobody() -> None:
    assert problems() == []


def test_every_message_is_described() -> None:
    found = json_schemas()

    assert found["switchboard.commands"].keys() == COMMANDS.keys()
    assert found["switchboard.events"].keys() == EVENTS.keys()
    assert found["switchboard.outcomes"].keys() == {"CommandAccepted", "CommandRejected"}
    assert found[REJECTED].keys() == REJECTIONS.keys()


def test_every_reference_in_the_asyncapi_document_leads_somewhere() -> None:
    document = asyncapi()

    def references(part: Any) -> list[str]:
        if isinstance(part, dict):
            here = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
            return here + [one for value in part.values() for one in references(value)]
        return [one for value in part for one in references(value)] if isinstance(part, list) else []

    def leads_somewhere(reference: str) -> bool:
        part: Any = document
        for step in reference.removeprefix("#/").split("/"):
            part = part.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(part, dict) else None
        return part is not None

    assert document["asyncapi"] == "3.0.0"
    assert {channel["address"] for channel in document["channels"].values()} == set(json_schemas()) - {REJECTED}
    assert [one for one in references(document) if not leads_somewhere(one)] == []


def test_no_schema_of_the_asyncapi_document_has_a_title_that_generators_would_name_a_type_by() -> None:
    def titles(part: Any) -> list[str]:
        if isinstance(part, dict):
            here = [part["title"]] if isinstance(part.get("title"), str) else []
            return here + [one for value in part.values() for one in titles(value)]
        return [one for value in part for one in titles(value)] if isinstance(part, list) else []

    assert titles(asyncapi()["components"]["schemas"]) == []


def test_the_asyncapi_document_says_how_an_outcome_is_found() -> None:
    message = asyncapi()["components"]["messages"]["CommandAccepted"]

    assert message["correlationId"] == {"location": "$message.header#/causationid"}
    assert message["headers"]["required"] == ["causationid"]
    assert message["bindings"]["kafka"]["key"]["type"] == "string"


def _data(schemas: Schemas, topic: str, kind: str) -> dict[str, Any]:
    """The schema of the message's data."""
    found: dict[str, Any] = schemas[f"switchboard.{topic}"][kind]["$defs"][kind]
    return found


def _drop(schema: dict[str, Any], field: str) -> None:
    del schema["properties"][field]
    schema["required"] = [name for name in schema.get("required", []) if name != field]


@pytest.mark.parametrize(
    ("change", "what", "whom"),
    [
        (
            lambda now: _drop(_data(now, "events", "IntentAdded"), "name"),
            "IntentAdded: 'data.name' is no longer there",
            "subscribers to switchboard.events that read IntentAdded",
        ),
        (
            lambda now: _data(now, "events", "IntentAdded")["required"].remove("code"),
            "IntentAdded: 'data.code' may be left out, but is needed",
            "subscribers to switchboard.events that read IntentAdded",
        ),
        (
            lambda now: _data(now, "events", "OtpSchedulingSaved")["properties"].update(enabled={"type": "string"}),
            "OtpSchedulingSaved: 'data.enabled' is written as string and read as boolean",
            "subscribers to switchboard.events that read OtpSchedulingSaved",
        ),
        (
            lambda now: _data(now, "events", "ChannelRegistered")["properties"]["channel_type"]["enum"].append("sms"),
            "ChannelRegistered: 'data.channel_type' may be 'sms', which is not expected",
            "subscribers to switchboard.events that read ChannelRegistered",
        ),
        (
            lambda now: now["switchboard.events"].pop("SmsActivated"),
            "SmsActivated: it is no longer sent",
            "subscribers to switchboard.events that read SmsActivated",
        ),
        (
            lambda now: _drop(now["switchboard.outcomes"]["CommandAccepted"], "causationid"),
            "CommandAccepted: 'causationid' is no longer there",
            "subscribers to switchboard.outcomes that read CommandAccepted",
        ),
        (
            lambda now: now[REJECTED].pop("IntentUnknown"),
            "IntentUnknown: it is no longer sent",
            f"subscribers to {REJECTED} that read IntentUnknown",
        ),
        (
            lambda now: _drop(now[REJECTED]["IntentInUse"], "templates"),
            "IntentInUse: 'templates' is no longer there",
            f"subscribers to {REJECTED} that read IntentInUse",
        ),
        (
            lambda now: _data(now, "commands", "ToggleSms")["required"].append("reason"),
            "ToggleSms: 'data.reason' is needed, and nobody sends it",
            "publishers to switchboard.commands that send ToggleSms",
        ),
        (
            lambda now: _drop(_data(now, "commands", "OpenBusinessSystem"), "remarks"),
            "OpenBusinessSystem: 'data.remarks' is not known any more",
            "publishers to switchboard.commands that send OpenBusinessSystem",
        ),
        (
            lambda now: _data(now, "commands", "OpenBusinessSystem")["properties"]["name"].update(maxLength=100),
            "OpenBusinessSystem: 'data.name' may be above the maxLength of 100 that is read",
            "publishers to switchboard.commands that send OpenBusinessSystem",
        ),
        (
            lambda now: _data(now, "commands", "RegisterChannel")["properties"]["channel_type"]["enum"].remove("line"),
            "RegisterChannel: 'data.channel_type' may be 'line', which is not expected",
            "publishers to switchboard.commands that send RegisterChannel",
        ),
    ],
)
def test_what_breaks(change: Callable[[Schemas], object], what: str, whom: str) -> None:
    now = deepcopy(RELEASED)
    change(now)

    found = [sentence for sentence in breaks(RELEASED, now) if "new subscribers" not in sentence]
    assert found == [f"{what}; it would break {whom}."]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (
            lambda now: _data(now, "events", "SignatureRefreshed")["required"].append("api_request_url"),
            "SignatureRefreshed: 'data.api_request_url' may be left out, but is needed",
        ),
        (
            lambda now: _data(now, "events", "IntentAdded").update(
                properties=_data(now, "events", "IntentAdded")["properties"] | {"note": {"type": "string"}},
                required=[*_data(now, "events", "IntentAdded")["required"], "note"],
            ),
            "IntentAdded: 'data.note' is needed, and nobody sends it",
        ),
        (
            lambda now: _data(now, "events", "ChannelRegistered")["properties"]["channel_type"]["enum"].remove("line"),
            "ChannelRegistered: 'data.channel_type' may be 'line', which is not expected",
        ),
        (
            lambda now: _data(now, "events", "IntentAdded")["properties"]["name"].update(maxLength=100),
            "IntentAdded: 'data.name' may be above the maxLength of 100 that is read",
        ),
    ],
)
def test_what_breaks_reading_from_the_beginning(change: Callable[[Schemas], object], what: str) -> None:
    """Events are for ever: what fits every subscriber of today must also fit what was written before."""
    now = deepcopy(RELEASED)
    change(now)

    assert breaks(RELEASED, now) == [
        f"{what}; it would break new subscribers to switchboard.events, which read what is there already."
    ]


_HARMLESS: dict[str, Callable[[Schemas], object]] = {
    "another field in an event": lambda now: _data(now, "events", "IntentAdded")["properties"].update(note={}),
    "another field in a command": lambda now: _data(now, "commands", "ToggleSms")["properties"].update(note={}),
    "a wider limit": lambda now: _data(now, "commands", "AddIntent")["properties"]["name"].update(maxLength=300),
    "another event": lambda now: now["switchboard.events"].update(SmsPaused={"type": "object"}),
}


@pytest.mark.parametrize("change", _HARMLESS.values(), ids=_HARMLESS.keys())
def test_what_breaks_nobody(change: Callable[[Schemas], object]) -> None:
    now = deepcopy(RELEASED)
    change(now)

    assert breaks(RELEASED, now) == []


def test_a_breaking_change_to_a_model_makes_the_check_fail(tmp_path: Path) -> None:
    """On a copy of the code, as `make check` runs it."""
    for room in ("contracts", "services", "projections", "deploy"):
        shutil.copytree(HOME / room, tmp_path / room)  # with what is compiled already
    model = tmp_path / "contracts" / "otp_scheduling.py"
    before, event, after = model.read_text().partition("class OtpSchedulingSaved")
    model.write_text(before + event + after.replace("use_own_numbers: bool", "own_numbers: bool"))

    def run(what: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "services.cli.contract", what]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    stale = run("check")
    assert run("write").returncode == 0
    broken = run("check")

    assert stale.returncode == 1
    assert "OtpSchedulingSaved.json is stale; run `make contract`." in stale.stderr
    assert broken.returncode == 1
    assert broken.stderr == (
        "OtpSchedulingSaved: 'data.use_own_numbers' is no longer there; "
        "it would break subscribers to switchboard.events that read OtpSchedulingSaved.\n"
        "OtpSchedulingSaved: 'data.own_numbers' is needed, and nobody sends it; "
        "it would break new subscribers to switchboard.events, which read what is there already.\n"
    )
