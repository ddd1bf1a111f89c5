"""The connection of a contestant process to the benchmark that started it."""

from __future__ import annotations

import os
import sys
import threading


def report_ready() -> None:
    """Reports to the benchmark that it can start. From then on this process ends when the benchmark does."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()


def _end_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os._exit(0)
