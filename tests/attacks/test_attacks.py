"""A neighbour's work goes on beside an attack, and no service grows: figures are `make attacks`' business."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.infrastructure.embedded.kafka import EmbeddedKafka
from tests.attacks.__main__ import MAX_MEMORY_MIB, measure
from tests.installation import Installation, fresh_database
from tests.servers import Servers


@pytest.fixture(scope="module")
def attacked(
    own_kafka: EmbeddedKafka, shared_servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """An installation of its own: an attack would hinder the other tests."""
    directory = tmp_path_factory.mktemp("installation")
    dsn = fresh_database(shared_servers.dsn)
    with Installation(own_kafka.bootstrap_servers, dsn, directory, receivers=16) as running:
        yield running


@pytest.mark.timeout(180)
@pytest.mark.parametrize("attack", ["command-flood", "audits"])
async def test_a_neighbours_requests_are_all_answered_beside(attacked: Installation, attack: str) -> None:
    found, memory = await measure(attacked, attack, seconds=3)

    assert found.failures == []
    assert all(found.seconds[kind] for kind in ("command", "read", "feed", "call"))
    assert max(memory.values()) < MAX_MEMORY_MIB, memory
