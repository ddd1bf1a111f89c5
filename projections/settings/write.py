"""Writing folded rows to the tables of the settings read model: one statement per table and set of columns.

Everything runs inside the caller's transaction, on the schema that the search path names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from projections.events import StoredEvent
from projections.settings.fold import Fold, SequenceGap
from projections.settings.rows import CHANNELS, INTENTS, SYSTEMS, ChannelChange, IntentRow, SystemRow
from projections.sql import CopyConnection, SqlConnection, arrays, records, statements, update, upsert

Row = TypeVar("Row", ChannelChange, SystemRow | None, IntentRow | None)

_SQL = statements(Path(__file__).with_suffix(".sql"))
_UPSERT_CHANNELS = upsert("channels", CHANNELS, ("channel",))
_UPSERT_SYSTEMS = upsert("business_systems", SYSTEMS, ("channel", "system"))
_UPSERT_INTENTS = upsert("intents", INTENTS, ("channel", "system", "code"))


@cache
def _change_channels(columns: tuple[str, ...]) -> str:
    """Rows at another version than the expected one stay as they are."""
    condition = "channels.channel = given.channel AND channels.version = given.expected_version"
    return update("channels", _changing(columns), ("version", *columns), condition)


def _changing(columns: Iterable[str]) -> dict[str, str]:
    return {"expected_version": "bigint"} | {name: CHANNELS[name] for name in ("channel", "version", *columns)}


async def apply(connection: SqlConnection, partition: int, events: Sequence[StoredEvent]) -> None:
    """Folds one partition's events into the tables. Events of unknown types change only the version.

    Raises `SequenceGap`.
    """
    batch = Fold(partition)
    await batch.add(connection, events)
    await write(batch, connection)


async def copy_new(fold: Fold, connection: CopyConnection) -> None:
    """Writes the rows of newly registered channels by COPY, and leaves the others to `write`."""
    fold.apply_deferred()
    for table, columns, rows in (
        ("channels", CHANNELS, _pop_rows(fold.channels, fold.registered)),
        ("business_systems", SYSTEMS, _pop_rows(fold.systems, fold.registered)),
        ("intents", INTENTS, _pop_rows(fold.intents, fold.registered)),
    ):
        if rows:
            there = records((_as_columns(row) for row in rows if row is not None), columns)
            await connection.copy_records_to_table(table, records=there, columns=list(columns))
    fold.retired_channels -= fold.registered
    fold.deleted_systems = {key for key in fold.deleted_systems if key[0] not in fold.registered}


async def write(fold: Fold, connection: SqlConnection) -> None:
    """Writes all rows of the fold, deletions first: what is deleted and added again in one batch starts empty.

    Raises `SequenceGap`.
    """
    fold.apply_deferred()
    if fold.retired_channels:
        await connection.execute(_SQL["delete_signatures"], list(fold.retired_channels))
    if fold.deleted_systems:
        await connection.execute(_SQL["delete_systems"], *map(list, zip(*fold.deleted_systems, strict=True)))
    gone = [key for key, intent in fold.intents.items() if intent is None and key[:2] not in fold.deleted_systems]
    if gone:
        await connection.execute(_SQL["delete_intents"], *map(list, zip(*gone, strict=True)))
    for statement, columns, rows in (
        (_UPSERT_CHANNELS, CHANNELS, [row for row in fold.channels.values() if row.expected_version is None]),
        (_UPSERT_SYSTEMS, SYSTEMS, [row for row in fold.systems.values() if row is not None]),
        (_UPSERT_INTENTS, INTENTS, [row for row in fold.intents.values() if row is not None]),
    ):
        if rows:
            await connection.execute(statement, *arrays(map(_as_columns, rows), columns))
    await _write_changes(fold, connection)


async def _write_changes(fold: Fold, connection: SqlConnection) -> None:
    """Updates existing channels: one statement for all of which the same columns change."""
    by_columns: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for channel, change in fold.channels.items():
        if change.expected_version is not None:
            row = {
                "channel": channel,
                "expected_version": change.expected_version,
                "version": change.version,
                **change.columns,
            }
            by_columns[tuple(sorted(change.columns))].append(row)
    for columns, rows in by_columns.items():
        kinds = _changing(columns)
        done = await connection.execute(_change_channels(columns), *arrays(rows, kinds))
        if done != f"UPDATE {len(rows)}":
            await _raise_gap(fold, connection, rows)


async def _raise_gap(fold: Fold, connection: SqlConnection, rows: Sequence[dict[str, Any]]) -> None:
    """Raises `SequenceGap` with the channel that is not at its expected version."""
    found = await connection.fetch(_SQL["versions"], [row["channel"] for row in rows])
    stands = {row["channel"]: row["version"] for row in found}
    for row in rows:
        if (version := stands.get(row["channel"], 0)) != row["version"]:
            raise SequenceGap(f"event {row['expected_version'] + 1} of {row['channel']!r} came after version {version}")
    raise SequenceGap(f"channels of partition {fold.partition} were changed by somebody else")


def _pop_rows(rows: dict[Any, Row], channels: set[str]) -> list[Row]:
    """Removes and returns the rows of the channels."""
    taken = [key for key in rows if (key if isinstance(key, str) else key[0]) in channels]
    return [rows.pop(key) for key in taken]


def _as_columns(row: ChannelChange | SystemRow | IntentRow) -> dict[str, Any]:
    if isinstance(row, ChannelChange):
        return {"version": row.version, **row.columns}
    return {column: getattr(row, column) for column in row.__slots__}
