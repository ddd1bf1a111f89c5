"""The AsyncAPI 3 document: the topics for publishers and subscribers, described by the models that we validate with."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from functools import cache
from typing import Any

from faststream.kafka import KafkaBroker
from faststream.specification import AsyncAPI

from contracts import schemas, topics

_VERSION = "1"
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
_OUTCOME_HEADERS = {
    "type": "object",
    "properties": {
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
    """Returns the document. It names no servers, because every deployment has its own."""
    broker = KafkaBroker()
    for topic in topics.TOPICS:
        title = topic.name.removeprefix("switchboard.")
        if topic.name in schemas.PUBLISHED_TO_US:
            broker.subscriber(topic.name, title=title, description=topic.holds)(_reader(schemas.union(topic.name)))
        elif schemas.messages(topic.name):
            broker.publisher(
                topic.name, schema=schemas.union(topic.name), title=title, description=topic.holds, batch=False
            )
    document = AsyncAPI(broker, title="Switchboard", version=_VERSION, description=_ABOUT, schema_version="3.0.0")
    found: dict[str, Any] = json.loads(document.to_specification().to_json())
    del found["servers"]
    for channel in found["channels"].values():
        del channel["servers"]
    for schema in found["components"]["schemas"].values():
        _untitle(schema)
    for name, message in found["components"]["messages"].items():
        del message["correlationId"]  # a header of FastStream's own, which our records do not have
        key = _OTHER_KEYS.get(f"switchboard.{name.split(':', 1)[0]}", _KEY)
        message["bindings"] = {"kafka": {"key": key, "bindingVersion": "0.4.0"}}
        if name.startswith("outcomes:"):
            message |= {"headers": _OUTCOME_HEADERS, "correlationId": {"location": "$message.header#/causationid"}}
    return found


def _untitle(schema: Any) -> None:
    """Removes the titles that Pydantic makes of fields' names. Generators of code name types by the title, and so the
    enums of all fields with one name would be one type."""
    if isinstance(schema, list):
        for one in schema:
            _untitle(one)
    elif isinstance(schema, dict):
        schema.pop("title", None)
        for keyword, value in schema.items():
            if keyword == "properties":
                for field in value.values():
                    _untitle(field)
            elif keyword not in ("const", "default", "enum", "examples"):
                _untitle(value)


def _reader(message_type: Any) -> Callable[[Any], Coroutine[Any, Any, None]]:
    """Returns a handler that is never called: the document describes the type of its argument."""

    async def read(message: Any) -> None:
        pass

    read.__annotations__["message"] = message_type
    return read
