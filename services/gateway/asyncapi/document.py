"""The AsyncAPI 3 document, from the models that we validate with. It has no servers: every deployment has its own."""

from __future__ import annotations

from functools import cache
from typing import Any, cast

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from contracts import schemas, topics
from contracts.envelope import GENESIS
from contracts.message_types import EVENTS, Event
from services.gateway.asyncapi.examples import DATA, NOON
from services.gateway.problems import title

_ABOUT = (
    "The service settings of chat message channels. A record's key is the channel's id unless said otherwise, its "
    "value a CloudEvents 1.0 message in structured mode; read with isolation level read_committed. An account's events "
    "come over HTTP too: GET /v1/changes, as server-sent events (Accept: text/event-stream) or by polling (without)."
)
_KEY = {"type": "string", "description": "the channel's id, which decides the partition: murmur2 of it"}
_OTHER_KEYS = {
    topics.SCHEDULING_RESOURCES.name: {
        "type": "string",
        "description": "the resource's id; a record without a value withdraws it",
    },
    topics.ACCESS_LOG.name: {
        "type": "string",
        "description": "the id of the account that is concerned; ~platform where there is none",
    },
    topics.RATES.name: {"type": "string", "description": "rate-book: the last record is the rate book"},
}
_CONTENT_TYPE_HEADER = {"type": "string", "const": "application/cloudevents+json; charset=UTF-8"}
_HEADERS = {"type": "object", "properties": {"content-type": _CONTENT_TYPE_HEADER}}
_OUTCOME_HEADERS = {
    "type": "object",
    "properties": {
        "content-type": _CONTENT_TYPE_HEADER,
        "causationid": {"type": "string", "description": "the command's id"},
        "digest": {
            "type": "string",
            "description": "hex SHA-256 of the command's content; only where the command was decided",
        },
    },
    "required": ["causationid"],
}


@cache
def asyncapi() -> dict[str, Any]:
    """Returns the document."""
    described = {topic.name: schemas.messages(topic.name) for topic in topics.TOPICS}
    models = {kind: model for messages in described.values() for kind, model in messages.items()}
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    for topic in topics.TOPICS:
        kinds = described[topic.name]
        if not kinds:
            continue
        name = topic.name.removeprefix("switchboard.")
        channels[name] = {
            "address": topic.name,
            "title": name.replace("-", " ").capitalize(),
            "description": topic.holds,
            "bindings": {"kafka": {"topic": topic.name, "bindingVersion": "0.4.0"}},
            "messages": {kind: {"$ref": f"#/components/messages/{kind}"} for kind in kinds},
        }
        operations[name] = {
            "action": "receive" if topic.name in schemas.PUBLISHED_TO_US else "send",
            "channel": {"$ref": f"#/channels/{name}"},
            "messages": [{"$ref": f"#/channels/{name}/messages/{kind}"} for kind in kinds],
        }
        messages |= {kind: _message(topic.name, kind, model) for kind, model in kinds.items()}
    _, defined = models_json_schema(
        [(model, "validation") for model in models.values()], ref_template="#/components/schemas/{model}"
    )
    for schema in defined["$defs"].values():
        _adapt(schema)
    return {
        "asyncapi": "3.0.0",  # modelina takes no later version
        "info": {"title": "Switchboard", "version": "1", "description": _ABOUT},
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": defined["$defs"]},
    }


def _message(topic: str, kind: str, model: type[BaseModel]) -> dict[str, Any]:
    example: dict[str, Any] = {
        "name": f"{kind}Example",
        "summary": title(kind),
        "payload": _example(topic, kind, model),
    }
    message: dict[str, Any] = {
        "name": kind,
        "title": title(kind),
        "summary": " ".join((model.__doc__ or "").split("\n\n")[0].replace("``", "`").split()),
        "contentType": "application/cloudevents+json",
        "headers": _HEADERS,
        "payload": {"$ref": f"#/components/schemas/{model.__name__}"},
        "bindings": {"kafka": {"key": _OTHER_KEYS.get(topic, _KEY), "bindingVersion": "0.4.0"}},
        "examples": [example],
    }
    if topic == topics.OUTCOMES.name:
        correlation = {"location": "$message.header#/causationid"}
        message |= {"headers": _OUTCOME_HEADERS, "correlationId": correlation}
        example["headers"] = {"causationid": "command-1"}
    return message


def _example(topic: str, kind: str, model: type[BaseModel]) -> dict[str, Any]:
    """A whole message: what its envelope needs, and the data."""
    identity = "01a21fa5-c7fa-7421-bbe6-094e3d0e0076"
    envelope: dict[str, Any] = {
        "specversion": "1.0",
        "id": "command-1" if topic in schemas.PUBLISHED_TO_US else identity,
        "type": kind,
        "source": "crm.acme.example" if topic in schemas.PUBLISHED_TO_US else "switchboard",
        "subject": "shop",
        "time": NOON,
        "accountid": "acme",
        "actor": "anna@acme.example",
        "sequence": 7,
        "partitionsequence": 4711,
        "previoushash": GENESIS,
        "causationid": "command-1",
        "correlationid": "command-1",
        "datacontenttype": "application/json",
    }
    known = {name: value for name, value in envelope.items() if name in model.model_fields}
    if kind in EVENTS:
        known["resource"] = cast("Event", EVENTS[kind].model_construct(**DATA[kind])).resource
    return known | {"data": DATA[kind]}


def _adapt(schema: Any) -> None:
    """Changes what Pydantic makes into what AsyncAPI has.

    A field's title is only its name in other letters. Generators of code name types by it, and so the enums of all
    fields with one name would be one type. A discriminator is an object in OpenAPI, and a name here.
    """
    if isinstance(schema, list):
        for one in schema:
            _adapt(one)
    elif isinstance(schema, dict):
        schema.pop("title", None)
        if "discriminator" in schema and "oneOf" in schema:
            schema["discriminator"] = schema["discriminator"]["propertyName"]
        for keyword, value in schema.items():
            if keyword == "properties":
                for field in value.values():
                    _adapt(field)
            elif keyword not in ("const", "default", "enum", "examples"):
                _adapt(value)
