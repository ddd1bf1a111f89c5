"""Logging: one line an event, to standard error, never a secret."""

from __future__ import annotations

import logging
import os
import sys


def set_up_logging() -> None:
    """Level from SWITCHBOARD_LOG_LEVEL (default INFO); libraries speak up from WARNING on."""
    logging.basicConfig(
        stream=sys.stderr,
        level=os.environ.get("SWITCHBOARD_LOG_LEVEL", "INFO").upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    for library in ("aiokafka", "faststream", "uvicorn", "asyncio"):
        logging.getLogger(library).setLevel(logging.WARNING)
    # These two say every second of an outage what our own one line says once.
    for noisy in ("aiokafka.conn", "aiokafka.client", "aiokafka", "aiokafka.cluster"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
