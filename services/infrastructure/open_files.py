"""The limit of open files: connections are files, and the usual limit of 1,024 is low for a service."""

from __future__ import annotations

import resource

_OPEN_FILES = 65_536


def raise_open_file_limit() -> int:
    """Raises the soft limit as far as the hard one lets it, to at most 65,536. Returns the limit then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return _OPEN_FILES if soft == resource.RLIM_INFINITY else soft
