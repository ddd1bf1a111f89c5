"""Random bytes from the operating system, read many at a time."""

from __future__ import annotations

from os import urandom

_READ_BYTES = 2048
"""One system call per id would cost more than everything else that is done with the id."""


class RandomBytes:
    def __init__(self) -> None:
        self._buffer = b""
        self._used = 0

    def next(self, count: int) -> bytes:
        """``count`` bytes that were never returned before."""
        begin = self._used
        if begin + count > len(self._buffer):
            begin, self._buffer = 0, urandom(_READ_BYTES)
        self._used = begin + count
        return self._buffer[begin : self._used]
