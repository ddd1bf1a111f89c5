"""Folding events and outcomes into the history: an entry per event and per rejection, with the values before and after.

A batch is folded in memory: the resources that its events touch are loaded, changed, and written back with the entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from msgspec.json import decode as from_json

from contracts.message_types import EVENTS
from contracts.outcome import CommandRejected, OutcomeEnvelope
from projections.events import StoredEvent, read_traced_event
from projections.history.entries import entry_of, insert_entries, json_text
from projections.history.resources import (
    Fields,
    ResourceFields,
    add_change,
    affected_resources,
    apply_event,
    changed_resource,
    sorted_by_path,
)
from projections.sql import CopyConnection, SqlConnection, arrays, statements, update, upsert

_SQL = statements(Path(__file__).with_suffix(".sql"))
_CACHED_CHANNELS = 5_000
"""Channels cached per partition: some hundred bytes per resource."""

_RESOURCES = {"channel": "text", "resource": "text", "fields": "json"}
_UPSERT = upsert("resources", _RESOURCES, ("channel", "resource"))
_UPDATE = update(
    "resources",
    _RESOURCES,
    ["fields"],
    "resources.channel = given.channel AND resources.resource = given.resource",
)
_REJECTED = b'"type":"CommandRejected"'

Resources = dict[str, ResourceFields]
"""Channel -> its resources."""

Key = tuple[str, str]
"""(channel, resource)"""

_NO_RESOURCES: ResourceFields = {}


class EventHistory:
    """Applies events, and caches the resources of recent channels for the next batch.

    A partition's cache carries the sequence of the last event that it includes. It is used only for the event after
    that one, so a batch that was rolled back, or applied by another process, discards it.
    """

    def __init__(self) -> None:
        self._cache: dict[int, tuple[int, Resources]] = {}

    async def apply(self, connection: CopyConnection, partition: int, batch: Sequence[Any]) -> None:
        """Adds an entry for each record of one partition of the events."""
        events = [read_traced_event(record.value) for record in batch]
        last_sequence, cached = self._cache.pop(partition, (0, {}))
        fold = _Fold(cached if events[0].partitionsequence == last_sequence + 1 else {})
        await fold.load(connection, events)
        entries = []
        for record, event in zip(batch, events, strict=True):
            before, after = fold.apply(event)
            change = json_text(before), json_text(after), bytes(event.data).decode()
            entries.append(entry_of(record, partition, event, event.sequence, event.type, event.resource, *change))
        await fold.write(connection)
        await insert_entries(connection, entries)
        self._cache[partition] = events[-1].partitionsequence, fold.to_cache()


async def apply_outcomes(connection: CopyConnection, partition: int, batch: Sequence[Any]) -> None:
    """Adds an entry for each rejection among the records of one partition of the outcomes."""
    entries = []
    for record in batch:
        if _REJECTED not in (record.value or b""):
            continue
        outcome = OutcomeEnvelope.model_validate_json(record.value)
        body = outcome.body()
        if isinstance(body, CommandRejected):
            data = json_text(body.model_extra) if body.model_extra else None
            details = (
                body.version,
                outcome.type,
                None,
                None,
                None,
                data,
                body.rejection,
                body.message,
                outcome.repeated,
            )
            entries.append(entry_of(record, partition, outcome, *details))
    await insert_entries(connection, entries)


async def keep_expired_outcomes(connection: SqlConnection, partition: int, first: int, end: int) -> None:
    """Copies the live version's rejections at these offsets, which the topic no longer has, into a new version."""
    await connection.execute(_SQL["keep_expired"], partition, first, end)


class _Fold:
    """The resources that a batch touches. Fields are replaced, never changed in place."""

    def __init__(self, cached: Resources) -> None:
        self._resources = cached
        self._changed: dict[Key, Fields | None] = {}
        self._new: set[Key] = set()
        """Changed resources that did not exist before."""

    async def load(self, connection: SqlConnection, events: Sequence[StoredEvent]) -> None:
        whole = {event.subject for event in events if event.type in ("BusinessSystemDeleted", "ChannelRetired")}
        registered = {event.subject for event in events if event.sequence == 1}
        single = {
            (event.subject, resource)
            for event in events
            if event.type in EVENTS
            and (resource := changed_resource(event)) not in self._resources.get(event.subject, _NO_RESOURCES)
            and event.subject not in whole
            and event.subject not in registered
        }
        rows = []
        if whole:
            rows += await connection.fetch(_SQL["resources_of_channels"], list(whole))
        if single:
            rows += await connection.fetch(_SQL["resources"], *map(list, zip(*single, strict=True)))
        for row in rows:
            self._resources.setdefault(row["channel"], {})[row["resource"]] = from_json(row["fields"])

    def apply(self, event: StoredEvent) -> tuple[Fields, Fields]:
        """Folds the event, and returns the leaves that it changed, before and after."""
        before: Fields = {}
        after: Fields = {}
        if event.type in EVENTS:
            resource_fields = self._resources.setdefault(event.subject, {})
            old_fields = [(name, resource_fields.get(name)) for name in affected_resources(event, resource_fields)]
            apply_event(event, resource_fields)
            for resource, old in old_fields:
                new = resource_fields.get(resource)
                if new is not old:
                    key = event.subject, resource
                    if old is None and key not in self._changed:
                        self._new.add(key)
                    self._changed[key] = new
                    add_change(resource, old, new, event.time, before, after)
        return sorted_by_path(before), sorted_by_path(after)

    async def write(self, connection: SqlConnection) -> None:
        deleted: list[Key] = []
        inserted: list[Fields] = []
        updated: list[Fields] = []
        for key, fields in self._changed.items():
            if fields is None:
                deleted.append(key)
            else:
                rows = inserted if key in self._new else updated
                rows.append({"channel": key[0], "resource": key[1], "fields": fields})
        if deleted:
            await connection.execute(_SQL["delete"], *map(list, zip(*deleted, strict=True)))
        if updated:
            done = await connection.execute(_UPDATE, *arrays(updated, _RESOURCES))
            if done != f"UPDATE {len(updated)}":  # some rows are missing
                inserted += updated
        if inserted:
            await connection.execute(_UPSERT, *arrays(inserted, _RESOURCES))

    def to_cache(self) -> Resources:
        """The resources of the channels that changed last, without intents, which may be large."""
        for channel in dict.fromkeys(channel for channel, _ in self._changed):
            resource_fields = self._resources.pop(channel)
            self._resources[channel] = {
                name: fields for name, fields in resource_fields.items() if "/intents/" not in name
            }
        for channel in list(islice(self._resources, max(0, len(self._resources) - _CACHED_CHANNELS))):
            del self._resources[channel]
        return self._resources
