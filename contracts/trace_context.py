"""The attribute ``traceparent`` of W3C Trace Context."""

from __future__ import annotations

import re

_TRACE = r"-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
_TRACEPARENT = re.compile(f"00{_TRACE}|(?!00|ff)[0-9a-f]{{2}}{_TRACE}(?:-[!-~]{{0,199}})?")


def is_traceparent(text: str) -> bool:
    """Whether the text names a trace and a span of it. A version later than 00 may add to what is known of it."""
    return _TRACEPARENT.fullmatch(text) is not None
