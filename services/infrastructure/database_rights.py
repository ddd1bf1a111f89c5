"""What each service may do in the database: one role per service, with the rights on tables that it uses.

The owner's role makes the tables, and gives these rights: `up`, `switchboard database apply`, and a rebuild of a read
model, whose new tables are in a schema of their own.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from services.infrastructure.postgres import MIGRATING, Connection

READ = ("SELECT",)
WRITE = ("SELECT", "INSERT", "UPDATE", "DELETE")
_MODELS = ("settings", "history", "catalogue")
_VIEWS = tuple(f"^{model}$" for model in _MODELS)
_VERSIONS = tuple(rf"^{model}_v\d+$" for model in _MODELS)


@dataclass(frozen=True, slots=True)
class Right:
    """``schemas`` are regular expressions; ``tables`` None stands for all of them but those of ``without``."""

    schemas: tuple[str, ...]
    privileges: tuple[str, ...]
    tables: tuple[str, ...] | None = None
    without: tuple[str, ...] = ()


_BOOKKEEPING = Right(("^switchboard$",), READ)
"""Checkpoints, which migrations are applied, and which version of a read model is live."""
_CHECKPOINTS = Right(("^switchboard$",), WRITE, ("checkpoints",))

RIGHTS: dict[str, tuple[Right, ...]] = {
    "projector": (_BOOKKEEPING, _CHECKPOINTS, Right(_VERSIONS, WRITE)),
    "invoker": (_BOOKKEEPING, _CHECKPOINTS, Right(("^invoker$",), WRITE)),
    "message-router": (_BOOKKEEPING, _CHECKPOINTS, Right(("^message_router$",), WRITE)),
    "gateway": (
        _BOOKKEEPING,
        Right((*_VIEWS, *_VERSIONS, "^message_router$"), READ),
        Right(("^gateway$", "^console$"), WRITE),
        # Signatures are the invoker's alone, although they are encrypted.
        Right(("^invoker$",), READ, without=("secrets",)),
        # It counts test calls, and replays deliveries.
        Right(("^invoker$",), ("SELECT", "INSERT"), ("test_calls",)),
        # It is where listeners fetch calls, and send back the answers.
        Right(("^invoker$",), WRITE, ("listeners",)),
        Right(("^invoker$",), ("SELECT", "UPDATE"), ("listener_calls",)),
        Right(("^invoker$",), ("SELECT", "UPDATE"), ("deliveries",)),
        Right(("^invoker$",), ("SELECT", "INSERT", "UPDATE"), ("queues",)),
    ),
}
"""By service. The decider has no database."""


def role_of(service: str) -> str:
    return f"switchboard_{service.replace('-', '_')}"


async def apply_rights(connection: Connection) -> list[str]:
    """Gives each service's role the rights that it has here, and takes all others; returns the services that have one.

    In the caller's transaction. A role that does not exist is left out: then the service is the owner.
    """
    await connection.execute("SELECT pg_advisory_xact_lock($1)", MIGRATING)
    known = await connection.fetch(
        "SELECT rolname FROM pg_roles WHERE rolname = ANY($1)", [role_of(one) for one in RIGHTS]
    )
    roles = {row["rolname"] for row in known}
    services = [service for service in RIGHTS if role_of(service) in roles]
    tables = await _tables(connection)
    for service in services:
        for statement in _statements(service, tables):
            await connection.execute(statement)
    return services


def rights_on(service: str, schema: str, table: str) -> frozenset[str]:
    """The service's privileges on a table or view."""
    return frozenset(
        privilege
        for right in RIGHTS[service]
        if any(re.search(pattern, schema) for pattern in right.schemas)
        and (table in right.tables if right.tables is not None else table not in right.without)
        for privilege in right.privileges
    )


async def _tables(connection: Connection) -> list[tuple[str, str]]:
    """Schema and name of each table and view that is ours."""
    patterns = {pattern for rights in RIGHTS.values() for right in rights for pattern in right.schemas}
    rows = await connection.fetch(
        "SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.relkind IN ('r', 'v') AND n.nspname ~ ANY($1::text[]) ORDER BY 1, 2",
        sorted(patterns),
    )
    return [(row["schema"], row["name"]) for row in rows]


def _statements(service: str, tables: Collection[tuple[str, str]]) -> list[str]:
    role = role_of(service)
    statements: list[str] = []
    for schema in sorted({schema for schema, _ in tables}):
        rights = {name: rights_on(service, schema, name) for of, name in tables if of == schema}
        statements.append(f"REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {role}")
        statements.append(f"REVOKE ALL ON ALL SEQUENCES IN SCHEMA {schema} FROM {role}")
        statements.append(f"REVOKE ALL ON SCHEMA {schema} FROM {role}")
        if any(rights.values()):
            statements.append(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
        if any("INSERT" in found for found in rights.values()):
            statements.append(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role}")
        statements += [
            f"GRANT {', '.join(sorted(found))} ON {schema}.{name} TO {role}" for name, found in rights.items() if found
        ]
    return statements
