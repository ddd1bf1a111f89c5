"""The oracle at the end of fault rounds: settings, audit, history and feed, against its own fold of the log."""

from __future__ import annotations

import time
import urllib.error
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.installation import Installation
from tests.oracle.comparison import Oracle
from tests.oracle.http import Api
from tests.oracle.log import Record, read

SETTLE_TIMEOUT_S = 120.0
_SAMPLES = 30


def judge(
    bootstrap_servers: str,
    dsn: str,
    directory: Path,
    *,
    services: Iterable[str],
    partitions: int,
    seed: int,
    environment: Mapping[str, str] | None = None,
) -> list[str]:
    """Starts these services beside those that run, and returns what the oracle objects to in what they say.

    The database may have read models that went through the faults, or none: then a projector makes them anew.
    """
    more = {"SWITCHBOARD_HTTP_REQUESTS_PER_KEY": "100000", "SWITCHBOARD_HTTP_REQUESTS_PER_ACCOUNT": "100000"}
    with Installation(
        bootstrap_servers,
        dsn,
        directory,
        services=services,
        partitions=partitions,
        logins=lambda _: more | dict(environment or {}),
    ) as running:
        kafka = {"bootstrap.servers": bootstrap_servers}
        events, outcomes = read(kafka, "switchboard.events"), read(kafka, "switchboard.outcomes")
        api = Api(running.address, running.api_key(None))
        _wait_until_shown(api, events)
        found = list(Oracle(events, outcomes, api).findings(_SAMPLES, seed))
    print(f"     the oracle judged {len(events):,} events: {len(found)} findings", flush=True)
    for finding in found[:20]:
        print(f"       {finding}", flush=True)
    return found


def _wait_until_shown(api: Api, events: list[Record]) -> None:
    """Waits until settings and history show the last event of each channel. Raises TimeoutError."""
    last = {record.json["subject"]: record.json for record in events}
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    for channel, event in last.items():
        for what in ("settings", "history"):
            while True:
                try:
                    api.get(f"/v1/channels/{channel}/{what}", event["accountid"], min_version=event["sequence"])
                    break
                except (urllib.error.URLError, TimeoutError) as error:
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"{what} of {channel} are not shown: {error}") from None
                    time.sleep(0.2)
