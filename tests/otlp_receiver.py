"""A receiver of OTLP over HTTP on loopback, which decodes what the exporter sends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Span:
    """``raw`` is the span's protobuf; the ids are hex, and the parent of a root is empty."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    links: frozenset[tuple[str, str]]
    attributes: dict[str, Any]
    raw: bytes

    @property
    def key(self) -> tuple[str, str]:
        return self.trace, self.id


class OtlpReceiver:
    """A context manager. ``environment`` makes a service send its spans here, where a message asks for them."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self._came = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                receiver._take(self.rfile.read(int(self.headers["Content-Length"])))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self._server.server_address[1]}",
            "OTEL_TRACES_SAMPLER": "parentbased_always_off",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def until(self, enough: Callable[[list[Span]], bool]) -> list[Span]:
        """All spans, once they are enough."""
        deadline = time.monotonic() + _TIMEOUT_S
        with self._came:
            while not enough(self.spans):
                if not self._came.wait(deadline - time.monotonic()):
                    raise AssertionError("\n".join(f"{one.service}: {one.name}" for one in self.spans))
            return list(self.spans)

    def _take(self, body: bytes) -> None:
        request: Any = ExportTraceServiceRequest.FromString(body)
        spans = [
            _read(_values(group.resource.attributes)["service.name"], span)
            for group in request.resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]
        with self._came:
            self.spans += spans
            self._came.notify_all()


def _read(service: str, span: Any) -> Span:
    return Span(
        service,
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        frozenset((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        _values(span.attributes),
        span.SerializeToString(),
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
