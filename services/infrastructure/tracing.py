"""Traces: a few spans of our own, exported as OTLP over HTTP where ``OTEL_EXPORTER_OTLP_ENDPOINT`` says where to.

A message names its trace in the attribute ``traceparent``, so a trace goes wherever a message goes. What instruments
Kafka clients sees polls and transactions, not which messages were in them. Here each message of a batch gets a span,
and the batch as a whole another one, linked to them.

Spans have types, topics, partitions, offsets and results. They have no ids, names or content: customers choose these,
and an id may be a telephone number. Topic, partition and offset lead to the record.

Off, nothing of OpenTelemetry is loaded, and a seam costs one comparison.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from contracts.trace_context import is_traceparent
from services.infrastructure.config import SettingsError

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from services.infrastructure.span_export import SpanExport

Attributes = Mapping[str, str | int]

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_export: SpanExport | None = None


def set_up(service: str, environment: Mapping[str, str] = os.environ) -> Callable[[], None]:
    """Turns traces on where the environment says so. Returns what sends the last of them. Raises `SettingsError`."""
    global _export
    disabled = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if (
        disabled
        or environment.get("OTEL_TRACES_EXPORTER") == "none"
        or not any(environment.get(name) for name in _ENDPOINTS)
    ):
        return lambda: None
    try:
        from services.infrastructure.span_export import SpanExport
    except ImportError:
        raise SettingsError(
            f"{_ENDPOINTS[0]} is set, but what exports traces is not installed: pip install 'switchboard[traces]'."
        ) from None
    _export = SpanExport(service)
    return _export.shut_down


def is_on() -> bool:
    return _export is not None


def start(
    name: str, kind: str, traceparent: str | None, attributes: Attributes | None = None, *, root: bool = False
) -> Span | None:
    """Starts a span below the one that ``traceparent`` names; ``kind`` is one of OpenTelemetry's.

    None where traces are off, and beyond their limit. Also where ``traceparent`` is missing or cannot be one, unless
    ``root``: the span then begins a trace.
    """
    if _export is None:
        return None
    if traceparent is not None and not is_traceparent(traceparent):
        traceparent = None
    return _export.start(name, kind, traceparent, attributes) if traceparent is not None or root else None


def end(span: Span | None, attributes: Attributes | None = None, *, error: str | None = None) -> None:
    """Ends a span; ``error`` is a short stable word for why it failed."""
    if span is not None:
        span.set_attributes({**(attributes or {}), **({} if error is None else {"error.type": error})})
        span.end()


def traceparent_of(span: Span | None, otherwise: str | None) -> str | None:
    """What a message carries on that was sent within the span."""
    if span is None:
        return otherwise
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def end_batch(name: str, spans: Iterable[Span], begun_ns: int, attributes: Attributes) -> None:
    """Ends the spans of a batch's messages, and adds one of the batch that is linked to them, and they to it."""
    if _export is not None:
        _export.end_batch(name, [span for span in spans if span.is_recording()], begun_ns, attributes)


def record_batch(topic: str, records: Iterable[Any], seconds: float, attributes: Attributes) -> None:
    """Adds the spans of a batch of records that was processed just now, and took so long."""
    if _export is not None:
        begun_ns = time.time_ns() - round(seconds * 1e9)
        _export.record_batch(
            topic, [(one, trace) for one in records if (trace := _traceparent_in(one.value))], begun_ns, attributes
        )


def kafka_attributes(topic: str, partition: int) -> dict[str, str | int]:
    """By the names of OpenTelemetry's conventions."""
    return {
        "messaging.system": "kafka",
        "messaging.destination.name": topic,
        "messaging.destination.partition.id": str(partition),
    }


def _traceparent_in(value: bytes | None) -> str | None:
    if value is None or b'"traceparent"' not in value:
        return None
    try:
        envelope = from_json(value)
    except ValueError:
        return None
    found = envelope.get("traceparent") if isinstance(envelope, dict) else None
    return found if isinstance(found, str) and is_traceparent(found) else None
