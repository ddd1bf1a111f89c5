"""Scheduling resources: what was reported of each, and the units that were taken since.

A resource's row is locked before a unit of it is taken or given back, in the order of the resources' names, so that
several routers never hand out the same unit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import structlog
from pydantic import ValidationError

from contracts.envelope import InvalidEnvelope, UndecodableEnvelope, read_command, validation_message
from contracts.ids import is_id
from contracts.message import rfc3339, unix_milliseconds
from contracts.scheduling_resource import ReportSchedulingResource
from services.domain.message_routing.route import NoUnit, Pool, Unit
from services.infrastructure.postgres import Connection
from services.message_router.outbox import ALL_VERIFIED, NotVerified

log = structlog.stdlib.get_logger(__name__)

_SELECT = """
    SELECT resource, country, sender, units, as_of, valid_until, withdrawn, taken{more} FROM message_router.resources
    WHERE country = ANY($1::text[]) OR resource = ANY($2::text[]) ORDER BY resource COLLATE "C"
"""
_READ = _SELECT.format(more="")
_LOCK = f"{_SELECT.format(more=f', {ALL_VERIFIED} AS all_verified')} FOR UPDATE"
_LOCK_ALL = 'SELECT FROM message_router.resources ORDER BY resource COLLATE "C" FOR UPDATE'
_SAVE = """
    UPDATE message_router.resources r SET taken = n.taken
    FROM unnest($1::text[], $2::bigint[]) AS n(resource, taken) WHERE r.resource = n.resource
"""
_REPORT = """
    INSERT INTO message_router.resources AS r (resource, country, sender, units, as_of, valid_until)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (resource) DO UPDATE SET country = $2, sender = $3, units = $4, as_of = $5, valid_until = $6,
        withdrawn = false
    WHERE r.as_of <= $5
    RETURNING resource
"""
# A statement of its own, after the row is locked: it sees every reservation that was made under the lock.
_COUNT_TAKEN = """
    UPDATE message_router.resources SET taken = (
        SELECT count(*) FROM message_router.messages
        WHERE resource = $1 AND decided_at >= $2 AND reservation IN ('reserved', 'posted'))
    WHERE resource = $1
"""
_COUNT_ALL_TAKEN = """
    UPDATE message_router.resources r SET taken = (
        SELECT count(*) FROM message_router.messages m
        WHERE m.resource = r.resource AND m.decided_at >= r.as_of AND m.reservation IN ('reserved', 'posted'))
