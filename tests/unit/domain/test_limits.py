"""Limits: of fields (the message is invalid) and of a channel's contents (the command is rejected)."""

from __future__ import annotations

from typing import Any, cast

import pytest
from pydantic import ValidationError

from contracts.business_system import (
    DeleteBusinessSystem,
    DisableBusinessSystem,
    EditBusinessSystem,
    EnableBusinessSystem,
    OpenBusinessSystem,
)
from contracts.envelope import validation_message
from contracts.intent import AddIntent, DeleteIntent, EditIntent, IntentAdded, ReferToIntent
from contracts.message import CommandData
from contracts.message_types import COMMANDS
from contracts.rejections import BusinessSystemTooLarge, TooManyBusinessSystems, TooManyIntents
from contracts.signature import RefreshSignature
from services.domain.decision import Decision
from services.domain.state import BUSINESS_SYSTEM_BYTES_LIMIT
from services.domain.state_codec import _RESERVED_BYTES, BUSINESS_SYSTEM
from tests.unit.domain.given import Scenario, Story, given
from tests.unit.domain.histories import OPEN_CRM, OPEN_ERP, SEAL_TO, URL, WHATSAPP, draft


def _system(number: int) -> OpenBusinessSystem:
    return OpenBusinessSystem(system=f"s{number}", name=f"System {number}", api_request_url=URL)


def _intent(number: int, size: int = 2) -> AddIntent:
    """An intent whose default data has this many bytes of compact JSON."""
    data = {"a": "x" * (size - len('{"a":""}'))} if size > 2 else {}
    return AddIntent(system="crm", code=f"C{number}", name="Intent", default_data=data)


TEN_SYSTEMS = tuple(_system(number) for number in range(10))
FULL_OF_INTENTS = (WHATSAPP, OPEN_CRM, *(_intent(number) for number in range(200)))
FOUR_KIB = 4 * 1024
NEARLY_TOO_LARGE = (WHATSAPP, OPEN_CRM, *(_intent(number, FOUR_KIB) for number in range(61)))

SCENARIOS: dict[str, Scenario] = {
    "an eleventh business system": given(WHATSAPP, *TEN_SYSTEMS).when(OPEN_CRM).then(TooManyBusinessSystems(limit=10)),
    "a draft is no system yet": given(WHATSAPP, *TEN_SYSTEMS, draft())
    .when(OPEN_CRM)
    .then(TooManyBusinessSystems(limit=10)),
    "a 201st intent": given(*FULL_OF_INTENTS).when(_intent(200)).then(TooManyIntents(system="crm", limit=200)),
}


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))
def test_counts(scenario: Scenario) -> None:
    scenario.check()


def test_a_deletion_makes_room() -> None:
    scenario = given(WHATSAPP, *TEN_SYSTEMS, DeleteBusinessSystem(system="s3")).when(OPEN_CRM)

    assert isinstance(scenario.decided(), Decision)


@pytest.mark.parametrize(
    "command",
    [
        _intent(70, FOUR_KIB),
        _intent(70, FOUR_KIB).model_copy(update={"json_schema": {"title": "x" * 15_000}, "default_data": {}}),
        EditIntent(system="crm", code="C1", json_schema={"title": "x" * 15_000}),
    ],
    ids=["adding default data", "adding a schema", "editing a schema"],
)
def test_everything_of_one_system_together_has_a_limit(command: CommandData) -> None:
    decided = given(*NEARLY_TOO_LARGE, _intent(62, 2_500)).when(command).decided()

    assert isinstance(decided, BusinessSystemTooLarge)
    assert (decided.system, decided.limit) == ("crm", 256 * 1024)
    assert decided.size > decided.limit


def test_templates_count_too() -> None:
    story = Story()
    for step in (*NEARLY_TOO_LARGE, _intent(62, 2_500)):
        story.step(step)
    for number in range(100):
        refer = ReferToIntent(system="crm", code="C1", template=f"t{number}".ljust(128, "x"))
        if isinstance(story.decide(refer), BusinessSystemTooLarge):
            break
        story.step(refer)

    assert 10 < number < 99
    assert 0 <= BUSINESS_SYSTEM_BYTES_LIMIT - _size(story) < 131 + _RESERVED_BYTES

    # What is not asked whether there is room makes the record larger, but never larger than that.
    for step in (
        RefreshSignature(system="crm"),
        DisableBusinessSystem(system="crm"),
        EnableBusinessSystem(system="crm"),
    ):
        story.step(step)
    for deleted in range(60):
        story.step(DeleteIntent(system="crm", code=f"C{deleted}", force=True))
        story.step(_intent(deleted, FOUR_KIB))
        assert _size(story) <= BUSINESS_SYSTEM_BYTES_LIMIT


