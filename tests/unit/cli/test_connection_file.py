"""A command finds a running `up` in the data directory, and takes nothing from a file that others could write."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.cli.connection_file import adopt_connection, write_connection
from services.cli.errors import CliError

_UP = {
    "SWITCHBOARD_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "SWITCHBOARD_KAFKA_SASL_PASSWORD": "word",
    "SWITCHBOARD_DATABASE_URL": "postgresql://up@127.0.0.1:2/switchboard",
    "PATH": "/bin",
}


def test_what_is_not_named_is_found(tmp_path: Path) -> None:
    write_connection(tmp_path, _UP)
    environment = {"SWITCHBOARD_DATA_DIR": str(tmp_path)}

    adopt_connection(environment)

    found = {name: value for name, value in _UP.items() if name != "PATH"}
    assert environment == {"SWITCHBOARD_DATA_DIR": str(tmp_path)} | found


def test_a_broker_of_ones_own_gets_no_password_of_another(tmp_path: Path) -> None:
    write_connection(tmp_path, _UP)
    own = {"SWITCHBOARD_DATA_DIR": str(tmp_path), "SWITCHBOARD_KAFKA_BOOTSTRAP_SERVERS": "mine:9092"}
    environment = dict(own)

    adopt_connection(environment)

    assert environment == own | {"SWITCHBOARD_DATABASE_URL": _UP["SWITCHBOARD_DATABASE_URL"]}


def test_a_file_that_others_may_write_is_not_trusted(tmp_path: Path) -> None:
    write_connection(tmp_path, _UP).chmod(0o666)

    with pytest.raises(CliError, match="not yours alone"):
        adopt_connection({"SWITCHBOARD_DATA_DIR": str(tmp_path)})
