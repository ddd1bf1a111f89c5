"""Which version of a read model is live: version 3 of settings lies in schema ``settings_v3``, behind the views of
schema ``settings``."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

from services.infrastructure.postgres import Connection


@dataclass(frozen=True, slots=True)
class Versions:
    """``building`` is one that a rebuild has begun, ``kept`` the one that was live before."""

    live: int
    building: int | None
    kept: int | None


def schema_of(model: str, version: int) -> str:
    return f"{model}_v{version}"


def lock_of(model: str) -> int:
    """The advisory lock of the model: shared by whoever writes the live version, exclusive for who swaps versions.

    An advisory lock, because it queues: a swap that waits would never get a row lock that batches keep sharing.
    """
    return 0x5B0A_0000_0000 | crc32(model.encode())


async def versions_of(connection: Connection, model: str) -> Versions:
    row = await connection.fetchrow("SELECT * FROM switchboard.read_models WHERE model = $1", model)
    if row is None:
        raise LookupError(f"there is no read model {model!r}")
    return Versions(row["live"], row["building"], row["kept"])


async def use_live(connection: Connection, model: str) -> None:
    """For the rest of the transaction, table names mean those of the live version, and no other becomes live."""
    await connection.execute("SELECT pg_advisory_xact_lock_shared($1)", lock_of(model))
    # A statement of its own: its snapshot must be younger than the lock.
    await connection.execute(
        "SELECT set_config('search_path', model || '_v' || live, true) FROM switchboard.read_models WHERE model = $1",
        model,
    )