def _added(add: AddIntent) -> IntentAdded:
    return IntentAdded(system=add.system, code=add.code, name=add.name, default_data=add.default_data)


def _size(story: Story) -> int:
    system = story.state.system("crm")
    assert system is not None
    return len(BUSINESS_SYSTEM.encode(system))


def test_what_makes_an_overfull_system_smaller_is_accepted() -> None:
    """An older release may have counted differently; shrinking must always be possible."""
    story = Story()
    for step in (*NEARLY_TOO_LARGE, _intent(98, 2_500), EditBusinessSystem(system="crm", remarks="x" * 1024)):
        story.step(step)
    story.happen(_added(_intent(99, FOUR_KIB)))
    assert _size(story) > BUSINESS_SYSTEM_BYTES_LIMIT

    assert isinstance(story.decide(EditBusinessSystem(system="crm", remarks="x" * 1023)), Decision)
    assert isinstance(story.decide(EditIntent(system="crm", code="C1", default_data={"a": "x"})), Decision)
    assert isinstance(story.decide(EditBusinessSystem(system="crm", name="Customers")), BusinessSystemTooLarge)


OPEN = OPEN_ERP.model_dump(exclude_unset=True)
ADD = {"system": "crm", "code": "C", "name": "n", "default_data": {}}
REGISTER = {"channel_type": "whatsapp", "name": "Shop", "enterprise_authenticated": True}


def nested(levels: int) -> dict[str, Any]:
    """Nested objects with an empty array inside: this many levels in total."""
    data: Any = []
    for _ in range(levels - 1):
        data = {"a": data}
    return cast("dict[str, Any]", data)


OTP = {"enabled": True, "countries": ["ID"], "use_own_numbers": False}


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("OpenBusinessSystem", OPEN | {"name": "x" * 255}),
        ("OpenBusinessSystem", OPEN | {"name": "é" * 255}),
        ("OpenBusinessSystem", OPEN | {"system": "a" * 63}),
        ("OpenBusinessSystem", OPEN | {"system": "0-"}),
        ("OpenBusinessSystem", OPEN | {"remarks": "x" * 1024}),
        ("OpenBusinessSystem", OPEN | {"remarks": ""}),
        ("OpenBusinessSystem", OPEN | {"remarks": "a\tb\r\nc"}),
        ("OpenBusinessSystem", OPEN | {"api_request_url": "https://crm.example/".ljust(512, "x")}),
        ("AddIntent", ADD | {"code": "A_9" + "X" * 61}),
        ("AddIntent", ADD | {"default_data": {"a": "x" * (FOUR_KIB - 8)}}),
        ("AddIntent", ADD | {"default_data": nested(100)}),
        ("AddIntent", ADD | {"schema": {"title": "x" * (4 * FOUR_KIB - 12)}}),
        ("RefreshSignature", {"system": "crm", "grace_seconds": 7 * 86_400}),
        ("RegisterChannel", REGISTER | {"provider": "A.b_c:d-9" + "x" * 119}),
        ("SaveOtpScheduling", OTP | {"countries": []}),
    ],
)
def test_as_much_as_a_field_may_hold(kind: str, data: dict[str, Any]) -> None:
    COMMANDS[kind].model_validate(data)


