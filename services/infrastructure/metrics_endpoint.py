"""Each service's own HTTP endpoint for its metrics and its probes, on ``SWITCHBOARD_METRICS_PORT``.

It is served by a thread: a service that is busy, or waits for its broker, is seen all the same.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from socketserver import ThreadingMixIn
from types import TracebackType
from typing import Any, Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import make_wsgi_app
from prometheus_client.registry import Collector

from services.infrastructure.config import Settings, SettingsError

_LOOP_TIMEOUT_S = 5.0
_IDLE_TIMEOUT_S = 5.0


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = _IDLE_TIMEOUT_S

    def log_message(self, *_: object) -> None:
        pass


class MetricsEndpoint:
    """A context manager of the event loop that it is made in; does nothing where no port is set.

    ``/metrics`` is Prometheus' text, ``/healthz`` answers 200 while the event loop turns, and ``/readyz`` after
    `ready` was called; both 503 otherwise. Raises `SettingsError` where the port cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._host, self._port = settings.metrics_host, settings.metrics_port
        self._loop = asyncio.get_running_loop()
        self._ready = False
        self._server: _Server | None = None
        self._metrics: Any = make_wsgi_app(REGISTRY)

    def ready(self) -> None:
        self._ready = True

    def __enter__(self) -> Self:
        if self._port is None:
            return self
        try:
            self._server = (_Server6 if ":" in self._host else _Server)((self._host, self._port), _Handler)
        except OSError as error:
            raise SettingsError(
                f"Port {self._port} on {self._host} cannot be used ({error.strerror}); "
                "set SWITCHBOARD_METRICS_PORT to a free port."
            ) from None
        self._server.set_app(self._answer)
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/metrics":
                answer: Iterable[bytes] = self._metrics(environ, start_response)
                return answer
            case "/healthz":
                status = "200 OK" if self._loop_turns() else "503 Service Unavailable"
            case "/readyz":
                status = "200 OK" if self._ready else "503 Service Unavailable"
            case _:
                status = "404 Not Found"
        start_response(status, [("Content-Type", "text/plain")])
        return [status.encode() + b"\n"]

    def _loop_turns(self) -> bool:
        turned = threading.Event()
        self._loop.call_soon_threadsafe(turned.set)
        return turned.wait(_LOOP_TIMEOUT_S)


class _PoolLevels(Collector):
    """How many connections the process' database pools have, counted when it is asked."""

    def __init__(self) -> None:
        self._pools: list[Any] = []

    def watch(self, pool: Any) -> None:
        self._pools = [*self._open(), pool]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            "switchboard_database_pool_connections", "Connections of the process to the database.", labels=["state"]
        )
        sizes = [(pool.get_size(), pool.get_idle_size(), pool.get_max_size()) for pool in self._open()]
        family.add_metric(["busy"], sum(size - idle for size, idle, _ in sizes))
        family.add_metric(["idle"], sum(idle for _, idle, _ in sizes))
        family.add_metric(["limit"], sum(limit for *_, limit in sizes))
        yield family

    def _open(self) -> list[Any]:
        return [pool for pool in self._pools if not pool.is_closing()]


_levels = _PoolLevels()
REGISTRY.register(_levels)
watch_pool = _levels.watch
