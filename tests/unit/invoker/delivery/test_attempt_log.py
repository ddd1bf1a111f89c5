"""The log line of an attempt, and its level."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from services.invoker.delivery import attempt_log
from services.invoker.delivery.attempt_log import log_attempt
from services.invoker.queue.delivery import Delivery
from services.invoker.results.attempt import Attempt
from services.invoker.results.retry_policy import Answered, Delivered, Failed, GaveUp, NextStep, RetryAt, describe
from services.invoker.settings_replica.endpoint import Endpoint

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_ENDPOINT = Endpoint("acme", "https://crm.example/", "standard-webhooks", disabled=False, signatures=())


def _delivery(attempts: int) -> Delivery:
    return Delivery(
        id="d-1",
        account="acme",
        channel="channel-1",
        request_id="r-1",
        correlation_id="r-1",
        system="crm",
        code="ORDER_STATUS",
        body=b"{}",
        attempts=attempts,
        expires_at=None,
        lease=None,
        key_id=None,
        cancel_reason=None,
        test=False,
        only_key_id=None,
        uncounted=0,
        attempts_before_replay=0,
        replays=0,
        traceparent=None,
    )


@pytest.mark.parametrize(
    ("attempts", "status", "step", "level"),
    [
        (1, 200, Delivered(None), "debug"),
        (2, 200, Delivered(None), "info"),
        (1, 503, RetryAt(_NOW), "info"),
    ],
    ids=["first success", "later success", "failure"],
)
def test_only_a_success_at_the_first_attempt_is_at_debug(
    attempts: int, status: int, step: NextStep, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, attempt_log.__name__)
    with capture_logs() as lines:
        log_attempt(_delivery(attempts), Attempt(_ENDPOINT, _NOW, 3, Answered(status, b"")), step)
    assert [(line["log_level"], line["result"], line["next"]) for line in lines] == [
        (level, f"status {status}", type(step).__name__)
    ]


def test_a_disabled_line_does_not_reach_structlog(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, attempt_log.__name__)
    with capture_logs() as lines:  # in place of structlog's own filter: whatever is handed to structlog is seen
        log_attempt(_delivery(1), Attempt(_ENDPOINT, _NOW, 3, Answered(200, b"")), Delivered(None))
    assert lines == []


def test_why_a_target_is_refused_is_in_the_log_alone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, attempt_log.__name__)
    refused = Failed("address", "its host has no public address", detail="10.0.0.7 is a private address")
    with capture_logs() as lines:
        log_attempt(_delivery(1), Attempt(_ENDPOINT, _NOW, 3, refused), GaveUp("TestCallFailed", describe(refused)))
    assert [line["detail"] for line in lines] == ["10.0.0.7 is a private address"]
    assert "10.0.0.7" not in describe(refused)
