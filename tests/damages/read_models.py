"""Random damages of rows of the read models, by seed: `verify --database` must name the place of each, or the manual
exclude it.

Any column of any row may be changed, or NULL where the table allows it; any row removed, or added a second time under
another key.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
from aiokafka import TopicPartition

from contracts import topics
from contracts.cursor import Position
from contracts.partitioner import partition_of
from projections import MIGRATIONS as PROJECTION_MIGRATIONS
from services.audit.log.copied_log import CopiedLog, CopiedRecord
from services.audit.verification.read_model_snapshot import read_model_snapshot
from services.audit.verification.verify import Report, verify
from services.infrastructure.checkpoints import MIGRATIONS as CHECKPOINT_MIGRATIONS
from services.infrastructure.checkpoints import move_checkpoint
from services.infrastructure.postgres import Pool, migrate
from services.projector.models import CATALOGUE, READ_MODELS
from tests.audit import copy_of
from tests.damages.log import PARTITIONS, made_up_log

GOLDEN_OUTCOMES = Path(__file__).parents[1] / "golden" / "outcomes.jsonl"
KEYS = {
    "settings_v1.channels": ("channel",),
    "settings_v1.business_systems": ("channel", "system"),
    "settings_v1.intents": ("channel", "system", "code"),
    "history_v1.entries": ("topic", "partition", "log_offset"),
    "history_v1.resources": ("channel", "resource"),
    "catalogue_v1.systems": ("channel", "system"),
    "catalogue_v1.intents": ("channel", "system", "code"),
    "switchboard.checkpoints": ("consumer", "topic", "partition"),
    "switchboard.read_models": ("model",),
}
_EVENTS = topics.EVENTS.name
_NAMED_CHECKPOINTS = {model.consumer for model in READ_MODELS.values()}
_NOT_LOOKED_AT = {"closed_changed", "intents_changed", "correlation_id", "moved_at"}

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Damage:
    """``rows`` are the row before and after it, as far as there is one."""

    kind: str
    table: str
    column: str | None
    rows: tuple[Row, ...]

    def __str__(self) -> str:
        key = {name: self.rows[0][name] for name in KEYS[self.table]}
        return f"{self.kind} {self.table} {self.column or ''} {key}"

    @property
    def is_excluded(self) -> bool:
        """Whether the manual says that it is not looked at."""
        if self.table in ("history_v1.resources", "switchboard.read_models") or self.column in _NOT_LOOKED_AT:
            return True
        if self.table == "history_v1.entries":
            return any(row["topic"] == "outcomes" for row in self.rows)
        if self.table == "switchboard.checkpoints":
            added = self.rows[1:] if self.kind == "add_row" else self.rows
            foreign = any(row["consumer"] not in _NAMED_CHECKPOINTS or row["topic"] != _EVENTS for row in added)
            return foreign or any(row["sequence"] is None for row in self.rows)
        return False

    def is_named(self, report: Report) -> bool:
        """Whether a finding is at the row's channel, position or partition."""
        for row in self.rows:
            for finding in report.findings:
                place = finding.position
                if "channel" in row and row["channel"] is not None and finding.channel == row["channel"]:
                    return True
                if "log_offset" in row and (place.partition, place.offset) == (row["partition"], row["log_offset"]):
                    return True
                if self.table == "switchboard.checkpoints" and place.partition == row["partition"]:
                    return True
        return False


