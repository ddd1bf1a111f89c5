"""A database's URL is read as asyncpg reads it when it connects."""

from __future__ import annotations

import asyncio
import traceback
from typing import Any

import asyncpg
import pytest
from asyncpg import connect_utils

from services.infrastructure.config import Settings, SettingsError
from services.infrastructure.library_internals.asyncpg import database_addresses

URLS = {
    "postgresql://u:p@db.example/d": ["db.example:5432"],
    "postgres://db.example:5433": ["db.example:5433"],
    "postgresql://u:p@/d?host=db.example&port=5433": ["db.example:5433"],
    "postgresql:///d?host=db.example": ["db.example:5432"],
    "postgresql://u:p@ignored?host=other&port=1": ["ignored:5432"],
    "postgresql://u:p@one:5433,two,[::1]:5434/d": ["one:5433", "two:5432", "[::1]:5434"],
    "postgresql://u@/d?host=one,two&port=5433,5434": ["one:5433", "two:5434"],
    "postgresql://u@one,two/d?port=7": ["one:5432", "two:5432"],
    "postgresql://u:p%5B%40%2F@db%2Eexample:5433/d": ["db.example:5433"],
    "postgresql://u:p@[fe80::1%25eth0]/d": ["[fe80::1]:5432"],
    "postgresql://u@%2Frun%2Fpostgresql/d": ["localhost:5432"],
    "postgresql:///d?host=/run/postgresql&port=5433": ["localhost:5433"],
}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGHOST", "PGPORT", "PGSERVICE", "PGSERVICEFILE"):
        monkeypatch.delenv(name, raising=False)


async def _dialled(url: str, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The addresses that asyncpg would connect to, in order."""
    dialled: list[Any] = []

    async def refuse(*, addr: Any, **_: Any) -> None:
        await asyncio.sleep(0)
        dialled.append(addr)
        raise OSError

    monkeypatch.setattr(connect_utils, "_connect_addr", refuse)
    with pytest.raises(OSError):  # noqa: PT011 -- the one above
        await asyncpg.connect(url)
    return dialled


@pytest.mark.parametrize("url", URLS)
async def test_the_guard_knows_what_asyncpg_dials(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.from_environment({"SWITCHBOARD_DATABASE_URL": url})
    dialled = await _dialled(url, monkeypatch)

    found = database_addresses(url)
    assert [f"{host}/.s.PGSQL.{port}" if "/" in host else (host, port) for host, port in found] == dialled
    assert list(settings.database_servers()) == URLS[url]
    assert set(URLS[url]) <= set(settings.own_addresses())


async def test_the_variables_of_postgresql_count_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "elsewhere.example")
    monkeypatch.setenv("PGPORT", "6000")

    assert database_addresses("postgresql:///d") == await _dialled("postgresql:///d", monkeypatch)
    assert database_addresses("postgresql:///d") == [("elsewhere.example", 6000)]


def test_without_a_host_localhost_is_among_them() -> None:
    assert (
        "localhost:5432" in Settings.from_environment({"SWITCHBOARD_DATABASE_URL": "postgresql:///d"}).own_addresses()
    )


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:se[cret@db.example/d",
        "postgresql://u:pa@secret@db.example/d",
        "postgresql://u:secret/x@db.example/d",
        "postgresql://u:secret@db.example:port/d",
        "postgresql://u:secret@db.example:70000/d",
        "postgresql://u:secret@one,,two/d",
        "postgresql://u:secret@one,two/d?host=x&port=1,2,3&secret",
        "postgresql://u@/d?host=one,two&port=1,2,3&password=secret",
        "postgresql://u:secret@[::1/d",
        "mysql://u:secret@db.example/d",
        "secret",
    ],
)
def test_what_asyncpg_cannot_use_is_a_sentence_that_holds_nothing_of_it(url: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_environment({"SWITCHBOARD_DATABASE_URL": url})
    assert "postgresql://user:password@host/database" in str(refused.value)
    assert "secret" not in "".join(traceback.format_exception(refused.value))