"""


@dataclass(slots=True)
class Resource:
    """A locked row. Times are Unix milliseconds."""

    resource: str
    country: str
    sender: str
    units: int
    as_of: int
    valid_until: int
    withdrawn: bool
    taken: int
    changed: bool = False

    @property
    def available(self) -> int:
        return self.units - self.taken


_COLUMNS = tuple(one.name for one in fields(Resource) if one.name != "changed")


class LockedResources:
    """The locked resources of some countries, and some by name, within a transaction."""

    def __init__(self, rows: Iterable[Any]) -> None:
        self._by_name = {row["resource"]: Resource(**row) for row in rows}
        self._by_country: dict[str, list[Resource]] = {}
        for one in self._by_name.values():
            self._by_country.setdefault(one.country, []).append(one)

    @classmethod
    async def lock(cls, connection: Connection, countries: Collection[str], names: Collection[str]) -> LockedResources:
        if not countries and not names:
            return cls(())
        rows = await connection.fetch(_LOCK, list(countries), list(names))
        if countries and not all(row["all_verified"] for row in rows):
            raise NotVerified  # a partition that is not restored yet may have taken any unit
        return cls({name: row[name] for name in _COLUMNS} for row in rows)

    @classmethod
    async def read(cls, connection: Connection, countries: Collection[str]) -> LockedResources:
        """The same without locks, for who changes nothing."""
        return cls(await connection.fetch(_READ, list(countries), []))

    def pool_of(self, country: str, now: int) -> tuple[Pool, dict[str, Any]]:
        """A unit that a message may have, or why there is none; and what was seen, for the decision's record."""
        here = [one for one in self._by_country.get(country, ()) if not one.withdrawn]
        fresh = [one for one in here if now <= one.valid_until]
        seen = {
            "resources": {
                one.resource: {
                    "available": one.available,
                    "stale": now > one.valid_until,
                    "sender": one.sender,
                    "as_of": rfc3339(one.as_of),
                }
                for one in here
            }
        }
        return choose(fresh, any_reported=bool(here)), seen

    def newest_report(self) -> int:
        """Unix milliseconds; 0 where there is none."""
        return max((one.as_of for one in self._by_name.values()), default=0)

    def take(self, resource: str, decided_at: int) -> None:
        """Counts a unit as taken, unless the last report, being later than the decision, knows of it."""
        self._count(resource, decided_at, 1)

    def give_back(self, resource: str, decided_at: int) -> None:
        self._count(resource, decided_at, -1)

    def _count(self, resource: str, decided_at: int, units: int) -> None:
        one = self._by_name.get(resource)  # None where a lost database is not yet told of it again
        if one is not None and decided_at >= one.as_of:
            one.taken += units
            one.changed = True

    async def save(self, connection: Connection) -> None:
        changed = [one for one in self._by_name.values() if one.changed]
        if changed:
            await connection.execute(_SAVE, [one.resource for one in changed], [one.taken for one in changed])


async def count_taken(connection: Connection) -> None:
    """Counts the taken units of each resource from the messages, which is what the counts stand for."""
    await connection.execute(_LOCK_ALL)
    await connection.execute(_COUNT_ALL_TAKEN)


def choose(fresh: Sequence[Resource], *, any_reported: bool) -> Pool:
    """The fresh resource with the most units left, or why none has one."""
    with_units = [one for one in fresh if one.available > 0]
    if with_units:
        best = max(with_units, key=lambda one: (one.available, one.resource))
        return Unit(best.resource, best.sender)
    if fresh:
        return NoUnit("ResourcesExhausted")
    return NoUnit("ResourcesStale" if any_reported else "NoResources")


def pool_of_record(seen: dict[str, Any]) -> Pool:
    """The pool of a decision's record, to decide again."""
    resources = [
        Resource(name, "", one["sender"], one["available"], 0, 0, withdrawn=False, taken=0)
        for name, one in seen["resources"].items()
        if not one["stale"]
    ]
    return choose(resources, any_reported=bool(seen["resources"]))


async def apply_reports(connection: Connection, _: int, records: Sequence[Any]) -> None:
    """Applies reports of one partition; a report that is older than the known one, or unreadable, changes nothing."""
    for record in sorted(records, key=lambda one: one.key or b""):  # stable: the order within a resource stays
        try:
            name = (record.key or b"").decode()
            if record.value is None:
                if not is_id(name):
                    raise ValueError("the record's key must be the resource")
                await connection.execute(
                    "UPDATE message_router.resources SET withdrawn = true WHERE resource = $1", name
                )
                continue
            report = ReportSchedulingResource.model_validate(read_command(record.value).data)
            if report.resource != name:
                raise ValueError("the record's key must be the resource")
        except (UndecodableEnvelope, InvalidEnvelope, ValidationError, ValueError) as error:
            reason = validation_message(error, "data") if isinstance(error, ValidationError) else str(error)
            log.warning(
                "report ignored", topic=record.topic, partition=record.partition, offset=record.offset, reason=reason
            )
            continue
        # A platform whose clock is ahead must not make us forget what we reserve until then.
        as_of = min(unix_milliseconds(report.as_of), record.timestamp)
        valid_until = as_of + report.valid_seconds * 1000
        if await connection.fetchval(_REPORT, name, report.country, report.sender, report.units, as_of, valid_until):
            await connection.execute(_COUNT_TAKEN, name, as_of)
