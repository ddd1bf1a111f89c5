"""The mark of a restore that has not finished: a topic, made before all others and deleted when they are whole.

The broker keeps it through restarts, and whoever may describe it sees it in the list of topics.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from contracts.topics import UNFINISHED_RESTORE
from services.infrastructure.config import SettingsError
from services.infrastructure.outages import NotReady, retry_during_outage


class RestoreUnfinished(NotReady, SettingsError):
    """The log is not whole."""


async def is_unfinished(bootstrap_servers: str, security: dict[str, Any]) -> bool:
    """Whether a restore is under way, or was interrupted. Raises KafkaError."""
    async with _admin(bootstrap_servers, security) as admin:
        return UNFINISHED_RESTORE in await _existing(admin)


async def require_whole_log(bootstrap_servers: str, security: dict[str, Any]) -> None:
    """Raises `RestoreUnfinished` and KafkaError."""
    if await is_unfinished(bootstrap_servers, security):
        raise RestoreUnfinished(
            "A restore to this broker has not finished, and the log is not whole; if it was interrupted, `switchboard "
            "restore DIR` begins it anew."
        )


async def wait_for_whole_log(bootstrap_servers: str, security: dict[str, Any]) -> None:
    """Waits for the broker, and for the end of an unfinished restore."""

    async def require() -> None:
        await require_whole_log(bootstrap_servers, security)

    await retry_during_outage(require, (KafkaError, OSError), "broker")


async def mark(bootstrap_servers: str, security: dict[str, Any]) -> None:
    """Marks the log as not whole, if it is not marked yet. Raises KafkaError."""
    async with _admin(bootstrap_servers, security) as admin:
        replicas = 3 if len((await admin.describe_cluster())["brokers"]) >= 3 else 1
        created = await admin.create_topics([NewTopic(UNFINISHED_RESTORE, 1, replicas)])
        for name, code, _ in created.topic_errors:
            if code and for_code(code) is not TopicAlreadyExistsError:
                raise for_code(code)(name)


async def delete_topics(bootstrap_servers: str, security: dict[str, Any], names: Iterable[str]) -> None:
    """Deletes those that exist, and returns when they are gone. Raises KafkaError."""
    async with _admin(bootstrap_servers, security) as admin:
        found = sorted(set(names) & await _existing(admin))
        if not found:
            return
        for name, code in (await admin.delete_topics(found)).topic_error_codes:
            if code:
                raise for_code(code)(name)
        while set(found) & await _existing(admin):  # noqa: ASYNC110 -- the broker tells nobody
            await asyncio.sleep(0.1)


async def unmark(bootstrap_servers: str, security: dict[str, Any]) -> None:
    """The log is whole. Raises KafkaError."""
    await delete_topics(bootstrap_servers, security, [UNFINISHED_RESTORE])


@asynccontextmanager
async def _admin(bootstrap_servers: str, security: dict[str, Any]) -> AsyncIterator[Any]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, **security)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def _existing(admin: Any) -> set[str]:
    # All of them: a broker may create a topic that it is asked for by name.
    return {topic["topic"] for topic in await admin.describe_topics()}