@pytest.mark.parametrize(
    ("kind", "data", "field"),
    [
        ("OpenBusinessSystem", OPEN | {"name": ""}, "data.name"),
        ("OpenBusinessSystem", OPEN | {"name": " \u2003"}, "data.name"),
        ("OpenBusinessSystem", OPEN | {"name": "a\nb"}, "data.name"),
        ("OpenBusinessSystem", OPEN | {"name": "a\u2028b"}, "data.name"),
        ("OpenBusinessSystem", OPEN | {"name": "x" * 256}, "data.name"),
        ("OpenBusinessSystem", OPEN | {"name": None}, "data.name"),
        ("OpenBusinessSystem", OPEN | {"system": "a" * 64}, "data.system"),
        ("OpenBusinessSystem", OPEN | {"system": "-a"}, "data.system"),
        ("OpenBusinessSystem", OPEN | {"system": "CRM"}, "data.system"),
        ("OpenBusinessSystem", OPEN | {"system": "~a"}, "data.system"),
        ("OpenBusinessSystem", OPEN | {"system": "a\n"}, "data.system"),
        ("OpenBusinessSystem", OPEN | {"system": "a/b"}, "data.system"),
        ("OpenBusinessSystem", OPEN | {"system": "²"}, "data.system"),
        ("OpenBusinessSystem", OPEN | {"remarks": "x" * 1025}, "data.remarks"),
        ("OpenBusinessSystem", OPEN | {"remarks": "a\x00b"}, "data.remarks"),
        (
            "OpenBusinessSystem",
            OPEN | {"api_request_url": "https://crm.example/".ljust(513, "x")},
            "data.api_request_url",
        ),
        ("OpenBusinessSystem", OPEN | {"signature_style": "hmac"}, "data.signature_style"),
        ("OpenBusinessSystem", OPEN | {"colour": "red"}, "data.colour"),
        ("OpenBusinessSystem", {"system": "crm", "name": "n"}, "data.api_request_url"),
        ("EditBusinessSystem", {"system": "crm", "name": None}, "name"),
        ("EditBusinessSystem", {"system": "crm", "api_request_url": None}, "api_request_url"),
        ("EditChannel", {"name": None}, "name"),
        ("EditIntent", {"system": "crm", "code": "C", "name": None}, "name"),
        ("AddIntent", ADD | {"code": ""}, "data.code"),
        ("AddIntent", ADD | {"code": "order"}, "data.code"),
        ("AddIntent", ADD | {"code": "A-B"}, "data.code"),
        ("AddIntent", ADD | {"code": "X" * 65}, "data.code"),
        ("AddIntent", ADD | {"name": "x" * 256}, "data.name"),
        ("AddIntent", ADD | {"default_data": []}, "data.default_data"),
        ("AddIntent", ADD | {"default_data": "{}"}, "data.default_data"),
        ("AddIntent", ADD | {"default_data": {"a": "x" * (FOUR_KIB - 7)}}, "data.default_data"),
        ("AddIntent", ADD | {"default_data": {"a": "é" * (FOUR_KIB // 2 - 3)}}, "data.default_data"),
        ("AddIntent", ADD | {"default_data": {"a": float("nan")}}, "data.default_data"),
        ("AddIntent", ADD | {"default_data": {"a": float("inf")}}, "data.default_data"),
        ("AddIntent", ADD | {"schema": {"title": "x" * (4 * FOUR_KIB - 11)}}, "data.schema"),
        ("AddIntent", ADD | {"schema": True}, "data.schema"),
        ("AddIntent", ADD | {"default_data": nested(101)}, "data.default_data"),
        ("AddIntent", ADD | {"schema": {"default": nested(100)}}, "data.schema"),
        ("RefreshSignature", {"system": "crm", "grace_seconds": -1}, "data.grace_seconds"),
        ("RefreshSignature", {"system": "crm", "grace_seconds": 7 * 86_400 + 1}, "data.grace_seconds"),
        ("RefreshSignature", {"system": "crm", "grace_seconds": 1.0}, "data.grace_seconds"),
        ("RefreshSignature", {"system": "crm", "seal_to": "short"}, "data.seal_to"),
        ("RevealSignature", {"system": "crm"}, "data.seal_to"),
        ("RevealSignature", {"system": "crm", "seal_to": SEAL_TO[:-4] + "===="}, "data.seal_to"),
        ("RevokeSignature", {"system": "crm", "key_id": "~k"}, "data.key_id"),
        ("RegisterChannel", REGISTER | {"provider": "x" * 129}, "data.provider"),
        ("RegisterChannel", REGISTER | {"channel_type": "sms"}, "data.channel_type"),
        ("RegisterChannel", REGISTER | {"enterprise_authenticated": "yes"}, "data.enterprise_authenticated"),
        ("RetireChannel", {"force": True}, "data.force"),
        ("ReferToIntent", {"system": "crm", "code": "C", "template": "a b"}, "data.template"),
        ("ToggleSms", {"enabled": 1}, "data.enabled"),
        ("ToggleSms", {}, "data.enabled"),
        ("SaveOtpScheduling", OTP | {"countries": ["id"]}, "data.countries.0"),
        ("SaveOtpScheduling", OTP | {"countries": ["ID", "XX"]}, "data.countries.1"),
        ("SaveOtpScheduling", OTP | {"countries": "ID"}, "data.countries"),
        ("SaveOtpScheduling", {"enabled": True, "countries": ["ID"]}, "data.use_own_numbers"),
    ],
)
def test_what_a_field_may_not_hold(kind: str, data: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        COMMANDS[kind].model_validate(data)

    problem = validation_message(refused.value, "data")
    assert repr(field) in problem
    assert problem.endswith(".")
