"""The versions of a read model: version 3 of settings is in schema ``settings_v3``, behind views in ``settings``."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

from services.infrastructure.postgres import Connection


@dataclass(frozen=True, slots=True)
class ModelVersions:
    """``building`` is the version of an unfinished rebuild, ``kept`` the previously live one."""

    live: int
    building: int | None
    kept: int | None


def schema_of(model: str, version: int) -> str:
    return f"{model}_v{version}"


def lock_of(model: str) -> int:
    """The advisory lock of the model: shared for writers of the live version, exclusive for a swap of versions.

    An advisory lock, because its waiters queue: a swap would never get a row lock that batches keep sharing.
    """
    return 0x5B0A_0000_0000 | crc32(model.encode())


async def versions_of(connection: Connection, model: str) -> ModelVersions:
    row = await connection.fetchrow("SELECT * FROM switchboard.read_models WHERE model = $1", model)
    if row is None:
        raise LookupError(f"there is no read model {model!r}")
    return ModelVersions(row["live"], row["building"], row["kept"])


async def use_live(connection: Connection, model: str) -> None:
    """For the rest of the transaction, tables are those of the live version, and the live version stays the same."""
    await connection.execute("SELECT pg_advisory_xact_lock_shared($1)", lock_of(model))
    # A statement of its own: its snapshot must be younger than the lock.
    await connection.execute(
        "SELECT set_config('search_path', model || '_v' || live, true) FROM switchboard.read_models WHERE model = $1",
        model,
    )
