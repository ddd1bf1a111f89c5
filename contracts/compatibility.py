"""Whether a change to the messages breaks somebody: an existing publisher or an existing subscriber.

A publisher writes by the schema that it was built with, and we read by ours; a subscriber reads by the schema that it
was built with what we write by ours; and whoever reads from the beginning, ourselves included, reads by the new schema
what was written by the old one. All are one question: does everything that the writer may write fit the reader? Covers
the part of JSON Schema that the models produce.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .schemas import PUBLISHED_TO_US

Schema = dict[str, Any]
Schemas = dict[str, dict[str, Schema]]
"""By topic, by type."""

_LOWER_BOUNDS = ("minLength", "minimum", "exclusiveMinimum", "minItems", "minProperties")
_UPPER_BOUNDS = ("maxLength", "maximum", "exclusiveMaximum", "maxItems", "maxProperties")


def breaks(released: Schemas, now: Schemas) -> list[str]:
    """A sentence for each way in which what was released would no longer work."""
    return [
        sentence
        for topic, kinds in released.items()
        for kind, before in kinds.items()
        for sentence in _breaks(topic, kind, before, now.get(topic, {}).get(kind))
    ]


def _breaks(topic: str, kind: str, before: Schema, after: Schema | None) -> Iterator[str]:
    if topic in PUBLISHED_TO_US:
        whom = f"it would break publishers to {topic} that send {kind}"
        misfits = ["it is no longer taken"] if after is None else _Fit(before, after).misfits()
    else:
        whom = f"it would break subscribers to {topic} that read {kind}"
        misfits = ["it is no longer sent"] if after is None else _Fit(after, before, reads_all=True).misfits()
    yield from (f"{kind}: {misfit}; {whom}." for misfit in misfits)
    if topic not in PUBLISHED_TO_US and after is not None:
        yield from (
            f"{kind}: {misfit}; it would break new subscribers to {topic}, which read what is there already."
            for misfit in _Fit(before, after).misfits()
        )


@dataclass(frozen=True, slots=True)
class _Fit:
    """``reads_all``: the reader may count on every field that it knows, so none may go away."""

    writer: Schema
    reader: Schema
    reads_all: bool = False

    def misfits(self) -> list[str]:
        return list(self._compare(self.writer, self.reader, ""))

    def _compare(self, written: Schema, read: Schema, at: str) -> Iterator[str]:
        written, read = _resolved(written, self.writer), _resolved(read, self.reader)
        name = f"'{at}'" if at else "the message"
        if "anyOf" in written or "anyOf" in read:
            for option in written.get("anyOf", [written]):
                options = [list(self._compare(option, other, at)) for other in read.get("anyOf", [read])]
                yield from min(options, key=len)
            return
        if _values(read) is not None:
            beyond = [value for value in _values(written) or ["any value"] if value not in (_values(read) or ())]
            if beyond:
                yield f"{name} may be {', '.join(map(repr, beyond))}, which is not expected"
            return
        if "type" in read and not _type_fits(written.get("type", _type_of_values(written)), read["type"]):
            yield f"{name} is written as {written.get('type', 'anything')} and read as {read['type']}"
            return
        yield from self._bounds(written, read, name)
        if read.get("type") == "object":
            yield from self._object(written, read, at)
        if "items" in read:
            yield from self._compare(written.get("items", {}), read["items"], f"{at}[]")

    def _bounds(self, written: Schema, read: Schema, name: str) -> Iterator[str]:
        if _values(written) is not None:
            return
        for bound in _LOWER_BOUNDS:
            if bound in read and written.get(bound, float("-inf")) < read[bound]:
                yield f"{name} may be below the {bound} of {read[bound]} that is read"
        for bound in _UPPER_BOUNDS:
            if bound in read and written.get(bound, float("inf")) > read[bound]:
                yield f"{name} may be above the {bound} of {read[bound]} that is read"
        if "pattern" in read and written.get("pattern") != read["pattern"]:
            yield f"{name} need not match {read['pattern']}, as is expected"

    def _object(self, written: Schema, read: Schema, at: str) -> Iterator[str]:
        ours, theirs = written.get("properties", {}), read.get("properties", {})
        inside = f"{at}." if at else ""
        for field, schema in theirs.items():
            if field in ours:
                yield from self._compare(ours[field], schema, inside + field)
            elif self.reads_all and written.get("properties") is not None:
                yield f"'{inside}{field}' is no longer there"
        for field in read.get("required", ()):
            if field in ours and field not in written.get("required", ()):
                yield f"'{inside}{field}' may be left out, but is needed"
            elif field not in ours and not self.reads_all:
                yield f"'{inside}{field}' is needed, and nobody sends it"
        if read.get("additionalProperties") is False:
            for field in ours.keys() - theirs.keys():
                yield f"'{inside}{field}' is not known any more"


def _resolved(schema: Schema, whole: Schema) -> Schema:
    while "$ref" in schema:
        schema = whole["$defs"][schema["$ref"].rsplit("/", 1)[-1]]
    return schema


def _values(schema: Schema) -> list[Any] | None:
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _type_of_values(schema: Schema) -> str | None:
    names = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
    kinds = {names[type(value)] for value in _values(schema) or ()}
    return kinds.pop() if len(kinds) == 1 else None


def _type_fits(written: str | None, read: str) -> bool:
    return written == read or (written, read) == ("integer", "number")
