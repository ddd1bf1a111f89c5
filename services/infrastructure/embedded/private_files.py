"""The data directory belongs to one user: directories are 0700 and files 0600, those of an earlier run too."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from services.infrastructure.embedded.process import DirectoryUnusable

_OURS = ("kafka", "kafka-cluster", "postgres", "logs")
"""What is repaired with all that is in it; beside it, only the files of the data directory itself."""


def keep_private(data: Path) -> None:
    """Repairs the modes below the data directory, and makes whatever this process and its children create private.

    Raises `DirectoryUnusable` for a directory that is somebody else's, or that others may write to, such as /tmp: its
    mode is not ours to change.
    """
    os.umask(0o077)
    found = data.stat()
    if found.st_uid != os.geteuid() or found.st_mode & stat.S_ISVTX:
        raise DirectoryUnusable(
            f"{data} is shared with other users, who could read what is in it; "
            "set SWITCHBOARD_DATA_DIR to a directory of its own."
        )
    if found.st_mode & 0o067:  # the group may pass, where the system user `nobody` runs PostgreSQL
        data.chmod(0o700)
    for path in data.iterdir():
        _repair(path)
        if path.name in _OURS and path.is_dir() and not path.is_symlink():
            for below in path.rglob("*"):
                _repair(below)


def _repair(path: Path) -> None:
    mode = path.lstat().st_mode
    if mode & 0o077 and (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        path.chmod(stat.S_IMODE(mode) & 0o700)
