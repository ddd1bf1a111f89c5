"""Who runs a command, as the actor of what it sends."""

from __future__ import annotations

import getpass
import os


def local_user() -> str:
    """The user's name; ``uid-`` and the number where it has none, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # OSError since Python 3.13
        return f"uid-{os.geteuid()}"
