"""Following the changes of settings over Kafka.

    async for change in Subscriber("127.0.0.1:9092").changes(since=cursor, account="acme"):
        match change.body:
            case SmsActivated(): ...
        keep(change.cursor)

Changes come in order per channel, each once. Store the cursor together with the effect of the change, and resume from
it after a restart. An event of a type that this program does not know has no ``body``; ``event.data`` has its raw data.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from ..cursor import EventFilter
from ..message_types import EVENTS
from ..partition_growth import Partitions
from .change import Change
from .changes import Changes
from .errors import SubscriberError
from .start_position import BEGINNING, NOW

__all__ = ["BEGINNING", "NOW", "Change", "Changes", "Subscriber", "SubscriberError"]


class Subscriber:
    """``group``: processes with the same group share the partitions. ``security`` are aiokafka's keyword arguments.

    Kafka stores a group's positions. A change counts as processed when the next one is requested; unprocessed changes
    are delivered again, to this process or another: at least once.
    """

    def __init__(self, bootstrap_servers: str, *, group: str | None = None, **security: Any) -> None:
        if group == "":
            raise ValueError("a group needs a name")
        self._group = group
        self._options: dict[str, Any] = {"bootstrap_servers": bootstrap_servers, **security}
        self._growths: dict[int, Partitions] = {}

    def changes(
        self,
        since: str = NOW,
        *,
        account: str | None = None,
        channels: Iterable[str] = (),
        types: Iterable[str] = (),
        resources: Iterable[str] = (),
        endless: bool = True,
    ) -> Changes:
        """The changes after ``since``: a cursor, ``beginning`` or ``now``. A group has positions of its own, and uses
        ``since`` only for partitions without one. With ``endless`` False, ends with the last event that was there when
        it was opened.

        Raises ValueError on an invalid id, and on a type or resource that does not exist. Iterating raises
        `SubscriberError`, `InvalidCursor` and `SequenceGap`.
        """
        types = {types} if isinstance(types, str) else set(types)
        for unknown in sorted(types - set(EVENTS)):
            alike = get_close_matches(unknown, EVENTS, 1)
            hint = f"; did you mean {alike[0]}?" if alike else f"; there are {', '.join(EVENTS)}"
            raise ValueError(f"no event has the type {unknown!r}{hint}")
        event_filter = EventFilter.of(account, channels, types, resources)
        return Changes(self._options, self._group, since, event_filter, endless=endless, growths=self._growths)
