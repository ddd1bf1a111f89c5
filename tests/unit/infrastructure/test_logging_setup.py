"""Log lines: readable or JSON, the same for structlog and for standard loggers, and never with a secret."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from services.infrastructure.config import Settings, SettingsError
from services.infrastructure.logging_setup import set_up_logging

_NAMES = ("", "aiokafka", "aiokafka.conn", "aiokafka.client", "aiokafka.cluster", "faststream", "uvicorn", "asyncio")


@pytest.fixture(autouse=True)
def _logging_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, levels = root.handlers[:], {name: logging.getLogger(name).level for name in _NAMES}
    yield
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def _set_up(**variables: str) -> io.StringIO:
    stream = io.StringIO()
    # basicConfig closes the handlers that it replaces, and pytest's must stay open.
    logging.getLogger().handlers.clear()
    environment = {f"SWITCHBOARD_{name}": value for name, value in variables.items()}
    set_up_logging(Settings.from_environment(environment), stream)
    return stream


def _json_lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_readable_line() -> None:
    stream = _set_up()

    structlog.stdlib.get_logger("services.invoker").info("attempt finished", delivery="d-1", status=200)
    logging.getLogger("contracts.kafka.subscriber").warning("the broker %s went away", "k1")

    ours, standard = stream.getvalue().splitlines()
    assert "[info] attempt finished [services.invoker] delivery=d-1 status=200" in ours
    assert "[warning] the broker k1 went away [contracts.kafka.subscriber]" in standard


def test_a_json_line() -> None:
    stream = _set_up(LOG_FORMAT="json")

    structlog.stdlib.get_logger("services.invoker").info("attempt finished", delivery="d-1", status=200)
    for library in ("contracts.kafka.subscriber", "uvicorn.error", "aiokafka.consumer"):
        logging.getLogger(library).critical("the broker %s went away", "k1")

    lines = _json_lines(stream)
    assert all(line.pop("timestamp").endswith("Z") for line in lines)
    assert lines[0] == {
        "event": "attempt finished",
        "level": "info",
        "logger": "services.invoker",
        "delivery": "d-1",
        "status": 200,
    }
    assert [(line["logger"], line["event"]) for line in lines[1:]] == [
        ("contracts.kafka.subscriber", "the broker k1 went away"),
        ("uvicorn.error", "the broker k1 went away"),
        ("aiokafka.consumer", "the broker k1 went away"),
    ]


def test_the_level() -> None:
    stream = _set_up(LOG_LEVEL="warning", LOG_FORMAT="json")

    log = structlog.stdlib.get_logger("services.decider")
    log.info("batch decided")
    log.warning("partition restarts")

    assert [line["event"] for line in _json_lines(stream)] == ["partition restarts"]


@pytest.mark.parametrize("form", ["console", "json"])
def test_no_secret_in_a_line(form: str) -> None:
    stream = _set_up(LOG_FORMAT=form)
    secret = "whsec_c2VjcmV0LW9mLWEtY2hhbm5lbA=="

    try:
        raise ValueError(f"cannot sign with {secret}")
    except ValueError:
        structlog.stdlib.get_logger("x").exception(f"failed with {secret}", token="tok-1", detail=secret)
    logging.getLogger("y").error("cannot reach %s", "postgresql://sb:pass-1@db/switchboard")
    logging.getLogger("z").error("cannot take %s", "Bearer eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl")

    text = stream.getvalue()
    assert "ValueError: cannot sign with [redacted]" in text
    assert "postgresql://[redacted]@db/switchboard" in text
    assert "cannot take Bearer [redacted]" in text
    assert not any(part in text for part in ("c2VjcmV0", "tok-1", "pass-1", "eyJ", "c2lnbmF0dXJl"))


def test_a_traceback_is_part_of_its_json_line() -> None:
    stream = _set_up(LOG_FORMAT="json")

    try:
        raise ValueError("no")
    except ValueError:
        structlog.stdlib.get_logger("x").exception("failed")

    [line] = _json_lines(stream)
    assert line["exception"].splitlines()[-1] == "ValueError: no"


@pytest.mark.parametrize("name", ["LOG_LEVEL", "LOG_FORMAT"])
def test_a_variable_that_cannot_be_used(name: str) -> None:
    with pytest.raises(SettingsError, match=f"^SWITCHBOARD_{name} is .*; it must be one of"):
        _set_up(**{name: "loud"})
