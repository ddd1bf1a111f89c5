"""A service's probes: ready only once it says so, and healthy only while its event loop turns."""

from __future__ import annotations

import asyncio
from http.client import HTTPConnection

import pytest

from services.infrastructure import metrics_endpoint
from services.infrastructure.config import Settings, SettingsError
from services.infrastructure.embedded.process import free_port
from services.infrastructure.metrics_endpoint import MetricsEndpoint


def status(settings: Settings, path: str) -> int:
    """Blocks whoever asks, and so the event loop."""
    connection = HTTPConnection("127.0.0.1", settings.metrics_port or 0, timeout=30)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


async def test_ready_and_healthy_when_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(metrics_port=free_port())
    with MetricsEndpoint(settings) as endpoint:
        assert (status(settings, "/readyz"), status(settings, "/nothing")) == (503, 404)
        endpoint.ready()
        assert status(settings, "/readyz") == 200
        assert await asyncio.to_thread(status, settings, "/healthz") == 200
        monkeypatch.setattr(metrics_endpoint, "_LOOP_TIMEOUT_S", 0.05)
        assert status(settings, "/healthz") == 503


async def test_a_port_that_is_taken_names_its_variable() -> None:
    settings = Settings(metrics_port=free_port())
    taken = pytest.raises(SettingsError, match="set SWITCHBOARD_METRICS_PORT to a free port")
    with MetricsEndpoint(settings), taken, MetricsEndpoint(settings):
        pass