class ReadModels:
    """The read models of a made-up log in a database; `damage_and_verify` damages one row, and mends it again."""

    def __init__(self, pool: Pool, log: CopiedLog, now: int) -> None:
        self._pool, self._log, self._now = pool, log, now

    async def damage_and_verify(self, seed: int) -> tuple[str, str]:
        """(kind, result) as of `tests.damages.log.damage_and_verify`."""
        chance = random.Random(seed)
        damage = await self._damage(chance)
        kind = f"{damage.kind} in {damage.table.split('.')[1]}"
        try:
            report = await self.verify()
        finally:
            await self._mend(damage.table)
        if damage.is_named(report):
            return kind, "named"
        excluded = damage.is_excluded or await self._is_loss_of_nothing(damage)
        return kind, "not looked at" if excluded else f"NOT FOUND (seed {seed}: {damage})"

    async def _is_loss_of_nothing(self, damage: Damage) -> bool:
        """Whether a checkpoint is gone of a partition of which the catalogue shows nothing: it reads it again."""
        row = damage.rows[0]
        if damage.kind != "remove_row" or row.get("consumer") != CATALOGUE.consumer:
            return False
        channels = await self._pool.fetch("SELECT DISTINCT channel FROM catalogue.systems")
        return row["partition"] not in {partition_of(one["channel"], PARTITIONS) for one in channels}

    async def verify(self) -> Report:
        async with read_model_snapshot(self._pool, self._now) as snapshot:
            return await verify(self._log, read_models=snapshot)

    async def _damage(self, chance: random.Random) -> Damage:
        """One that the database takes: a key that is there already is tried again."""
        while True:
            table = chance.choice(list(KEYS))
            rows = [dict(row) for row in await self._pool.fetch(f"SELECT * FROM {table} ORDER BY {_key(table)}")]  # noqa: S608
            if not rows:
                continue
            kind = chance.choice(("change_value", "change_value", "set_null", "remove_row", "add_row"))
            row = chance.choice(rows)
            column: str | None = None
            after: Row | None = dict(row)
            assert after is not None
            if kind == "change_value":
                column = chance.choice(list(row))
                after[column] = _changed(chance, row[column], [other[column] for other in rows])
            elif kind == "set_null":
                column = chance.choice([name for name in row if name not in KEYS[table]] or list(row))
                after[column] = None
            elif kind == "add_row":
                column = chance.choice(KEYS[table])
                after[column] = _changed(chance, row[column], [])
            else:
                after = None
            if after == row:
                continue
            try:
                async with self._pool.acquire() as connection, connection.transaction():
                    if kind != "add_row":
                        await connection.execute(f"DELETE FROM {table} WHERE {_where(table)}", *_values(table, row))  # noqa: S608
                    if after is not None:
                        marks = ", ".join(f"${number}" for number in range(1, len(after) + 1))
                        await connection.execute(f"INSERT INTO {table} VALUES ({marks})", *after.values())  # noqa: S608
            except asyncpg.IntegrityConstraintViolationError:
                continue
            return Damage(
                kind, table, None if kind == "remove_row" else column, (row,) if after is None else (row, after)
            )

    async def _mend(self, table: str) -> None:
        copy = f"sound.{table.replace('.', '_')}"
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(f"DELETE FROM {table}; INSERT INTO {table} SELECT * FROM {copy}")  # noqa: S608


def _key(table: str) -> str:
    return ", ".join(KEYS[table])


def _where(table: str) -> str:
    return " AND ".join(f"{name} = ${number}" for number, name in enumerate(KEYS[table], 1))


def _values(table: str, row: Row) -> list[Any]:
    return [row[name] for name in KEYS[table]]


def _changed(chance: random.Random, value: Any, others: list[Any]) -> Any:
    """Another value of the same type, sometimes one that another row has."""
    if chance.random() < 0.3 and (different := [other for other in others if other is not None and other != value]):
        return chance.choice(different)
    match value:
        case bool():
            return not value
        case int():
            return value + chance.choice((-1, 1, 1000))
        case str() if value[:1] in ("{", "["):
            return json.dumps(_changed_json(chance, json.loads(value)))
        case str():
            return chance.choice((value + "x", value[:-1]))
        case list():
            return [*value, "added"]
        case None:
            return None
        case _:  # a time
            return value + timedelta(seconds=1)


def _changed_json(chance: random.Random, value: Any) -> Any:
    match value:
        case dict() if value:
            name = chance.choice(list(value))
            if chance.random() < 0.3:
                return {key: one for key, one in value.items() if key != name}
            return value | {name: _changed_json(chance, value[name])}
        case dict():
            return {"added": 1}
        case list():
            return [*value, "added"]
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return value + "x"
        case _:
            return "added"


@asynccontextmanager
async def read_models(database_url: str, seed: int, directory: Path) -> AsyncIterator[ReadModels]:
    """The read models of the log that the seed gives, in an empty database, and a sound copy of each table."""
    made_up = made_up_log(random.Random(seed))
    outcomes = [
        CopiedRecord(topics.OUTCOMES.name, 0, offset, made_up.now, b"golden-1", value, ())
        for offset, value in enumerate(GOLDEN_OUTCOMES.read_bytes().splitlines())
    ]
    log = copy_of(directory / f"log-{seed}.jsonl", made_up.records + made_up.state_records())
    log.partitions = PARTITIONS
    async with asyncpg.create_pool(database_url, min_size=1, max_size=3) as pool:
        await migrate(pool, "checkpoints", CHECKPOINT_MIGRATIONS)
        await migrate(pool, "projections", PROJECTION_MIGRATIONS)
        await _project(pool, made_up.records + outcomes)
        await pool.execute("CREATE SCHEMA sound")
        for table in KEYS:
            await pool.execute(f"CREATE TABLE sound.{table.replace('.', '_')} AS SELECT * FROM {table}")  # noqa: S608
        yield ReadModels(pool, log, made_up.now)


async def _project(pool: Pool, records: list[CopiedRecord]) -> None:
    for model in READ_MODELS.values():
        for topic, apply in model.live_appliers().items():
            for partition in range(PARTITIONS):
                own = [one for one in records if (one.topic, one.partition) == (topic, partition)]
                if own:
                    async with pool.acquire() as connection, connection.transaction():
                        await apply(connection, partition, own)
                        sequence = len(own) if topic == _EVENTS else None
                        tp = TopicPartition(topic, partition)
                        await move_checkpoint(connection, model.consumer, tp, 0, Position(own[-1].offset + 1, sequence))
