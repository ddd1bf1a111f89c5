"""What each service's role may do in the database: as the database itself tells it, and as it refuses the rest."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import asyncpg
import pytest

from services.cli.service_child import Child
from services.gateway.database_schemas import apply_database
from services.infrastructure.database_rights import RIGHTS, apply_rights, role_of
from services.infrastructure.embedded.process import EmbeddedServerError
from services.projector.models import SETTINGS
from services.projector.rebuild import begin
from tests.installation import Installation

SERVICES = ("projector", "invoker", "message-router", "gateway")
MAY = """
    settings                    -       -       -       s
    settings_v1                 siud    -       -       s
    history                     -       -       -       s
    history_v1                  siud    -       -       s
    catalogue                   -       -       -       s
    catalogue_v1                siud    -       -       s
    switchboard.checkpoints     siud    siud    siud    s
    switchboard.migrations      s       s       s       s
    switchboard.read_models     s       s       s       s
    invoker.secrets             -       siud    -       -
    invoker.test_calls          -       siud    -       si
    invoker.listeners           -       siud    -       siud
    invoker.listener_calls      -       siud    -       su
    invoker.deliveries          -       siud    -       su
    invoker.queues              -       siud    -       siu
    invoker                     -       siud    -       s
    message_router              -       -       siud    s
    gateway                     -       -       -       siud
    console                     -       -       -       siud
"""
"""The services in the order of `SERVICES`, with what they may: select, insert, update, delete. A schema stands for its
other tables."""
_PRIVILEGES = {"SELECT": "s", "INSERT": "i", "UPDATE": "u", "DELETE": "d", "TRUNCATE": "T", "TRIGGER": "G"}
_OURS = "nspname NOT LIKE 'pg\\_%' AND nspname NOT IN ('information_schema', 'public')"


@pytest.fixture
def database(installation: Installation) -> str:
    """The owner's DSN of a database with the roles."""
    if not installation.logins("projector").get("SWITCHBOARD_DATABASE_URL"):
        pytest.skip("the database of these tests is not the embedded one")
    return installation.environment["SWITCHBOARD_DATABASE_URL"]


async def privileges(dsn: str, role: str) -> dict[str, str]:
    """Of each table, and of each schema that has others, what the role may."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            f"SELECT nspname, relname, p, has_table_privilege($1, c.oid, p) AS may FROM pg_class c "  # noqa: S608
            f"JOIN pg_namespace n ON n.oid = relnamespace, unnest($2::text[]) AS p "
            f"WHERE relkind IN ('r', 'v') AND {_OURS} ORDER BY array_position($2, p)",
            role,
            list(_PRIVILEGES),
        )
    finally:
        await connection.close()
    single = {line.split()[0] for line in MAY.splitlines() if "." in line}
    found: dict[str, dict[str, str]] = {}
    for schema, table, privilege, may in rows:
        place = f"{schema}.{table}" if f"{schema}.{table}" in single else schema
        of_table = found.setdefault(place, {})
        of_table[table] = of_table.get(table, "") + (_PRIVILEGES[privilege] if may else "")
    return {place: "/".join(sorted(set(tables.values()))) or "-" for place, tables in found.items()}


def test_each_role_may_what_the_table_says_and_no_more(database: str) -> None:
    rows = [line.split() for line in MAY.splitlines() if line.strip()]
    for place, service in enumerate(SERVICES, start=1):
        expected = {row[0]: row[place] for row in rows}
        assert (service, asyncio.run(privileges(database, role_of(service)))) == (service, expected)
    assert {*SERVICES} == {*RIGHTS}


async def test_no_role_makes_anything_or_is_more_than_it_says(database: str) -> None:
    connection = await asyncpg.connect(database)
    try:
        for service in SERVICES:
            role = role_of(service)
            assert await connection.fetchval(
                "SELECT rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls "
                "OR EXISTS (SELECT FROM pg_auth_members WHERE member = pg_roles.oid) FROM pg_roles WHERE rolname = $1",
                role,
            ) is (False)
            assert not await connection.fetchval(
                "SELECT has_database_privilege($1, current_database(), 'CREATE')", role
            )
            made = f"SELECT bool_or(has_schema_privilege($1, oid, 'CREATE')) FROM pg_namespace WHERE {_OURS}"  # noqa: S608
            assert not await connection.fetchval(made, role)
    finally:
        await connection.close()


async def test_a_right_that_is_no_longer_listed_is_taken(database: str) -> None:
    connection = await asyncpg.connect(database)
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute("GRANT SELECT ON invoker.secrets TO switchboard_gateway")
        await apply_rights(connection)
        assert not await connection.fetchval(
            "SELECT has_table_privilege('switchboard_gateway', 'invoker.secrets', 'SELECT')"
        )
    finally:
        await transaction.rollback()
        await connection.close()


@pytest.mark.usefixtures("database")
async def test_a_rebuild_gives_the_rights_on_its_new_version(database_url: str) -> None:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=2) as pool:
        await apply_database(pool)
        assert await begin(pool, SETTINGS, restart=False) == 2
        for service, privilege in (("projector", "INSERT"), ("gateway", "SELECT")):
            may = "SELECT has_table_privilege($1, 'settings_v2.channels', $2)"
            assert await pool.fetchval(may, role_of(service), privilege), service


@pytest.mark.usefixtures("database")
async def test_the_gateway_is_refused_the_signatures(installation: Installation) -> None:
    dsn = installation.environment_of("gateway")["SWITCHBOARD_DATABASE_URL"]
    connection = await asyncpg.connect(dsn)
    try:
        assert await connection.fetchval("SELECT current_user") == "switchboard_gateway"
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch("SELECT * FROM invoker.secrets")
    finally:
        await connection.close()


def test_a_service_without_its_tables_says_who_makes_them(
    database: str, installation: Installation, database_url: str
) -> None:
    assert urlsplit(database_url).path != urlsplit(database).path  # an empty one
    environment = installation.environment_of("projector")
    own = urlsplit(environment["SWITCHBOARD_DATABASE_URL"])._replace(path=urlsplit(database_url).path)
    child = Child(
        "projector",
        environment | {"SWITCHBOARD_DATABASE_URL": own.geturl()},
        installation.directory / "without-tables.log",
    )
    child.start()
    with pytest.raises(EmbeddedServerError, match="run `switchboard database apply` first, as the role that owns"):
        child.wait_until_ready()
    child.wait()
    assert "Traceback" not in child.log.read_text()
