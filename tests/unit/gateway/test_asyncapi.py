"""The AsyncAPI document names, describes and shows every message."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest

from contracts import schemas, topics
from services.gateway.asyncapi.document import asyncapi
from services.gateway.asyncapi.examples import DATA

MODELS = {kind: model for topic in topics.TOPICS for kind, model in schemas.messages(topic.name).items()}


def message(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = asyncapi()["components"]["messages"][kind]
    return found


def test_every_message_is_there_once() -> None:
    channels = asyncapi()["channels"].values()
    assert sorted(kind for channel in channels for kind in channel["messages"]) == sorted(MODELS) == sorted(DATA)


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_a_message_has_words_and_an_example_that_is_one(kind: str) -> None:
    described = message(kind)
    assert described["name"] == kind
    assert described["title"]
    assert described["summary"].endswith((".", "…")), described["summary"]
    (example,) = described["examples"]
    payload = example["payload"]
    schema = MODELS[kind].model_json_schema()
    jsonschema_rs.Draft202012Validator(schema).validate(payload)
    assert MODELS[kind].model_validate_json(json.dumps(payload)).model_dump()["type"] == kind
    assert payload["data"].keys() <= schema["$defs"][kind].get("properties", {}).keys()
