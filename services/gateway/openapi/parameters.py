"""What each parameter means: a name means the same on every route, so it is described once.

A route that needs other words gives its parameter a description of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from contracts.ids import ID_PATTERN, INTENT_CODE_PATTERN, SYSTEM_PATTERN

_PAGE_END = "The next page begins after this: the `next` of the page before."


@dataclass(frozen=True, slots=True)
class Parameter:
    """``schema`` is added to what FastAPI knows; it describes, and does not validate."""

    description: str
    schema: dict[str, Any] = field(default_factory=dict)


_ID = {"pattern": ID_PATTERN}
_PATH = {
    "channel": Parameter("The channel's id.", _ID | {"examples": ["demo-whatsapp"]}),
    "system": Parameter(
        "The business system's id, which is chosen when it is opened.",
        {"pattern": SYSTEM_PATTERN, "examples": ["crm"]},
    ),
    "code": Parameter("The intent's code.", {"pattern": INTENT_CODE_PATTERN, "examples": ["ORDER_STATUS"]}),
    "template": Parameter("The message template's id.", _ID),
    "key_id": Parameter("The signature's id.", _ID | {"examples": ["key-1"]}),
    "message": Parameter("The message's id, which is the Idempotency-Key of its decision.", _ID),
    "delivery": Parameter("The delivery's id, which receivers know as `webhook-id`.", _ID),
    "resource": Parameter("The scheduling resource's id.", _ID),
    "key": Parameter("The API key's id.", _ID),
    "listener": Parameter("The listener's id, which it chose.", _ID),
    "change": Parameter("The proposed change's id, which its author chose.", _ID),
}
_QUERY = {
    "channel": Parameter("Only what is of this channel.", _ID),
    "system": Parameter("Only what is of this business system.", {"pattern": SYSTEM_PATTERN}),
    "template": Parameter("The channel that all others are compared with.", _ID),
    "limit": Parameter("At most so many."),
    "after": Parameter(_PAGE_END),
    "before": Parameter(_PAGE_END),
    "since": Parameter("Only what came at this instant or later."),
    "until": Parameter("Only what came before this instant."),
    "actor": Parameter("Only what this actor did: an API key's id, or a person."),
    "type": Parameter("Only these types of events, commands or rejections."),
    "dry_run": Parameter("Answer with what would happen, and change nothing."),
    "force": Parameter("Delete it although message templates refer to it."),
    "min_version": Parameter(
        "Wait, at most 10 s, until the read model has this version of the channel, which a command's answer named as "
        "`version`. What is called or routed waits for that version too."
    ),
    "wait": Parameter("Wait for so many seconds at most."),
}
_TABLE = {"path": _PATH, "query": _QUERY}


def describe_parameter(parameter: dict[str, Any]) -> None:
    """Completes a parameter object of the OpenAPI document."""
    schema = _without_null(parameter["schema"])
    schema.pop("description", None)  # FastAPI repeats the parameter's
    known = _TABLE.get(parameter["in"], {}).get(parameter["name"])
    if known is not None:
        parameter.setdefault("description", known.description)
        schema = known.schema | schema
    parameter["schema"] = schema


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter can be left out, but there is no null in a path, a query or a header."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return schema
    return {**kinds[0], **{name: value for name, value in schema.items() if name != "anyOf"}}
