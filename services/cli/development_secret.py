"""The secret of this machine, with which `listen` signs what it forwards: made once, in a private file."""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from services.cli.errors import CliError
from services.domain.webhook_signature import SECRET_BYTES, encode_secret
from services.infrastructure.embedded.credentials import write_private


class DevelopmentSecret(NamedTuple):
    """``is_new``: it was made just now."""

    secret: bytes
    path: Path
    is_new: bool


def development_secret(environment: Mapping[str, str] = os.environ) -> DevelopmentSecret:
    """Reads the secret, or makes it. Raises `CliError` for a file that others could read, or that holds no secret."""
    directory = Path(environment.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "switchboard"
    path = directory / "development-secret"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_new = not path.exists()
        if is_new:
            write_private(path, encode_secret(secrets.token_bytes(SECRET_BYTES)) + "\n")
        found, text = path.stat(), path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise CliError(f"{path} cannot be used: {getattr(error, 'strerror', None) or 'it is no text'}.") from None
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise CliError(f"{path} is not yours alone; `chmod 600` it, or delete it to have a new secret.")
    try:
        secret = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        secret = b""
    if len(secret) != SECRET_BYTES:
        raise CliError(f"{path} holds no secret; delete it to have a new one.")
    return DevelopmentSecret(secret, path, is_new)
