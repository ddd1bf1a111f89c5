"""The state records as bytes, and the limit that keeps every one of them within what a Kafka record holds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from pydantic import TypeAdapter

from contracts.rejections import BusinessSystemTooLarge, Rejection
from services.domain.state import BUSINESS_SYSTEM_BYTES_LIMIT, BusinessSystem, Channel, Deletions

Record = TypeVar("Record", Channel, BusinessSystem)


@dataclass(frozen=True)
class RecordFormat(Generic[Record]):
    """How one kind of state record is written and read; ``v`` is the version of its format."""

    adapter: TypeAdapter[Record]

    def encode(self, record: Record) -> bytes:
        return b'{"v":1,' + self.adapter.dump_json(record)[1:]

    def decode(self, value: bytes) -> Record:
        return self.adapter.validate_json(value)


CHANNEL = RecordFormat(TypeAdapter(Channel))
BUSINESS_SYSTEM = RecordFormat(TypeAdapter(BusinessSystem))


def too_large(name: str, after: BusinessSystem, before: BusinessSystem) -> Rejection | None:
    """Refuses a change that takes a system's record past its limit; what we remember of deletions does not count.

    What makes it smaller is never refused: a refreshed signature, which is not asked, may have taken it past.
    """
    size = _size(after)
    if size <= BUSINESS_SYSTEM_BYTES_LIMIT or size < _size(before):
        return None
    return BusinessSystemTooLarge(system=name, size=size, limit=BUSINESS_SYSTEM_BYTES_LIMIT)


def _size(system: BusinessSystem) -> int:
    return len(BUSINESS_SYSTEM.encode(replace(system, deleted_intents=Deletions())))
