"""A service may hold many connections, where the machine lets it."""

from __future__ import annotations

import resource

from services.infrastructure.open_files import raise_open_file_limit


def test_the_limit_of_open_files_is_raised_as_far_as_it_may_be() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = 256 if hard == resource.RLIM_INFINITY else min(256, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (low, hard))
    try:
        assert raise_open_file_limit() > low or low == hard
        raised, still = resource.getrlimit(resource.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert still == hard
    assert raised == (65_536 if hard == resource.RLIM_INFINITY else min(65_536, hard))
