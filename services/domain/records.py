"""The state records as bytes, and the limit that keeps every one of them within what a Kafka record holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter
from pydantic_core import from_json, to_json

from contracts.rejections import BusinessSystemTooLarge, Rejection
from services.domain.state import BUSINESS_SYSTEM_BYTES_LIMIT, BusinessSystem, Channel

Record = TypeVar("Record", Channel, BusinessSystem)


Upcast = Callable[[dict[str, Any]], dict[str, Any]]
"""Makes a record of the next version of its format from a parsed one."""


class RecordTooNew(ValueError):
    """The record was written by a newer release than this one."""


class RecordFormat(Generic[Record]):
    """How one kind of state record is written and read; ``v`` is the version of its format. Fields at their defaults
    are left out, so that a million channels fit; so a default, once released, never changes.

    ``upcasts`` are one for each version before the present one, the oldest first. A field that is only added, with a
    default, needs none.
    """

    def __init__(self, adapter: TypeAdapter[Record], upcasts: Sequence[Upcast] = ()) -> None:
        self._to_json = adapter.serializer.to_json
        self._from_json = adapter.validator.validate_json
        self._upcasts = upcasts
        self.version = 1 + len(upcasts)
        self._begin = b'{"v":%d,' % self.version

    def encode(self, record: Record) -> bytes:
        return self._begin + self._to_json(record, exclude_defaults=True)[1:]

    def decode(self, value: bytes) -> Record:
        """Raises pydantic's ValidationError where it is no such record, and `RecordTooNew`."""
        found: Record = self._from_json(value if value.startswith(self._begin) else self._upcast(value))
        return found

    def _upcast(self, value: bytes) -> bytes:
        try:
            parsed = from_json(value)
        except ValueError:
            return value  # no JSON, and the validation says so
        version = parsed.get("v") if isinstance(parsed, dict) else None
        if not isinstance(version, int) or version < 1:
            return value  # no record of ours, and the validation says so
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


_ROOM = 1024
"""Bytes of a record for what grows without being asked: a second signature, and versions that get longer."""


def too_large(name: str, after: BusinessSystem, before: BusinessSystem) -> Rejection | None:
    """Refuses a change that takes a system's record past its limit; what makes it smaller is never refused."""
    size = _size(after)
    if size <= BUSINESS_SYSTEM_BYTES_LIMIT or size < _size(before):
        return None
    return BusinessSystemTooLarge(system=name, size=size, limit=BUSINESS_SYSTEM_BYTES_LIMIT)


def _size(system: BusinessSystem) -> int:
    return len(BUSINESS_SYSTEM.encode(replace(system, signatures=()))) + _ROOM
