"""The idempotency window on a real broker: a stranger's flood and a restart between a command and its retry."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from contracts.channel import RegisterChannel
from contracts.kafka.publisher import Publisher
from contracts.partitioner import partition_of
from contracts.sms import ToggleSms
from tests.installation import Installation, fresh, fresh_database
from tests.servers import PARTITIONS, Servers

FLOOD = 20_100
REGISTER = RegisterChannel(channel_type="whatsapp", name="Shop", enterprise_authenticated=True)


@pytest.fixture(scope="module")
def decider(shared_servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    directory = tmp_path_factory.mktemp("installation")
    dsn = fresh_database(shared_servers.dsn)
    with Installation(shared_servers.bootstrap_servers, dsn, directory, services=["decider"]) as running:
        yield running


def _neighbour(channel: str) -> str:
    """Another channel of the same partition."""
    home = partition_of(channel, PARTITIONS)
    return next(name for number in range(999) if partition_of(name := f"{channel}-{number}", PARTITIONS) == home)


async def _flood(publisher: Publisher, channel: str, stranger: str) -> None:
    own = _neighbour(channel)
    await publisher.send(REGISTER, channel=own, account=stranger)
    unknown = ((channel, ToggleSms(enabled=True)) for _ in range(FLOOD // 2))
    known = ((own, ToggleSms(enabled=bool(number % 2))) for number in range(FLOOD // 2))
    await publisher.publish_many(unknown, account=stranger)
    await publisher.publish_many(known, account=stranger)
    await publisher.send(ToggleSms(enabled=True), channel=own, account=stranger, timeout=90)


@pytest.mark.timeout(240)
async def test_a_retry_after_a_strangers_flood_and_a_restart_changes_nothing(decider: Installation) -> None:
    channel, account, stranger = fresh("ch"), fresh("acme"), fresh("stranger")
    retry = fresh("retry")
    async with decider.publisher(account) as publisher:
        await publisher.send(REGISTER, channel=channel)
        first = await publisher.send(ToggleSms(enabled=True), channel=channel, command_id=retry)
        await publisher.send(ToggleSms(enabled=False), channel=channel)
        await _flood(publisher, channel, stranger)
        at_once = await publisher.send(ToggleSms(enabled=True), channel=channel, command_id=retry)
        decider.kill("decider")
        decider.restart("decider")
        after_restart = await publisher.send(ToggleSms(enabled=True), channel=channel, command_id=retry, timeout=60)
        now = await publisher.send(ToggleSms(enabled=False), channel=channel)

    assert first.accepted
    assert (at_once.body, at_once.repeated) == (after_restart.body, after_restart.repeated) == (first.body, True)
    assert now.version == 3, "the retries appended no event"
