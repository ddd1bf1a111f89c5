"""Who does something over HTTP or on the command line, as the access log names it."""

from __future__ import annotations

from dataclasses import dataclass

from contracts.envelope import Origin


@dataclass(frozen=True, slots=True)
class Actor:
    """``subject`` is None for an unknown client and on the command line; ``provider`` is whose key it is, if any's."""

    origin: Origin
    subject: str | None = None
    provider: str | None = None


COMMAND_LINE = Actor(Origin())
