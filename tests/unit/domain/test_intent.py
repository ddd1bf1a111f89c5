"""An intent needs a business system; its code is what templates refer to; its default data satisfies its schema."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.business_system import DeleteBusinessSystem
from contracts.intent import (
    AddIntent,
    DeleteIntent,
    EditIntent,
    IntentAdded,
    IntentDeleted,
    IntentEdited,
    IntentReferredTo,
    IntentReleased,
    ReferToIntent,
    ReleaseIntent,
)
from contracts.rejections import (
    BusinessSystemUnknown,
    DefaultDataBreaksSchema,
    IntentAlreadyAdded,
    IntentInUse,
    IntentNeedsBusinessSystem,
    IntentSchemaInvalid,
    IntentUnknown,
    TemplateDoesNotRefer,
    TemplateRefersAlready,
)
from tests.unit.domain.given import Scenario, given
from tests.unit.domain.histories import ADD_ORDER, OPEN_CRM, OPEN_ERP, REFER, WHATSAPP, draft

OPEN = (WHATSAPP, OPEN_CRM)
ADDED = (*OPEN, ADD_ORDER)
REFERRED = (*ADDED, REFER)
ORDER_IS_TEXT = {"type": "object", "properties": {"order": {"type": "string"}}, "required": ["order"]}
ORDER_IS_NUMBER = {"properties": {"order": {"type": "number"}}}
RELEASE = ReleaseIntent(system="crm", code="ORDER", template="welcome")
DELETE = DeleteIntent(system="crm", code="ORDER")
UNKNOWN = IntentUnknown(system="crm", code="ORDER")
CLOSED = BusinessSystemUnknown(system="crm")
IN_USE = IntentInUse(system="crm", code="ORDER", templates=["welcome"])


def _add(schema: dict[str, Any] | None, default_data: dict[str, Any] | None = None) -> AddIntent:
    data = ADD_ORDER.default_data if default_data is None else default_data
    return AddIntent(system="crm", code="ORDER", name="Order status", default_data=data, json_schema=schema)


def _edit(**fields: object) -> EditIntent:
    return EditIntent.model_validate({"system": "crm", "code": "ORDER"} | fields)


def _edited(**fields: object) -> IntentEdited:
    return IntentEdited.model_validate({"system": "crm", "code": "ORDER"} | fields)


def _added(add: AddIntent) -> IntentAdded:
    return IntentAdded(
        system=add.system, code=add.code, name=add.name, default_data=add.default_data, json_schema=add.json_schema
    )


ADDING: dict[str, Scenario] = {
    "an intent is added to an open system": given(*OPEN).when(ADD_ORDER).then(_added(ADD_ORDER)),
    "it needs a business system": given(WHATSAPP).when(ADD_ORDER).then(IntentNeedsBusinessSystem(system="crm")),
    "a drafted one is not open": given(WHATSAPP, draft()).when(ADD_ORDER).then(IntentNeedsBusinessSystem(system="crm")),
    "nor is a deleted one": given(*OPEN, DeleteBusinessSystem(system="crm"))
    .when(ADD_ORDER)
    .then(IntentNeedsBusinessSystem(system="crm")),
    "a code is added once, identical or not": given(*ADDED)
    .when(_add(None, {}))
    .then(IntentAlreadyAdded(system="crm", code="ORDER")),
    "another system may have the same code": given(*ADDED, OPEN_ERP)
    .when(ADD_ORDER.model_copy(update={"system": "erp"}))
    .then(_added(ADD_ORDER).model_copy(update={"system": "erp"})),
    "default data that satisfies the schema": given(*OPEN).when(_add(ORDER_IS_TEXT)).then(_added(_add(ORDER_IS_TEXT))),
    "default data that does not": given(*OPEN)
    .when(_add(ORDER_IS_NUMBER))
    .then(DefaultDataBreaksSchema(code="ORDER", reason='the value is not of type "number"')),
    "the empty object satisfies the empty schema": given(*OPEN).when(_add({}, {})).then(_added(_add({}, {}))),
    "what was deleted is added again, and no template refers to it": given(
        *REFERRED, DeleteIntent(system="crm", code="ORDER", force=True), ADD_ORDER
    )
    .when(RELEASE)
    .then(TemplateDoesNotRefer(system="crm", code="ORDER", template="welcome")),
}

EDITING: dict[str, Scenario] = {
    "an edit says only what changed": given(*ADDED)
    .when(_edit(name="Order", default_data={"order": "42"}, schema=None))
    .then(_edited(name="Order")),
    "an edit that changes nothing appends nothing": given(*ADDED).when(_edit(name="Order status")).then(),
    "an edit of nothing appends nothing": given(*ADDED).when(_edit()).then(),
    "null empties the default data": given(*ADDED).when(_edit(default_data=None)).then(_edited(default_data={})),
    "null clears the schema": given(*OPEN, _add(ORDER_IS_TEXT)).when(_edit(schema=None)).then(_edited(schema=None)),
    "a number is not a truth value": given(*OPEN, _add(None, {"n": 1, "deep": [{"n": 0}]}))
    .when(_edit(default_data={"n": True, "deep": [{"n": 0}]}))
    .then(_edited(default_data={"n": True, "deep": [{"n": 0}]})),
    "nor deep inside": given(*OPEN, _add(None, {"n": 1, "deep": [{"n": 0}]}))
    .when(_edit(default_data={"n": 1, "deep": [{"n": False}]}))
    .then(_edited(default_data={"n": 1, "deep": [{"n": False}]})),
    "nor a list the one thing in it": given(*OPEN, _add(None, {"n": [1]}))
    .when(_edit(default_data={"n": 1}))
    .then(_edited(default_data={"n": 1})),
    "the order of keys says nothing": given(*OPEN, _add(None, {"a": 1, "b": 2}))
    .when(_edit(default_data={"b": 2, "a": 1}))
    .then(),
    "new default data must satisfy the old schema": given(*OPEN, _add(ORDER_IS_TEXT))
    .when(_edit(default_data={"order": 42}))
    .then(DefaultDataBreaksSchema(code="ORDER", reason='the value is not of type "string"')),
    "a new schema must accept the old default data": given(*ADDED)
    .when(_edit(schema=ORDER_IS_NUMBER))
    .then(DefaultDataBreaksSchema(code="ORDER", reason='the value is not of type "number"')),
    "both may change together": given(*OPEN, _add(ORDER_IS_TEXT))
    .when(_edit(schema=ORDER_IS_NUMBER, default_data={"order": 42}))
    .then(_edited(schema=ORDER_IS_NUMBER, default_data={"order": 42})),
    "the schema of an intent that templates use stays": given(*REFERRED).when(_edit(schema=ORDER_IS_TEXT)).then(IN_USE),
    "unless it is forced": given(*REFERRED)
    .when(_edit(schema=ORDER_IS_TEXT, force=True))
    .then(_edited(schema=ORDER_IS_TEXT)),
    "its name and default data may change": given(*REFERRED)
    .when(_edit(name="Order", default_data={}))
    .then(_edited(name="Order", default_data={})),
    "the same schema again is no change": given(*OPEN, _add(ORDER_IS_TEXT), REFER)
    .when(_edit(schema=ORDER_IS_TEXT))
    .then(),
    "what was not added cannot be edited": given(*OPEN).when(_edit(name="Order")).then(UNKNOWN),
    "nor below a system that is not open": given(WHATSAPP).when(_edit(name="Order")).then(CLOSED),
}

DELETING: dict[str, Scenario] = {
    "an intent is deleted": given(*ADDED).when(DELETE).then(IntentDeleted(system="crm", code="ORDER"), deletes=()),
    "while templates refer to it it is not, and they are named": given(*REFERRED).when(DELETE).then(IN_USE),
    "unless it is forced": given(*REFERRED)
    .when(DeleteIntent(system="crm", code="ORDER", force=True))
    .then(IntentDeleted(system="crm", code="ORDER")),
    "released, it can be deleted": given(*REFERRED, RELEASE)
    .when(DELETE)
    .then(IntentDeleted(system="crm", code="ORDER")),
    "what is deleted is not deleted again": given(*ADDED, DELETE).when(DELETE).then(UNKNOWN),
    "what was never added is not deleted": given(*OPEN).when(DELETE).then(UNKNOWN),
    "nor below a system that is not open": given(WHATSAPP).when(DELETE).then(CLOSED),
}

REFERRING: dict[str, Scenario] = {
    "a template begins to use it": given(*ADDED)
    .when(REFER)
    .then(IntentReferredTo(system="crm", code="ORDER", template="welcome")),
    "once": given(*REFERRED).when(REFER).then(TemplateRefersAlready(system="crm", code="ORDER", template="welcome")),
    "several templates may use it, and all are named": given(
        *REFERRED, ReferToIntent(system="crm", code="ORDER", template="bye")
    )
    .when(DELETE)
    .then(IntentInUse(system="crm", code="ORDER", templates=["bye", "welcome"])),
    "of very many, the first hundred are named, and the others counted": given(
        *ADDED, *(ReferToIntent(system="crm", code="ORDER", template=f"t{number:03}") for number in range(103))
    )
    .when(DELETE)
    .then(IntentInUse(system="crm", code="ORDER", templates=[f"t{number:03}" for number in range(100)], more=3)),
    "a template ends to use it": given(*REFERRED)
    .when(RELEASE)
    .then(IntentReleased(system="crm", code="ORDER", template="welcome")),
    "one that does not use it cannot": given(*ADDED)
    .when(RELEASE)
    .then(TemplateDoesNotRefer(system="crm", code="ORDER", template="welcome")),
    "and may begin again": given(*REFERRED, RELEASE)
    .when(REFER)
    .then(IntentReferredTo(system="crm", code="ORDER", template="welcome")),
    "there must be an intent to refer to": given(*OPEN).when(REFER).then(UNKNOWN),
    "and one to release": given(*OPEN).when(RELEASE).then(UNKNOWN),
    "and a system to refer to": given(WHATSAPP).when(REFER).then(CLOSED),
    "and one to release from": given(WHATSAPP).when(RELEASE).then(CLOSED),
}

SCENARIOS: dict[str, Scenario] = {
    **{f"adding: {name}": one for name, one in ADDING.items()},
    **{f"editing: {name}": one for name, one in EDITING.items()},
    **{f"deleting: {name}": one for name, one in DELETING.items()},
    **{f"referring: {name}": one for name, one in REFERRING.items()},
    "a schema that is none": given(*OPEN)
    .when(_add({"$ref": "https://crm.example/order"}))
    .then(IntentSchemaInvalid(code="ORDER", reason="only references of the form #/$defs/name can be used")),
}


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))
def test_intent(scenario: Scenario) -> None:
    scenario.check()


def _doubling(combine: str, levels: int) -> dict[str, Any]:
    """Each level refers to the next one twice: small to write, and 2 to the power of ``levels`` to work through."""
    levels_below = {f"l{at}": {combine: [{"$ref": f"#/$defs/l{at + 1}"}] * 2} for at in range(levels)}
    return {"$defs": levels_below | {f"l{levels}": {"type": "string"}}, "$ref": "#/$defs/l0"}


def _nested_unevaluated(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"properties": {"order": {}}}
    for _ in range(levels):
        schema = {"allOf": [schema], "unevaluatedProperties": False}
    return schema


BAD_SCHEMAS: dict[str, dict[str, Any]] = {
    "an unknown type": {"type": "text"},
    "a pattern that is no regular expression": {"patternProperties": {"(": {}}},
    "a pattern with a back reference, which takes exponential time": {"properties": {"order": {"pattern": "(a)\\1"}}},
    "a pattern that unfolds without measure": {"properties": {"order": {"pattern": "((a{1000}){1000}){1000}"}}},
    "a reference to the network": {"$ref": "http://127.0.0.1:1/schema"},
    "a reference to a file": {"$ref": "file:///etc/passwd"},
    "a reference to nothing": {"$ref": "#/$defs/nothing"},
    "a reference that is no text": {"$ref": None},
    "a negative length": {"minLength": -1},
    "references that double, under anyOf": _doubling("anyOf", 60),
    "references that double, under allOf": _doubling("allOf", 60),
    "references that double, under oneOf": _doubling("oneOf", 60),
    "references so deep that they would exhaust the stack": {
        "$defs": {f"l{at}": {"$ref": f"#/$defs/l{at + 1}"} for at in range(400)} | {"l400": {}},
        "$ref": "#/$defs/l0",
    },
    "references within a schema of its own name": {
        "$defs": {
            "own": {"$id": "https://crm.example/own", **_doubling("anyOf", 60)},
            **{f"l{at}": {} for at in range(61)},
        },
        "$ref": "#/$defs/own/$defs/l0",
    },
    "references in a circle": {"anyOf": [{"properties": {"a": {"$ref": "#"}}}] * 2},
    "references by a dynamic anchor": {"$dynamicAnchor": "x", "anyOf": [{"$dynamicRef": "#x"}] * 2},
    "unevaluatedProperties, many levels deep": _nested_unevaluated(40),
}


@pytest.mark.timeout(10)
@pytest.mark.parametrize("schema", BAD_SCHEMAS.values(), ids=list(BAD_SCHEMAS))
def test_a_schema_that_cannot_be_used_is_refused_soon(schema: dict[str, Any]) -> None:
    decided = given(*OPEN).when(_add(schema)).decided()

    assert isinstance(decided, IntentSchemaInvalid)
    assert len(decided.message) < 500


GOOD_SCHEMAS: dict[str, dict[str, Any]] = {
    "a definition used twice": {
        "$defs": {"text": {"type": "string"}},
        "properties": {"order": {"$ref": "#/$defs/text"}, "note": {"$ref": "#/$defs/text"}},
    },
    "a property that is called $ref": {"properties": {"$ref": {"type": "string"}}},
    "a constant that holds a $ref": {"properties": {"other": {"const": {"$ref": "#/nowhere"}}}},
    "a property that is called default": {"properties": {"default": {"type": "string"}}},
    "unevaluatedProperties on top": {"allOf": [ORDER_IS_TEXT], "unevaluatedProperties": False},
    "a name of its own and a dialect": {
        "$id": "https://crm.example/order",
        "$schema": "https://json-schema.org/draft/2020-12/schema",
    },
    "a reference with an escaped name": {"$defs": {"a/b~c d": {}}, "$ref": "#/$defs/a~1b~0c%20d"},
}


@pytest.mark.parametrize("schema", GOOD_SCHEMAS.values(), ids=list(GOOD_SCHEMAS))
def test_a_schema_that_can_be_used(schema: dict[str, Any]) -> None:
    given(*OPEN).when(_add(schema)).then(_added(_add(schema))).check()


@pytest.mark.parametrize("number", [10**100, 2**63, 1e308, 5e-324, -0.0])
def test_numbers_of_any_size_are_judged(number: float) -> None:
    below_five = {"properties": {"n": {"maximum": 5}}}

    decided = given(*OPEN).when(_add(below_five, {"n": number})).decided()

    assert isinstance(decided, DefaultDataBreaksSchema) == (number > 5)
