"""How a command finds the running `up` by itself: one private file in the data directory, with the variables to use."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from services.cli.errors import CliError
from services.infrastructure.config import Settings, SettingsError
from services.infrastructure.embedded.credentials import write_private

_NAME = "connection.json"
_KAFKA = "SWITCHBOARD_KAFKA_BOOTSTRAP_SERVERS"
_DATABASE = "SWITCHBOARD_DATABASE_URL"


_API = ("SWITCHBOARD_API_URL", "SWITCHBOARD_API_KEY")


def write_connection(data: Path, environment: Mapping[str, str]) -> Path:
    """Writes the variables of the broker, the database and the API; the file is there while `up` runs."""
    path = data / _NAME
    shared = {
        name: value
        for name, value in environment.items()
        if name.startswith("SWITCHBOARD_KAFKA_") or name in (_DATABASE, "SWITCHBOARD_KEYRING", *_API)
    }
    write_private(path, json.dumps(shared, indent=1))
    return path


def adopt_connection(environment: MutableMapping[str, str]) -> None:
    """Adds the variables of the running `up` to an environment that names no broker, database or API of its own.

    A key of `up` is not sent to another API.

    Raises `CliError` for a file that another user could have written.
    """
    try:
        path = Settings.from_environment(environment).data_dir / _NAME
    except SettingsError:
        return  # the command itself says what is wrong with them
    try:
        found = path.stat()
        shared: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise CliError(f"{path} is not yours alone, so it is not trusted; start `switchboard up` again, or delete it.")
    own_broker = bool(environment.get(_KAFKA, "").strip())
    own_api = bool(environment.get("SWITCHBOARD_API_URL", "").strip())
    for name, value in shared.items():
        if name.startswith("SWITCHBOARD_KAFKA_"):
            if not own_broker:
                environment[name] = value
        elif name in _API and own_api:
            continue
        elif not environment.get(name, "").strip():
            environment[name] = value
