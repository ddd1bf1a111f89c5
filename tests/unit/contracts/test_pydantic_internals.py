"""pydantic's compiled methods give what its public methods give."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from contracts.intent import IntentEdited
from contracts.pydantic_internals import json_serializer, json_validator, python_validator

JSON = b'{"system":"crm","code":"ORDER","schema":{"type":"object"}}'


def test_validating_json() -> None:
    event = json_validator(IntentEdited)(JSON)
    assert event == IntentEdited.model_validate_json(JSON)
    assert event.model_fields_set == {"system", "code", "json_schema"}
    with pytest.raises(ValidationError):
        json_validator(IntentEdited)(b"{}")


def test_validating_python_by_alias_alone() -> None:
    event = python_validator(IntentEdited)({"system": "crm", "code": "ORDER", "json_schema": {}}, by_name=False)
    assert event == IntentEdited.model_validate({"system": "crm", "code": "ORDER", "json_schema": {}}, by_name=False)
    assert event.json_schema is None


def test_serializing_only_what_is_set_by_alias() -> None:
    event = IntentEdited.model_validate_json(JSON)
    assert json_serializer(IntentEdited)(event, exclude_unset=True, by_alias=True) == JSON
