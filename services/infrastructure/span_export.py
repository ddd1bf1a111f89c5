"""What makes spans and sends them: OpenTelemetry's SDK, which reads ``OTEL_*`` from the environment."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, Span, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

SPANS_PER_SECOND = 200
"""Of a process, besides those of batches. Whoever sends messages may ask for a trace of each."""


class LimitedSampler(Sampler):
    """Another sampler's decisions, up to so many spans in each second; further ones are dropped.

    A span of a batch is sampled: it is made only where a message of the batch is.
    """

    def __init__(self, sampler: Sampler, per_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._sampler, self._per_second, self._clock = sampler, per_second, clock
        self._second, self._taken = 0, 0

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Any = None,
        links: Sequence[Link] | None = None,
        trace_state: Any = None,
    ) -> SamplingResult:
        if links:
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)
        if not self.has_room():
            return SamplingResult(Decision.DROP)
        result = self._sampler.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)
        self._taken += result.decision is Decision.RECORD_AND_SAMPLE
        return result

    def has_room(self) -> bool:
        second = int(self._clock())
        if second != self._second:
            self._second, self._taken = second, 0
        return self._taken < self._per_second

    def get_description(self) -> str:
        return f"{self._sampler.get_description()}, at most {self._per_second} a second"


class SpanExport:
    """The provider is our own, and not OpenTelemetry's global one: libraries that look for that one stay silent."""

    def __init__(self, service: str) -> None:
        resource = Resource({SERVICE_NAME: f"switchboard-{service}"}).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._limit = self._provider.sampler = LimitedSampler(self._provider.sampler, SPANS_PER_SECOND)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("switchboard")
        self._propagator = TraceContextTextMapPropagator()

    def shut_down(self) -> None:
        self._provider.shutdown()

    def start(
        self, name: str, kind: str, traceparent: str | None, attributes: Any, begun_ns: int | None = None
    ) -> Span | None:
        """None beyond the limit, which costs hardly anything then."""
        if not self._limit.has_room():
            return None
        parent = Context()
        if traceparent is not None:
            parent = self._propagator.extract({"traceparent": traceparent}, parent)
        return self._tracer.start_span(name, parent, SpanKind[kind], attributes, start_time=begun_ns)

    def end_batch(self, name: str, spans: Sequence[Span], begun_ns: int, attributes: Any) -> None:
        if not spans:
            return
        links = [Link(span.get_span_context()) for span in spans]
        whole = self._tracer.start_span(name, Context(), SpanKind.CONSUMER, attributes, links, begun_ns)
        for span in spans:
            span.add_link(whole.get_span_context())
            span.end()
        whole.end()

    def record_batch(self, topic: str, traced: Sequence[tuple[Any, str]], begun_ns: int, attributes: Any) -> None:
        name = f"process {topic}"
        spans = (
            self.start(name, "CONSUMER", trace, attributes | {"messaging.kafka.offset": record.offset}, begun_ns)
            for record, trace in traced
        )
        self.end_batch(
            f"{name} batch", [span for span in spans if span is not None and span.is_recording()], begun_ns, attributes
        )
