"""A client of server-sent events, and the assertion that a reader got each change once and in order."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from contracts.kafka.subscriber import Subscriber
from tests.installation import Api, Installation


@dataclass
class Stream:
    """A reader of server-sent events: what it received, as (id, event, data), and the last id."""

    got: list[tuple[str, str, Any]] = field(default_factory=list)
    last_id: str | None = None
    comments: int = 0

    async def read(self, api: Api, path: str = "changes", *, most: int = 1_000_000) -> None:
        """Connects with the last id, and reads until the response ends or ``most`` more events have arrived."""
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": self.last_id} if self.last_id else {})
        wanted = len(self.got) + most
        async with api.session.get(path, headers=headers) as response:
            assert response.status == 200, await response.text()
            event: dict[str, str] = {}
            async for line in response.content:
                text = line.decode().rstrip("\n")
                if text.startswith(":"):
                    self.comments += 1
                elif text:
                    name, _, value = text.partition(": ")
                    event[name] = value
                else:
                    self.last_id = event.get("id", self.last_id)
                    if "data" in event:
                        self.got.append((self.last_id or "", event.get("event", ""), json.loads(event["data"])))
                    event = {}
                if len(self.got) >= wanted:
                    return

    def changes(self) -> list[tuple[str, int]]:
        return [(data["subject"], data["sequence"]) for _, event, data in self.got if not event]


async def all_changes(installation: Installation, account: str) -> list[tuple[str, int]]:
    changes = Subscriber(installation.bootstrap_servers).changes("beginning", account=account, endless=False)
    return [(change.event.subject, change.event.sequence) async for change in changes]


def assert_each_once_in_order(seen: list[tuple[str, int]], everything: list[tuple[str, int]]) -> None:
    by_channel: dict[str, list[int]] = defaultdict(list)
    for channel, sequence in seen:
        by_channel[channel].append(sequence)
    for channel, sequences in by_channel.items():
        assert sequences == list(range(1, len(sequences) + 1)), f"{channel} arrived out of order, with a gap or twice"
    assert sorted(seen) == sorted(everything)


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 -- what is looked at knows no event
        await asyncio.sleep(0.02)
