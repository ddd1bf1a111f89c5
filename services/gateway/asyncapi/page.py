"""The AsyncAPI document as a page that people read: one file, without scripts, and nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup, escape

from services.gateway.asyncapi.document import asyncapi

Schema = dict[str, Any]

_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
_LIMITS = {
    "minLength": "{} or more characters",
    "maxLength": "up to {} characters",
    "minimum": "≥ {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minItems": "at least {}",
    "maxItems": "at most {}",
    "pattern": "like {}",
}
_ENVELOPE = {
    "specversion": "Of CloudEvents.",
    "id": "The message's own: a repeated command is recognised by it.",
    "source": "Who published it.",
    "subject": "The channel.",
    "time": "When, in RFC 3339.",
    "accountid": "The account.",
    "actor": "Who asked for it.",
    "actorname": "The actor's name for people.",
    "actorowner": "The person to whom the actor, an API key, belongs.",
    "sourceaddress": "The IP address from which it was asked for.",
    "useragent": "What the client says it is.",
    "requestid": "The id of the HTTP request.",
    "commandsource": "The `source` of the command.",
    "commandtype": "The `type` of the command.",
    "causationid": "The id of the command that led to it.",
    "correlationid": "The same for all that belongs together; the first command's id unless it has another.",
    "traceparent": "W3C Trace Context.",
    "tracestate": "W3C Trace Context.",
    "sequence": "Counts the channel's events: its version.",
    "partitionsequence": "Counts the events of the partition, without gaps.",
    "previoushash": "SHA-256 of the channel's event before it.",
    "resource": "What it changes, as a path.",
    "expectedversion": "Refused if what it changes has changed since that version.",
    "dryrun": "Only says what would happen.",
    "datacontenttype": "Of `data`.",
    "dataschema": "The URI of a schema; not read.",
    "repeated": "Whether the command was answered before.",
}


@dataclass(frozen=True, slots=True)
class Field:
    """A row of a table; ``name`` is a path, such as ``rates[].country``."""

    name: str
    kind: str
    required: bool
    about: str


@cache
def page() -> str:
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    templates.filters |= {"code": _code, "json": lambda value: json.dumps(value, indent=2, ensure_ascii=False)}
    return templates.get_template("page.html").render(
        document=asyncapi(),
        envelope=_envelope,
        data=_data,
        more=_more,
        name_of=lambda reference: reference["$ref"].split("/")[-1],
    )


@cache
def content_security_policy() -> str:
    """Allows the page's own style, by its hash."""
    [style] = _STYLE.findall(page())
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src 'self'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )


def _code(text: str) -> Markup:
    """Text in which ``what stands`` in backticks is code."""
    return Markup(re.sub("`+([^`]+)`+", r"<code>\1</code>", str(escape(text))))  # noqa: S704 -- it is escaped


def _envelope(message: Schema) -> list[Field]:
    """What the message has beside its data."""
    schema = _resolved(message["payload"])
    rest = {name: field for name, field in schema["properties"].items() if name not in ("data", "type")}
    found = [
        replace(field, about=_ENVELOPE.get(field.name, field.about))
        for field in _fields({**schema, "properties": rest})
    ]
    return sorted(found, key=lambda field: not field.required)


def _data(message: Schema) -> list[Field]:
    return list(_fields(_resolved(_resolved(message["payload"])["properties"]["data"])))


def _fields(schema: Schema, prefix: str = "", seen: frozenset[str] = frozenset()) -> Iterator[Field]:
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        about = field.get("description", "").split("\n\n")[0]
        if field.get("default") not in (None, {}, [], ()):
            about = f"{about} Default: `{json.dumps(field['default'])}`.".strip()
        yield Field(f"{prefix}{name}", _kind(field), name in required, about)
        for reference, suffix in _objects(field):
            if reference not in seen:
                yield from _fields(_resolved({"$ref": reference}), f"{prefix}{name}{suffix}.", seen | {reference})


def _objects(schema: Schema, suffix: str = "") -> Iterator[tuple[str, str]]:
    """References to the one object that a field holds, or that its items are. A choice of several is not shown."""
    if "$ref" in schema:
        yield schema["$ref"], suffix
    elif "items" in schema:
        yield from _objects(schema["items"], "[]")
    elif len(choices := _not_null(schema)) == 1:
        yield from _objects(choices[0], suffix)


def _more(message: Schema) -> list[str]:
    """What the message's description has after its summary: a text for each paragraph."""
    description: str = asyncapi()["components"]["schemas"][message["name"]].get("description", "")
    return description.split("\n\n")[1:]


def _kind(schema: Schema) -> str:
    """A type in words."""
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " | ".join(json.dumps(one) for one in schema["enum"])
    if choices := _not_null(schema):
        return " | ".join(dict.fromkeys(_kind(one) for one in choices))
    if "$ref" in schema:
        target = _resolved(schema)
        return "object" if "properties" in target or target.get("type") == "object" else _kind(target)
    kind = schema.get("type", "any JSON")
    if kind == "array":
        kind = f"list of {_kind(schema.get('items', {}))}"
    limits = [words.format(schema[limit]) for limit, words in _LIMITS.items() if limit in schema]
    return f"{kind}, {', '.join(limits)}" if limits else kind


def _not_null(schema: Schema) -> list[Schema]:
    return [one for one in (*schema.get("anyOf", ()), *schema.get("oneOf", ())) if one.get("type") != "null"]


def _resolved(schema: Schema) -> Schema:
    if "$ref" not in schema:
        return schema
    found: Schema = asyncapi()["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found
