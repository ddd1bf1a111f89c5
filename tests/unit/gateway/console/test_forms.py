"""Forms: rejections find their fields, and two people's changes are merged by field."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import Request

from contracts.business_system import OpenBusinessSystem
from contracts.envelope import validation_message
from services.gateway.authentication.caller import Caller
from services.gateway.authentication.sessions import Session
from services.gateway.console.console_request import ConsoleRequest
from services.gateway.console.forms import Form
from services.gateway.problems import Problem
from tests.unit.gateway.console.sessions import session_of

BASE = {"name": "CRM", "remarks": "", "countries": ["ID"]}


def _sent(session: Session, **fields: str | list[str]) -> ConsoleRequest:
    form = {name: value if isinstance(value, list) else [value] for name, value in fields.items()}
    return ConsoleRequest(
        Request({"type": "http", "method": "POST", "headers": []}),
        session,
        form,
        Caller(session.principal, session.token, session.account),
    )


def _submitted(values: dict[str, Any], **fields: str | list[str]) -> Form:
    form = Form(BASE, 3)
    form.submit(_sent(session_of("acme"), version="3", base=Form(BASE).base_json, **fields), values)
    return form


def test_what_only_they_changed_is_taken() -> None:
    form = _submitted({"name": "Mine"})
    form.merge(BASE | {"remarks": "theirs"}, 5)
    assert form.values == {"name": "Mine", "remarks": "theirs", "countries": ["ID"]}
    assert (form.taken, form.theirs, form.version) == ({"remarks"}, {}, 5)


def test_what_both_changed_is_a_conflict_that_keeps_mine() -> None:
    form = _submitted({"name": "Mine"})
    form.merge(BASE | {"name": "Theirs"}, 5)
    assert (form.values["name"], form.theirs) == ("Mine", {"name": "Theirs"})


def test_the_same_change_by_both_is_no_conflict() -> None:
    form = _submitted({"countries": ["ID", "IN"]})
    form.merge(BASE | {"countries": ["ID", "IN"]}, 5)
    assert not form.has_news


@pytest.mark.parametrize(("choice", "name"), [("take", "Theirs"), ("keep", "Mine")])
def test_a_choice_ends_the_conflict(choice: str, name: str) -> None:
    merged = _submitted({"name": "Mine"})
    merged.merge(BASE | {"name": "Theirs"}, 5)
    form = Form(BASE | {"name": "Theirs"}, 5)
    sent = {"version": "5", "base": merged.base_json, "conflict": "name", choice: "name"}
    form.submit(_sent(session_of("acme"), **sent), {"name": "Mine"})
    assert (form.values["name"], form.theirs) == (name, {})


def test_what_was_never_changed_before_can_be_overtaken_too() -> None:
    newest = BASE | {"countries": ["IN"]}
    form = Form(newest, 5)
    form.submit(_sent(session_of("acme"), version="0", base=Form(BASE).base_json), {"countries": ["ID", "SG"]})
    assert form.version == 0
    form.merge(newest, 5)
    assert form.theirs == {"countries": ["IN"]}


def test_an_invalid_command_has_its_sentence_at_each_field() -> None:
    form = Form({"name": "", "api_request_url": "", "remarks": ""})
    with pytest.raises(ValueError, match="name") as caught:
        OpenBusinessSystem.model_validate(
            {"system": "crm", "name": "", "api_request_url": "x" * 600, "remarks": "\x00"}
        )
    sentence = validation_message(caught.value, "data")  # type: ignore[arg-type]
    assert form.reject(Problem(422, "InvalidCommand", sentence)) == 422
    assert form.errors.keys() == {"name", "api_request_url", "remarks"}
    assert "at least 1 character" in form.errors["name"]
    assert "control characters" in form.errors["remarks"]


def test_a_rejection_is_at_its_field_in_the_sentence_of_the_api() -> None:
    form = Form({"name": "CRM", "api_request_url": "http://x"})
    form.reject(Problem(422, "ApiRequestUrlRefused", "The API Request URL cannot be used: it must begin with https."))
    assert form.errors == {"api_request_url": "The API Request URL cannot be used: it must begin with https."}


def test_what_no_form_can_mend_is_raised() -> None:
    with pytest.raises(Problem):
        Form({}).reject(Problem(503, "Unavailable", "The broker is unavailable."))
