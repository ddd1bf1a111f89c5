"""The read models: what each is made of, how live batches are applied, and how a rebuild folds into a new version."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from aiokafka import TopicPartition

from contracts import topics
from projections import catalogue, history
from projections import settings as settings_projection
from projections.catalogue import fold as catalogue_fold
from projections.events import read_event
from projections.history import fold as history_fold
from projections.settings import write as settings_write
from projections.settings.fold import Fold
from services.infrastructure.checkpointed_commits import Apply
from services.infrastructure.postgres import Connection
from services.projector import versions


class Window(Protocol):
    """What a rebuild applies in one transaction, on the tables that the search path names. ``len``: about its rows."""

    def __len__(self) -> int: ...

    async def add(self, connection: Connection, tp: TopicPartition, records: Sequence[Any]) -> None:
        """Folds the next records of a partition."""

    async def write(self, connection: Connection) -> None:
        """Writes what `add` has not written yet."""


KeepExpired = Callable[[Connection, int, int, int], Awaitable[None]]
"""(connection, partition, first offset, offset after the last): copies the live rows into the version being built."""


@dataclass(frozen=True, slots=True)
class ReadModel:
    """``keys`` is table -> its key's columns, in the order in which readers read the tables.

    ``new_appliers`` and ``new_windows`` begin with empty caches: they are for one projector, or one rebuild.
    """

    name: str
    consumer: str
    topics: tuple[str, ...]
    tables: Path
    keys: Mapping[str, str]
    new_appliers: Callable[[], Mapping[str, Apply]]
    new_windows: Callable[[], Callable[[], Window]]
    keep_expired: Mapping[str, KeepExpired] = field(default_factory=dict)
    """Topic whose records expire -> what takes over what the live version has of them."""

    def live_appliers(self) -> dict[str, Apply]:
        """Topic -> what applies a batch to the live version, which stays live meanwhile."""
        return {topic: self._on_live(apply) for topic, apply in self.new_appliers().items()}

    def _on_live(self, apply: Apply) -> Apply:
        async def on_live(connection: Connection, partition: int, records: Sequence[Any]) -> None:
            await versions.use_live(connection, self.name)
            await apply(connection, partition, records)

        return on_live


async def _apply_settings(connection: Connection, partition: int, records: Sequence[Any]) -> None:
    await settings_write.apply(connection, partition, [read_event(one.value) for one in records])


class _SettingsWindow:
    """Writes the rows of newly registered channels by COPY: only a rebuild writes these tables."""

    def __init__(self) -> None:
        self._folds: dict[int, Fold] = {}

    def __len__(self) -> int:
        return sum(map(len, self._folds.values()))

    async def add(self, connection: Connection, tp: TopicPartition, records: Sequence[Any]) -> None:
        fold = self._folds.setdefault(tp.partition, Fold(tp.partition))
        await fold.add(connection, [read_event(one.value) for one in records])

    async def write(self, connection: Connection) -> None:
        for fold in self._folds.values():
            await settings_write.copy_new(fold, connection)
            await settings_write.write(fold, connection)


class _AppliedWindow:
    """Writes each poll's records as a live batch would."""

    def __init__(self, appliers: Mapping[str, Apply]) -> None:
        self._appliers, self._records = appliers, 0

    def __len__(self) -> int:
        return self._records

    async def add(self, connection: Connection, tp: TopicPartition, records: Sequence[Any]) -> None:
        self._records += len(records)
        await self._appliers[tp.topic](connection, tp.partition, records)

    async def write(self, connection: Connection) -> None:
        pass


def _history_appliers() -> Mapping[str, Apply]:
    return {
        topics.EVENTS.name: history_fold.EventHistory().apply,
        topics.OUTCOMES.name: history_fold.apply_outcomes,
    }


def _catalogue_appliers() -> Mapping[str, Apply]:
    return {topics.EVENTS.name: catalogue_fold.apply}


def _windows_of(new_appliers: Callable[[], Mapping[str, Apply]]) -> Callable[[], Callable[[], Window]]:
    def new_windows() -> Callable[[], Window]:
        appliers = new_appliers()
        return lambda: _AppliedWindow(appliers)

    return new_windows


SETTINGS = ReadModel(
    settings_projection.MODEL,
    settings_projection.NAME,
    (topics.EVENTS.name,),
    settings_projection.TABLES,
    {"channels": "channel", "business_systems": "channel, system", "intents": "channel, system, code"},
    lambda: {topics.EVENTS.name: _apply_settings},
    lambda: _SettingsWindow,
)
HISTORY = ReadModel(
    history.MODEL,
    history.NAME,
    (topics.EVENTS.name, topics.OUTCOMES.name),
    history.TABLES,
    {"entries": "topic, partition, log_offset", "resources": "channel, resource"},
    _history_appliers,
    _windows_of(_history_appliers),
    {topics.OUTCOMES.name: history_fold.keep_expired_outcomes},
)
CATALOGUE = ReadModel(
    catalogue.MODEL,
    catalogue.NAME,
    (topics.EVENTS.name,),
    catalogue.TABLES,
    {"intents": "channel, system, code", "systems": "channel, system"},
    _catalogue_appliers,
    _windows_of(_catalogue_appliers),
)
READ_MODELS = {model.name: model for model in (SETTINGS, HISTORY, CATALOGUE)}
