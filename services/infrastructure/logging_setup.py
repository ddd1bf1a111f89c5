"""Logging for every process: structlog in front, the standard library's handlers behind, one line per event.

A line goes to standard error. It is readable; with ``SWITCHBOARD_LOG_FORMAT=json`` it is one JSON object with
``timestamp``, ``level``, ``logger``, ``event`` and the event's own keys. Loggers of libraries and of ``contracts`` pass
the same formatter.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from functools import lru_cache
from typing import Any, TextIO

import structlog
from structlog.types import Processor

from services.infrastructure.config import Settings

_SECRET_KEY = re.compile(r"secret|password|token|keyring|authorization|api_key$|^dsn$", re.IGNORECASE)
_SECRET_TEXT = re.compile(r"whsec_[A-Za-z0-9+/=_-]+|eyJ[\w-]+\.[\w-]+\.[\w-]*|(?<=://)[^/\s@]+(?=@)")
_REDACTED = "[redacted]"


@lru_cache(1_000)
def _is_secret_key(key: str) -> bool:
    return _SECRET_KEY.search(key) is not None


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Masks what is under a secret's name, webhook secrets, signed tokens, credentials in URLs; in tracebacks too."""
    for key, value in event.items():
        if key.startswith("_"):
            continue  # structlog's own: the record
        if _is_secret_key(key):
            event[key] = _REDACTED
        elif isinstance(value, str) and ("whsec_" in value or "eyJ" in value or "://" in value):  # cheap, and rare
            event[key] = _SECRET_TEXT.sub(_REDACTED, value)
    return event


_BEFORE_RENDERING: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure_structlog() -> None:
    """Hands structlog's events to the standard library's loggers; without a handler there, nothing is printed."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_BEFORE_RENDERING,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def formatter(form: str, *, colors: bool = False) -> logging.Formatter:
    """``form`` is ``console`` or ``json``. Tracebacks never show local variables, which may hold secrets."""
    render: list[Processor] = (
        [structlog.processors.JSONRenderer(default=str, ensure_ascii=False)]
        if form == "json"
        else [
            structlog.dev.ConsoleRenderer(
                colors=colors, pad_event_to=0, pad_level=False, exception_formatter=structlog.dev.plain_traceback
            )
        ]
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_BEFORE_RENDERING,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            redact,
            *render,
        ],
    )


def set_up_logging(settings: Settings | None = None, stream: TextIO | None = None) -> None:
    """Sets up logging as the settings say, by default those of the environment; libraries log from WARNING on.

    Raises `SettingsError`.
    """
    settings = settings or Settings.from_environment()
    stream = stream or sys.stderr
    configure_structlog()
    structlog.configure(cache_logger_on_first_use=True)  # faster; a logger then keeps these processors for good
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter(settings.log_format, colors=stream.isatty()))
    logging.basicConfig(handlers=[handler], level=settings.log_level, force=True)
    for library in ("aiokafka", "faststream", "uvicorn", "asyncio"):
        logging.getLogger(library).setLevel(logging.WARNING)
    # During an outage these repeat every second what our own line says once.
    for noisy in ("aiokafka.conn", "aiokafka.client", "aiokafka", "aiokafka.cluster"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
