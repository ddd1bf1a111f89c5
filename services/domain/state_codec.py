"""Encodes the state records as JSON, and limits their size to what fits in a Kafka record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter
from pydantic_core import from_json, to_json

from contracts.rejection import Rejection
from contracts.rejections import BusinessSystemTooLarge
from services.domain.state import BUSINESS_SYSTEM_BYTES_LIMIT, BusinessSystem, Channel

Record = TypeVar("Record", Channel, BusinessSystem)


Upcast = Callable[[dict[str, Any]], dict[str, Any]]
"""Turns a parsed record into one of the next version of its format."""


class RecordTooNew(ValueError):
    """The record was written by a newer release."""


class RecordFormat(Generic[Record]):
    """The format of one kind of state record; its field ``v`` is the version of the format. Fields with their default
    value are omitted, so that a million channels fit in memory; so a released default never changes.

    ``upcasts`` has one function for each earlier version, oldest first. Adding a field with a default needs none.
    """

    def __init__(self, adapter: TypeAdapter[Record], upcasts: Sequence[Upcast] = ()) -> None:
        self._to_json = adapter.serializer.to_json
        self._from_json = adapter.validator.validate_json
        self._upcasts = upcasts
        self.version = 1 + len(upcasts)
        self._prefix = b'{"v":%d,' % self.version

    def encode(self, record: Record) -> bytes:
        return self._prefix + self._to_json(record, by_alias=True, exclude_defaults=True)[1:]

    def decode(self, value: bytes) -> Record:
        """Raises pydantic's ValidationError on an invalid record, and `RecordTooNew`."""
        found: Record = self._from_json(value if value.startswith(self._prefix) else self._upcast(value))
        return found

    def _upcast(self, value: bytes) -> bytes:
        try:
            parsed = from_json(value)
        except ValueError:
            return value  # the validation reports that it is not JSON
        version = parsed.get("v") if isinstance(parsed, dict) else None
        if not isinstance(version, int) or version < 1:
            return value  # the validation reports that it is not a state record
        if version > self.version:
            raise RecordTooNew(
                f"A state record has format {version}, but this release knows none after {self.version}; "
                "run the newer release again, or `switchboard state rebuild` of this one."
            )
        for upcast in self._upcasts[version - 1 :]:
            parsed = upcast(parsed)
        return to_json(parsed)


CHANNEL = RecordFormat(TypeAdapter(Channel))
BUSINESS_SYSTEM = RecordFormat(TypeAdapter(BusinessSystem))


_RESERVED_BYTES = 1024
"""For what grows without a size check: a second signature, and longer version numbers."""


def too_large(name: str, after: BusinessSystem, before: BusinessSystem) -> Rejection | None:
    """Refuses a change that makes a system's record exceed its limit; a change that shrinks it is never refused."""
    size = _size(after)
    if size <= BUSINESS_SYSTEM_BYTES_LIMIT or size < _size(before):
        return None
    return BusinessSystemTooLarge(system=name, size=size, limit=BUSINESS_SYSTEM_BYTES_LIMIT)


def _size(system: BusinessSystem) -> int:
    return len(BUSINESS_SYSTEM.encode(replace(system, signatures=()))) + _RESERVED_BYTES
