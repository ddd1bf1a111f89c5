"""Unit tests are pure: whoever opens a network socket here fails at once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from pytest_socket import disable_socket, enable_socket

settings.register_profile("unit", max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unit")


@pytest.fixture(autouse=True)
def no_sockets() -> Iterator[None]:
    """Unix sockets stay: an event loop wakes itself up through a pair of them."""
    disable_socket(allow_unix_socket=True)
    yield
    enable_socket()
