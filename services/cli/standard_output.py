"""Standard output of which the reader may leave, as `head` does: it has what it wanted, and the exit code is 0."""

from __future__ import annotations

import io
import os
import sys
from typing import Any


class ReaderLeft(Exception):
    """Nobody reads standard output any more. No OSError: click and rich would make exit code 1 of it."""


class _File(io.FileIO):
    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise ReaderLeft from None


def prepare_streams() -> None:
    """Standard output raises `ReaderLeft`; a letter that a terminal or pipe has no code for becomes a "?"."""
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="replace")
    output = sys.stdout
    if isinstance(output, io.TextIOWrapper) and output is sys.__stdout__:
        output.flush()
        file = _File(output.fileno(), "wb", closefd=False)
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(file), output.encoding, "replace", line_buffering=output.line_buffering
        )


def flush_or_discard() -> None:
    """What cannot be written, to a full disk for one, is not tried again at the end of the process."""
    try:
        sys.stdout.flush()
    except (OSError, ReaderLeft):
        discard_output()


def discard_output() -> None:
    """What is still in memory, and whatever comes, goes nowhere."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
