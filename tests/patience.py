"""How long a test waits for what must come: no measure of speed, but the end of a wait that would have none."""

from __future__ import annotations

PATIENCE_S = 60.0
"""More than a loaded machine needs for anything that a test waits for, and less than a test's own timeout."""
