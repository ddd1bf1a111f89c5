"""The product's answers against the oracle's own fold, after traffic through crashes; and proof that it objects."""

from __future__ import annotations

import ast
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.installation import Installation, fresh, fresh_database
from tests.oracle.comparison import Oracle
from tests.oracle.http import Api
from tests.oracle.log import Record, read
from tests.oracle.traffic import Traffic
from tests.servers import Servers, servers

SEED = 20
CRASHES = ("decider", "projector", "gateway")


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Installation, Api]]:
    """An installation of its own, through which traffic went while its services were killed."""
    with servers(tmp_path_factory.mktemp("servers")) as own, _installation(own, tmp_path_factory) as running:
        api = Api(running.address, running.api_key(None))
        second = Api(running.address, running.api_key(None))
        traffic = Traffic(api, second, SEED, channels=6, prefix=fresh("oracle"))
        driving = threading.Thread(target=traffic.run, args=(50,))
        driving.start()
        dice = random.Random(SEED)
        for service in CRASHES:
            time.sleep(dice.uniform(0.2, 1.0))
            running.kill(service)
            running.restart(service)
        driving.join()
        assert traffic.accepted > 50
        assert traffic.wrong == []
        yield running, api


def _installation(own: Servers, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return Installation(own.bootstrap_servers, fresh_database(own.dsn), tmp_path_factory.mktemp("installation"))


def _log(installation: Installation) -> tuple[list[Record], list[Record]]:
    kafka = {"bootstrap.servers": installation.bootstrap_servers}
    return read(kafka, "switchboard.events"), read(kafka, "switchboard.outcomes")


@pytest.mark.timeout(300)
def test_settings_audit_history_and_feed_say_what_the_log_says(judged: tuple[Installation, Api]) -> None:
    installation, api = judged
    assert list(Oracle(*_log(installation), api).findings(samples=15, seed=SEED)) == []


def _without_one(records: list[Record]) -> list[Record]:
    return [*records[:10], *records[11:]]


def _with_a_later_one_first(records: list[Record]) -> list[Record]:
    channel = records[-1].json["subject"]
    own = [number for number, record in enumerate(records) if record.json["subject"] == channel]
    records = list(records)
    records[own[0]], records[own[-1]] = records[own[-1]], records[own[0]]
    return records


def _with_another_type(records: list[Record]) -> list[Record]:
    found = next(number for number, record in enumerate(records) if record.json["type"] == "ChannelRegistered")
    changed = records[found].json | {"data": records[found].json["data"] | {"channel_type": "line"}}
    return [*records[:found], records[found]._replace(json=changed), *records[found + 1 :]]


@pytest.mark.parametrize("damage", [_without_one, _with_a_later_one_first, _with_another_type])
def test_the_oracle_objects_when_the_log_and_the_product_differ(
    judged: tuple[Installation, Api], damage: Callable[[list[Record]], list[Record]]
) -> None:
    installation, api = judged
    events, outcomes = _log(installation)
    oracle = Oracle(damage(events), outcomes, api)
    found = [*oracle.broken_chains(), *oracle.wrong_outcomes(), *_until_it_fails(oracle.wrong_settings)]
    assert found


def _until_it_fails(check: Callable[[], Iterator[str]]) -> list[str]:
    """A log that lacks an event may not fold at all, which is an objection too."""
    try:
        return list(check())
    except KeyError as error:
        return [str(error)]


def test_a_second_first_outcome_and_an_unknown_event_are_found(judged: tuple[Installation, Api]) -> None:
    installation, api = judged
    events, outcomes = _log(installation)
    accepted = next(record for record in outcomes if record.json["data"].get("events"))
    assert list(Oracle(events, [*outcomes, accepted], api).wrong_outcomes())
    assert list(Oracle(events[1:], outcomes, api).wrong_outcomes())


@pytest.mark.parametrize(
    "name", ["log", "fold", "four_eyes", "http", "json_difference", "json_patch", "comparison", "traffic", "__main__"]
)
def test_the_oracle_uses_none_of_the_products_code(name: str) -> None:
    tree = ast.parse((Path(__file__).parent / f"{name}.py").read_text())
    imported: set[Any] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0] if node.module != "tests" else "tests")
            assert not (node.module or "").startswith("tests.") or (node.module or "").startswith("tests.oracle")
    assert not imported & {"contracts", "services", "projections"}
