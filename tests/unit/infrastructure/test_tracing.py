"""Traces: when they are on, and how many spans there are at most."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import INVALID_SPAN_CONTEXT, Link

from services.infrastructure import tracing
from services.infrastructure.span_export import LimitedSampler


@dataclass(slots=True)
class Clock:
    now: float = 0.0
    sampled: list[bool] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now


def sampled(sampler: Sampler, times: int, links: list[Link] | None = None) -> int:
    results = (sampler.should_sample(Context(), 1, "span", links=links) for _ in range(times))
    return sum(result.decision.value == 2 for result in results)


def test_whoever_asks_for_a_trace_of_everything_gets_so_many_spans_a_second() -> None:
    clock = Clock()
    sampler = LimitedSampler(ALWAYS_ON, 5, clock)
    assert sampled(sampler, 100) == 5
    clock.now = 0.9
    assert sampled(sampler, 100) == 0
    clock.now = 1.0
    assert sampled(sampler, 100) == 5


def test_what_the_operators_sampler_drops_takes_no_part_of_the_limit() -> None:
    assert sampled(LimitedSampler(ALWAYS_OFF, 5), 100) == 0


def test_a_batch_of_sampled_messages_is_sampled() -> None:
    assert sampled(LimitedSampler(ALWAYS_OFF, 0), 3, [Link(INVALID_SPAN_CONTEXT)]) == 3


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
    ],
    ids=["unset", "blank", "disabled", "no exporter"],
)
def test_traces_are_off_unless_an_endpoint_is_given(environment: dict[str, str]) -> None:
    tracing.set_up("decider", environment)()
    assert not tracing.is_on()
    assert tracing.start("span", "SERVER", f"00-{'a' * 32}-{'b' * 16}-01", root=True) is None
    assert tracing.traceparent_of(None, "kept") == "kept"


def test_off_a_service_does_not_load_the_sdk() -> None:
    """Also where it is not installed, therefore."""
    code = (
        "import sys, services.decider.service, services.cli.run_service; sys.exit('opentelemetry.sdk' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
