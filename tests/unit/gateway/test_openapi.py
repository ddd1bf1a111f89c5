"""The OpenAPI document says all of every route. A failure here says what to write beside the route."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contracts.message_types import COMMANDS
from contracts.outcome import CommandRejected
from contracts.proposed_change import ApplyChange
from contracts.rejections import REJECTIONS
from services.gateway.openapi.rejections import REJECTIONS as REJECTIONS_OF_COMMANDS
from services.gateway.openapi.tags import TAGS
from services.gateway.problem_types import PROBLEM_TYPES, raises
from services.gateway.problems import problem_of_rejection
from tests.api_document import document, operations

GATEWAY = Path(__file__).parents[3] / "services" / "gateway"
JSON = "application/json"


def test_every_route_has_a_response_model() -> None:
    for method, path, operation in operations():
        name = f"{method} {path}"
        for status, response in operation["responses"].items():
            if status.startswith("2"):
                schema = response["content"][JSON]["schema"]
                assert "$ref" in schema or "anyOf" in schema, (
                    f"{name} needs response_model=, a TypedDict that describes the answer, beside what reads it."
                )
                assert response["description"] != "Successful Response", f"The answer of {name} needs a docstring."


def test_every_route_and_parameter_is_described() -> None:
    for method, path, operation in operations():
        name = f"{method} {path}"
        assert operation.get("description"), f"The route {name} needs a docstring: what it does, for its callers."
        for parameter in operation.get("parameters", ()):
            where = f"{parameter['in']} parameter {parameter['name']!r} of {name}"
            assert parameter.get("description"), (
                f"The {where} needs Query(description=…), or a row in services/gateway/openapi/parameters.py if it "
                "means the same on other routes."
            )
            if parameter["in"] == "path":
                assert "pattern" in parameter["schema"], f"The {where} needs a pattern."


def test_operations_have_short_names_and_known_tags() -> None:
    names = [operation["operationId"] for _, _, operation in operations()]
    assert sorted(names) == sorted(set(names)), "Two routes have functions of the same name."
    tags = {tag["name"] for tag in TAGS}
    for method, path, operation in operations():
        name = f"{method} {path}"
        assert re.fullmatch("[a-z][A-Za-z]{2,30}", operation["operationId"]), name
        assert set(operation["tags"]) <= tags, f"{name} needs a tag of services/gateway/openapi/tags.py."


def test_every_problem_of_the_code_is_in_the_table() -> None:
    for path in set(GATEWAY.rglob("*.py")) - set(GATEWAY.glob("console/**/*.py")):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Problem":
                status, name = call.args[:2]
                if isinstance(status, ast.Constant) and isinstance(name, ast.Constant):
                    known = PROBLEM_TYPES.get(str(name.value))
                    where = f"{path.name}:{call.lineno}"
                    assert known is not None, f"{where}: PROBLEM_TYPES needs {name.value!r}, with an example."
                    assert status.value in known.statuses, f"{where}: PROBLEM_TYPES says {known.statuses}."


def test_a_problem_that_is_not_in_the_table_cannot_be_declared() -> None:
    with pytest.raises(ValueError, match="'NoSuchThing' is not in PROBLEM_TYPES; add it there"):
        raises("NoSuchThing")


def test_every_problem_has_an_example_that_an_operation_shows() -> None:
    shown = {
        name
        for _, _, operation in operations()
        for response in operation["responses"].values()
        for name in response.get("content", {}).get("application/problem+json", {}).get("examples", {})
    }
    elsewhere = {"RouteUnknown", "MethodNotAllowed", "ClientLeft"}
    of_the_decider_alone = {*REJECTIONS_OF_COMMANDS[ApplyChange.__name__]} - shown
    assert shown | elsewhere | of_the_decider_alone == set(PROBLEM_TYPES)
    assert REJECTIONS.keys() <= shown | of_the_decider_alone
    for example in document()["components"]["examples"].values():
        assert example["value"].keys() >= {"type", "title", "status", "detail"}
        assert "{" not in example["value"]["detail"]


def test_every_command_says_what_it_is_refused_for() -> None:
    assert REJECTIONS_OF_COMMANDS.keys() == COMMANDS.keys()
    sent = {operation.get("x-switchboard-command") for _, _, operation in operations()}
    assert sent >= COMMANDS.keys() - {ApplyChange.__name__}, "Every command has a route, but the decider's own."


def test_generated_names_are_ours() -> None:
    def titles(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if isinstance(value.get("title"), str):
                yield value["title"]
            for one in value.values():
                yield from titles(one)
        elif isinstance(value, list):
            for one in value:
                yield from titles(one)

    assert list(titles(document()["paths"])) == []
    assert list(titles(document()["components"]["schemas"])) == []
    assert "HTTPValidationError" not in document()["components"]["schemas"]
    references = set(re.findall(r"'\$ref': '#/components/schemas/(\w+)'", str(document())))
    assert references <= document()["components"]["schemas"].keys()
    assert "#/$defs/" not in str(document())


@pytest.mark.parametrize("name", sorted(REJECTIONS))
def test_every_rejection_becomes_the_problem_of_its_example(name: str) -> None:
    example = document()["components"]["examples"][name]["value"]
    facts = {fact: value for fact, value in example.items() if fact in REJECTIONS[name].model_fields}
    rejected = CommandRejected(rejection=name, message=example["detail"], version=example.get("version"), **facts)
    problem = problem_of_rejection(rejected, example["command_id"])
    assert json.loads(bytes(problem.response().body)) == example
