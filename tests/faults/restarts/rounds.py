"""Three brokers and two copies of each service, restarted one after another under load.

No command fails, no event is lost, and the oracle objects to nothing. A line for each says how long the slowest request
took while it was restarted, and how often a gateway asked to send the same request again, because its result did not
arrive in time. Each client waits for the answer before it sends its next request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import aiohttp

from contracts.kafka.publisher import Publisher
from contracts.sms import ToggleSms
from services.infrastructure.embedded.cluster import ClusterBroker, EmbeddedCluster, Ports
from services.infrastructure.embedded.postgres import EmbeddedPostgres
from services.infrastructure.embedded.process import free_port
from services.infrastructure.kafka import security_options
from tests.faults.cluster.replicas import in_sync
from tests.faults.judge import judge
from tests.installation import SERVICES, Installation, fresh
from tests.load_balanced import LoadBalanced, addresses, pairs, register, restart, use
from tests.oracle.log import read
from tests.servers import PARTITIONS

FAULTS = ("brokers", "services")
_CLIENTS = 3
_UNDISTURBED_S = 15.0
_PUBLISHED = "published command"


def play_rounds(rounds: int, seed: int, faults: Sequence[str], directory: Path) -> int:
    """Restarts all of them in each round. Returns how many rounds have violations."""
    failed = 0
    for number in range(rounds):
        found = _play_round(directory / str(number), seed, faults)
        print(f"{number:4} {'holds' if not found else f'VIOLATIONS: {len(found)}'}", flush=True)
        for violation in found[:20]:
            print(f"       {violation}", flush=True)
        failed += bool(found)
    return failed


def _play_round(directory: Path, seed: int, faults: Sequence[str]) -> list[str]:
    directory.mkdir(parents=True)
    listening = {broker: Ports(free_port(), free_port(), free_port()) for broker in (1, 2, 3)}
    with (
        EmbeddedCluster(directory / "cluster", listening=listening) as cluster,
        EmbeddedPostgres(directory / "postgres", durable=False) as postgres,
    ):

        def logins(service: str) -> dict[str, str]:
            more = {"SWITCHBOARD_HTTP_REQUESTS_PER_KEY": "100000", "SWITCHBOARD_HTTP_REQUESTS_PER_ACCOUNT": "100000"}
            return cluster.environment(service) | postgres.environment(service) | more

        servers = cluster.open_bootstrap_servers
        with Installation(servers, postgres.dsn, directory / "services", logins=logins) as installation:
            versions, failures = asyncio.run(_Restarts(cluster, installation).run(faults))
            objections = judge(
                servers,
                postgres.dsn,
                directory / "judge",
                services=("gateway",),
                partitions=PARTITIONS,
                seed=seed,
                environment={"SWITCHBOARD_KEYRING": installation.keyring},
            )
        return failures + _lost(servers, versions) + objections


def _lost(servers: str, versions: dict[str, int]) -> list[str]:
    """What clients were told about, and is not in the log; and what is there and they were not told about."""
    events = read({"bootstrap.servers": servers}, "switchboard.events")
    found = []
    for channel, version in versions.items():
        sequences = [one.json["sequence"] for one in events if one.json["subject"] == channel]
        if sequences != list(range(1, version + 1)):
            found.append(f"{channel} is at version {version}, and has the events {sequences}")
    return found


class _Restarts:
    def __init__(self, cluster: EmbeddedCluster, installation: Installation) -> None:
        self._cluster, self._installation = cluster, installation
        self._account, self._stop = fresh("acme"), asyncio.Event()
        self._client: LoadBalanced

    async def run(self, faults: Sequence[str]) -> tuple[dict[str, int], list[str]]:
        """The version that each channel has in the end, and what failed."""
        key = await asyncio.to_thread(self._installation.api_key, None)
        headers = {"Authorization": f"Bearer {key}", "Switchboard-Account": self._account}
        channels = [fresh("ch") for _ in range(_CLIENTS + 1)]
        async with pairs(self._installation) as copies, aiohttp.ClientSession() as session:
            self._client = LoadBalanced(session, addresses(copies), headers, repeats=True)
            for channel in channels:
                await register(self._client, channel)
            using = [asyncio.create_task(use(self._client, channel, self._stop)) for channel in channels[1:]]
            using.append(asyncio.create_task(self._publish(channels[0])))
            await self._measured("nothing", partial(asyncio.sleep, _UNDISTURBED_S))
            for broker in self._cluster.brokers.values() if "brokers" in faults else ():
                await self._measured(f"broker {broker.number}", partial(self._restart_broker, broker))
            for name, *both in zip(SERVICES, *copies, strict=True) if "services" in faults else ():
                for child in both:
                    await self._measured(name, partial(asyncio.to_thread, restart, child))
            self._stop.set()
            ended = await asyncio.gather(*using, return_exceptions=True)
        reached = dict(zip([*channels[1:], channels[0]], ended, strict=True))
        failures = [f"a client failed: {error!r}" for error in ended if isinstance(error, BaseException)]
        return {channel: one for channel, one in reached.items() if isinstance(one, int)}, failures

    async def _publish(self, channel: str) -> int:
        """Commands by Kafka, without a gateway; returns the channel's version."""
        login = self._cluster.environment("demo")
        servers, version = login["SWITCHBOARD_KAFKA_BOOTSTRAP_SERVERS"], 1
        async with Publisher(servers, source="tests", account=self._account, **security_options(login)) as publisher:
            while not self._stop.is_set():
                began = time.monotonic()
                outcome = await publisher.send(ToggleSms(enabled=version % 2 == 1), channel=channel)
                self._client.took[_PUBLISHED].append(time.monotonic() - began)
                version += 1
                assert outcome.version == version, outcome
        return version

    async def _restart_broker(self, broker: ClusterBroker) -> None:
        await asyncio.to_thread(broker.stop)
        await asyncio.to_thread(broker.start)
        if not await in_sync(self._cluster.open_bootstrap_servers):
            raise TimeoutError(f"broker {broker.number} does not come back in sync")

    async def _measured(self, what: str, restarted: Callable[[], Awaitable[object]]) -> None:
        took, began = self._client.took, time.monotonic()
        took.clear()
        self._client.repeated = 0
        await restarted()
        slowest = ", ".join(
            f"{name} {max(seconds):.2f} s of {len(seconds)}" for name, seconds in sorted(took.items()) if seconds
        )
        repeated = self._client.repeated
        print(f"     {what:16} {time.monotonic() - began:5.1f} s  repeated: {repeated}  slowest: {slowest}", flush=True)
