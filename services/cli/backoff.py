"""How long to wait before another try."""

from __future__ import annotations

import random


def backoff_s(failures: int, first_s: float, longest_s: float) -> float:
    """``first_s``, then twice as long each time up to ``longest_s``, less a random part of up to a half."""
    longest = min(longest_s, first_s * 2.0 ** min(failures - 1, 30))
    return longest * random.uniform(0.5, 1)  # noqa: S311 -- jitter, not a secret
