"""`up` tells a service no secret that it does not need."""

from __future__ import annotations

import base64

import pytest

from services.cli.service_settings import SERVICES
from services.cli.up import environment_of
from services.infrastructure.config import Settings
from services.infrastructure.library_internals.asyncpg import database_addresses

_KEYRING = "k1:" + base64.b64encode(bytes(32)).decode()
_ALL = {
    "SWITCHBOARD_DATABASE_URL": "postgresql://switchboard:db-word@127.0.0.1:5432/switchboard?password=db-word",
    "SWITCHBOARD_KEYRING": _KEYRING,
    "PATH": "/bin",
}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_gets_the_secrets_that_it_needs(service: str) -> None:
    given = environment_of(service, _ALL)

    assert ("db-word" in given["SWITCHBOARD_DATABASE_URL"]) == ("database_url" in SERVICES[service])
    servers = Settings.from_environment(given).database_servers()
    assert servers == ("127.0.0.1:5432",), "no call may reach it, so every service knows it"
    assert ("SWITCHBOARD_KEYRING" in given) == ("keyring" in SERVICES[service])
    assert given["PATH"] == "/bin"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:db-word@[::1]:5433/d",
        "postgresql://u:db-word@h1,h2:5433/d?target_session_attrs=primary",
        "postgresql://u:db%40word@/d?host=h1,[fd00::1]&port=5433,5434&password=db-word",
        "postgresql://u:db-word@/d?host=/run/postgresql&port=5433",
    ],
)
def test_the_decider_is_told_every_server_of_the_database_and_no_login(url: str) -> None:
    given = environment_of("decider", _ALL | {"SWITCHBOARD_DATABASE_URL": url})["SWITCHBOARD_DATABASE_URL"]

    assert "word" not in given
    assert database_addresses(given) == database_addresses(url)
