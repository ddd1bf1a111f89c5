"""Each service's metrics, as it answers them on its own port."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiohttp
import pytest

from tests.customer import Customer
from tests.installation import SERVICES, Installation
from tests.receivers import Receiver

Samples = dict[str, float]


async def scrape(installation: Installation, service: str) -> Samples:
    port = installation.services[service].environment["SWITCHBOARD_METRICS_PORT"]
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as response:
        lines = (await response.text()).splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


async def until(installation: Installation, service: str, found: Callable[[Samples], bool]) -> Samples:
    async with asyncio.timeout(60):
        while not found(samples := await scrape(installation, service)):  # noqa: ASYNC110 -- it changes elsewhere
            await asyncio.sleep(0.2)
    return samples


def total(samples: Samples, prefix: str) -> float:
    return sum(value for name, value in samples.items() if name.startswith(prefix))


@pytest.mark.parametrize("service", SERVICES)
async def test_each_service_is_healthy_and_ready(installation: Installation, service: str) -> None:
    port = installation.services[service].environment["SWITCHBOARD_METRICS_PORT"]
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        for path, status in (("/healthz", 200), ("/readyz", 200), ("/metrics", 200), ("/", 404)):
            async with session.get(path) as response:
                assert response.status == status


async def test_a_change_is_counted_by_each_service_that_it_passes(
    installation: Installation, receiver: Receiver, shop: Customer
) -> None:
    before = {service: await scrape(installation, service) for service in SERVICES}
    await shop.open("crm", receiver.url("metrics"))

    def grew(service: str, prefix: str) -> Callable[[Samples], bool]:
        return lambda samples: total(samples, prefix) > total(before[service], prefix)

    await until(installation, "gateway", grew("gateway", "switchboard_http_requests_total"))
    decider = await until(installation, "decider", grew("decider", "switchboard_decider_commands_total"))
    assert grew("decider", "switchboard_decider_events_total")(decider)
    assert grew("decider", "switchboard_decider_transaction_seconds_count")(decider)
    assert 0 < decider['switchboard_decider_account_share_ratio{rank="1"}'] <= 1
    serving = total(decider, "switchboard_decider_partition_serving{")
    assert serving == decider["switchboard_decider_partitions"]
    for service in ("projector", "invoker", "message-router"):
        await until(installation, service, grew(service, "switchboard_consumer_records_applied_total"))


@pytest.mark.parametrize("service", ["decider", "projector", "invoker", "message-router"])
async def test_who_has_read_everything_is_not_behind(installation: Installation, service: str) -> None:
    """Also where the last offsets are markers of transactions."""
    found = await until(installation, service, lambda samples: total(samples, "switchboard_consumer_lag_records{") == 0)
    assert any(name.startswith("switchboard_consumer_lag_records{") for name in found)
    assert total(found, "switchboard_consumer_lag_seconds{") == 0
