"""A real Prometheus scrapes each service, and answers the query of each rule and of each panel."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from services.infrastructure.embedded.process import free_port
from tests.customer import Customer
from tests.installation import Installation
from tests.prometheus import DEPLOY, PROMETHEUS, RULES, needs_prometheus, rules
from tests.receivers import Receiver

_METRIC = re.compile(r"\b(?:switchboard_|process_)[a-z_]+")
_RECORDED = re.compile(r"\bswitchboard:[a-z0-9_:]+")


def _queries() -> Iterator[str]:
    yield from (rule["expr"] for rule in rules())
    dashboard = json.loads((DEPLOY / "grafana" / "switchboard.json").read_text())
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel.get("targets", []))


class Prometheus:
    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def get(self, path: str, **parameters: str) -> Any:
        async with self._session.get(f"/api/v1/{path}", params=parameters) as response:
            answer = await response.json()
        assert answer["status"] == "success", (parameters, answer)
        return answer["data"]

    async def until_found(self, query: str, count: int) -> None:
        async with asyncio.timeout(60):
            while len((await self.get("query", query=query))["result"]) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.2)


@asynccontextmanager
async def _prometheus(installation: Installation, directory: Path) -> AsyncIterator[Prometheus]:
    ports = {name: child.environment["SWITCHBOARD_METRICS_PORT"] for name, child in installation.services.items()}
    config = yaml.safe_load(RULES.with_name("prometheus.yaml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(RULES)]
    for static in config["scrape_configs"][0]["static_configs"]:
        static["targets"] = [f"127.0.0.1:{ports[static['labels']['service']]}"]
    (directory / "prometheus.yaml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [
        PROMETHEUS,
        f"--config.file={directory / 'prometheus.yaml'}",
        f"--storage.tsdb.path={directory / 'data'}",
    ]
    with (directory / "log").open("w") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log)  # noqa: ASYNC220
    try:
        async with aiohttp.ClientSession(f"http://{address}") as session:
            async with asyncio.timeout(60):
                while True:
                    assert process.poll() is None, (directory / "log").read_text()
                    try:
                        async with session.get("/-/ready") as response:
                            if response.status == 200:
                                break
                    except aiohttp.ClientError:
                        pass
                    await asyncio.sleep(0.1)
            yield Prometheus(session)
    finally:
        process.kill()
        process.wait()


@needs_prometheus
async def test_each_query_is_answered_from_what_the_services_expose(
    installation: Installation, receiver: Receiver, shop: Customer, tmp_path: Path
) -> None:
    await shop.open("crm", receiver.url("prometheus"))
    async with _prometheus(installation, tmp_path) as prometheus:
        await prometheus.until_found('up{job="switchboard"} == 1', 5)
        await prometheus.until_found("switchboard:consumer_lag_records:sum", 6)
        await prometheus.until_found("switchboard:decider_commands:rate5m", 1)
        exposed = {re.sub("_total$", "", name) for name in await prometheus.get("metadata")}
        recorded = {rule["record"] for rule in rules() if "record" in rule}
        for query in _queries():
            await prometheus.get("query", query=query)
            named = {re.sub("_(total|bucket|count|sum)$", "", name) for name in _METRIC.findall(query)}
            assert named <= exposed, query
            assert set(_RECORDED.findall(query)) <= recorded, query
        evaluated = [rule for group in (await prometheus.get("rules"))["groups"] for rule in group["rules"]]
        assert {rule["name"]: rule["health"] for rule in evaluated if rule["health"] == "err"} == {}
