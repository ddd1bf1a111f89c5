"""The rate book on a running Switchboard: applied as a whole and versioned, over HTTP and on the command line."""

from __future__ import annotations

import asyncio
import datetime
import io
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts.partitioner import partition_of
from contracts.rates import MAX_RATES, RATE_BOOK
from contracts.topics import RATES
from services.message_router.rate_book import rate_book
from tests.commands import run_here
from tests.installation import Installation, fresh
from tests.message_router_database import router_database

AS_JSON = {"Content-Type": "application/json"}
HEADER = "country,fee_class,currency,amount,from\n"
LOCAL = "BD,authentication,AED,0.0136,2026-01-01\n"
RATE = {"country": "BD", "fee_class": "authentication", "currency": "AED", "from": "2026-01-01"}
INTERNATIONAL = "BD,authentication-international,AED,0.3526,2026-10-01\n"


def switchboard(installation: Installation, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_here(installation.environment, *arguments)


async def test_a_book_is_applied_as_a_whole_and_read_by_every_account(
    installation: Installation, tmp_path: Path
) -> None:
    file = tmp_path / "rates.csv"
    file.write_text("# sample\n" + HEADER + LOCAL + INTERNATIONAL)
    checked = switchboard(installation, "rates", "check", str(file))
    assert (checked.returncode, checked.stdout.count("+ BD,")) == (0, 2), checked.stderr
    applied = switchboard(installation, "rates", "apply", str(file))
    assert applied.returncode == 0, applied.stderr
    shown = switchboard(installation, "rates", "show")
    assert shown.stdout.splitlines()[1:] == ["# sample", *(HEADER + LOCAL + INTERNATIONAL).splitlines()]
    assert switchboard(installation, "rates", "check", str(file)).stdout == "No rate changes.\n"

    async with installation.api(fresh("acct")) as account, installation.api(None) as platform:
        book = (await account("GET", "rates")).body
        version = book["version"]
        assert applied.stdout.endswith(f"Rate book {version} is applied.\n")
        assert (book["sample"], [one["amount"] for one in book["rates"]]) == (True, ["0.0136", "0.3526"])
        assert (await account("PUT", "rates", {"rates": []})).status == 403
        rates = [book["rates"][0] | {"amount": "0.02"}]
        put = await platform("PUT", "rates", {"rates": rates})
        assert (put.status, put.body) == (200, {"version": version + 1, "sample": False, "rates": rates})
        assert (await platform("PUT", "rates", {"rates": rates})).body["version"] == version + 1
        assert (await account("GET", f"rates?version={version}")).body == book
        assert (await account("GET", f"rates?version={version + 9}")).status == 404
        pages = [(await account("GET", f"rates?version={version}&limit=1")).body]
        pages.append((await account("GET", f"rates?after={pages[0]['next']}&limit=1")).body)
        assert [one | {"next": ""} for one in pages] == [book | {"rates": [one], "next": ""} for one in book["rates"]]
        assert pages[1]["next"] is None
        chosen = f"rates?version={version}&country=BD&fee_class=authentication-international"
        assert (await account("GET", chosen)).body["rates"] == book["rates"][1:]
        assert (await account("GET", f"rates?version={version}&country=SG")).body == book | {"rates": []}
        for wrong in ("after=1", f"after={version + 9}/1&version={version}", "country=bd", "fee_class=none", "limit=0"):
            assert (await account("GET", f"rates?{wrong}")).status == 400, wrong
        twice = await platform("PUT", "rates", {"rates": rates + rates})
        assert twice.status == 422
        assert "two rates are for BD authentication from 2026-01-01" in twice.body["detail"]
        assert (await account("GET", "rates")).body["version"] == version + 1


async def test_a_book_of_the_largest_size_is_applied_over_http(installation: Installation) -> None:
    day = datetime.date(2026, 1, 1)
    rate = {"fee_class": "authentication-international", "currency": "EUR", "amount": "999999.12345678"}
    rates = [
        rate | {"country": ("BD", "SG")[number % 2], "from": str(day + datetime.timedelta(days=number // 2))}
        for number in range(MAX_RATES)
    ]
    async with installation.api(None) as platform, installation.api(fresh("acct")) as account:
        large = json.dumps({"rates": rates}).encode()
        put = await platform("PUT", "rates", data=io.BytesIO(large), headers=AS_JSON)
        assert (put.status, len(put.body.get("rates", put.body))) == (200, MAX_RATES)
        pages = [(await account("GET", "rates")).body]
        while (following := pages[-1]["next"]) is not None:
            pages.append((await account("GET", f"rates?after={following}")).body)
        assert [one for page in pages for one in page["rates"]] == put.body["rates"]
        assert {(page["version"], len(page["rates"])) for page in pages} == {(put.body["version"], 1_000)}
        refused = await account("PUT", "rates", data=io.BytesIO(large), headers=AS_JSON)
        assert (refused.status, refused.body["title"]) == (413, "Body too large")
        await platform("PUT", "rates", {"rates": [RATE | {"amount": "0.02"}]})


def test_a_file_that_cannot_be_used_applies_nothing(installation: Installation, tmp_path: Path) -> None:
    file = tmp_path / "rates.csv"
    file.write_text(HEADER + "BD,authentication,AED,0,01360,2026-01-01\nXX,scheduled,AED,1,2026-01-01\n")
    before = switchboard(installation, "rates", "show").stdout
    refused = switchboard(installation, "rates", "apply", str(file))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert [line.split(":")[1] for line in refused.stderr.splitlines()] == [" Line 2", " Line 3"]
    missing = switchboard(installation, "rates", "apply", str(tmp_path / "none.csv"))
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)
    assert switchboard(installation, "rates", "show").stdout == before


@pytest.mark.parametrize("version", [2, 1], ids=["the same version", "an older one"])
async def test_the_last_book_of_the_topic_stands_and_no_version_has_two(database_url: str, version: int) -> None:
    """Compaction leaves the last record: whoever reads the topic anew has the same standing book."""
    async with router_database(database_url) as router:
        await router.rate_book(2, "0.0136")
        await router.rate_book(2, "0.0136")
        await router.rate_book(version, "9")
        books = [await rate_book(router.pool, number) for number in (2, 3, 4)]
        assert [book and (book.version, book.rates[0].amount) for book in books] == [(2, "0.0136"), (3, "9"), None]


async def test_of_two_who_apply_at_once_both_are_told_their_version(installation: Installation) -> None:
    async with installation.api(None) as platform:
        books = [{"rates": [{**RATE, "amount": amount}]} for amount in ("0.11", "0.12", "0.13", "0.14")]
        answers = await asyncio.gather(*(platform("PUT", "rates", book) for book in books))
        assert [answer.status for answer in answers] == [200] * 4
        assert len({answer.body["version"] for answer in answers}) == 4
        for book, answer in zip(books, answers, strict=True):
            version = answer.body["version"]
            assert (await platform("GET", f"rates?version={version}")).body["rates"] == book["rates"]
        stands = (await platform("GET", "rates")).body
    last = await _last_record(installation)
    assert last["data"]["rates"] == stands["rates"]
    assert last["actor"].startswith("api-key:")


async def _last_record(installation: Installation) -> Any:
    """The record of the topic that compaction leaves."""
    consumer = AIOKafkaConsumer(bootstrap_servers=installation.bootstrap_servers, auto_offset_reset="earliest")
    async with consumer:
        partition = TopicPartition(RATES.name, partition_of(RATE_BOOK, installation.settings.partitions))
        consumer.assign([partition])
        end = (await consumer.end_offsets([partition]))[partition]
        consumer.seek(partition, end - 1)
        return json.loads((await consumer.getone(partition)).value)
