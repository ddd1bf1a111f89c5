"""A page of the audit log goes on where the one before ended, and says the same as a page from the beginning."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition

from contracts.sms import ToggleSms
from services.audit.log.errors import Unclear
from services.audit.log.source import Log, LogRecord, OffsetRange
from services.audit.timeline.audit_log import AuditFilter
from services.gateway.audit_pages import AuditPages
from services.gateway.interruptible_log import InterruptibleLog
from tests.audit import MadeUpLog, copy_of
from tests.unit.audit.histories import CHANNELS, REGISTER

ASKED = AuditFilter(account="acme")


class CountingLog(InterruptibleLog):
    """Counts the records that are read of it."""

    def __init__(self, log: Log) -> None:
        super().__init__(log)
        self.read_records = 0

    async def merged(self, ranges: Mapping[TopicPartition, OffsetRange], *_: Any) -> AsyncIterator[LogRecord]:
        async for record in super().merged(ranges):
            self.read_records += 1
            yield record


def made_up(changes: int) -> MadeUpLog:
    log = MadeUpLog()
    for number in range(changes):
        for channel in CHANNELS:
            log.send(channel, ToggleSms(enabled=number % 2 == 1) if number else REGISTER)
            log.now += 10
    return log


async def all_pages(pages: AuditPages, log: Log, limit: int) -> list[dict[str, Any]]:
    found = [await pages.page(log, ASKED, None, limit)]
    while found[-1]["more"]:
        found.append(await pages.page(log, ASKED, found[-1]["next"], limit))
    return found


def entries_of(pages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [entry for page in pages for entry in page["entries"]]


@pytest.mark.parametrize("kept_bytes", [0, 1_000_000])
async def test_pages_say_together_what_one_page_says(tmp_path: Path, kept_bytes: int) -> None:
    log = copy_of(tmp_path / "log.jsonl", made_up(20).records)

    (whole,) = await all_pages(AuditPages(), log, 1_000)
    pages = await all_pages(AuditPages(kept_bytes), log, 7)

    assert len(pages) == 6
    assert entries_of(pages) == whole["entries"]
    assert pages[-1]["read_to"] == whole["read_to"]


async def test_all_pages_together_read_each_record_once(tmp_path: Path) -> None:
    made = made_up(50)
    log = CountingLog(copy_of(tmp_path / "log.jsonl", made.records))

    assert len(await all_pages(AuditPages(), log, 5)) == 20
    assert log.read_records == len(made.records)


async def test_what_was_appended_since_is_on_a_later_page(tmp_path: Path) -> None:
    made, pages = made_up(3), AuditPages()
    first = await pages.page(copy_of(tmp_path / "before.jsonl", made.records), ASKED, None, 5)
    made.send(CHANNELS[0], ToggleSms(enabled=True))

    rest = await pages.page(copy_of(tmp_path / "after.jsonl", made.records), ASKED, first["next"], 5)

    assert [entry["version"] for entry in rest["entries"]] == [3, 4]
    assert rest["entries"][-1]["before"] != rest["entries"][-1]["after"]


async def test_a_page_may_be_asked_for_again(tmp_path: Path) -> None:
    log, pages = copy_of(tmp_path / "log.jsonl", made_up(10).records), AuditPages()
    first = await pages.page(log, ASKED, None, 5)

    second, again = [await pages.page(log, ASKED, first["next"], 5) for _ in range(2)]

    assert second == again


async def test_another_accounts_page_is_not_found(tmp_path: Path) -> None:
    log, pages = copy_of(tmp_path / "log.jsonl", made_up(10).records), AuditPages()
    first = await pages.page(log, ASKED, None, 5)

    with pytest.raises(Unclear):
        await pages.page(log, AuditFilter(account="stranger"), first["next"], 5)


async def test_no_more_is_kept_than_has_room(tmp_path: Path) -> None:
    made = made_up(10)
    size = sum(len(record.value or b"") for record in made.records)
    log, pages = CountingLog(copy_of(tmp_path / "log.jsonl", made.records)), AuditPages(kept_bytes=size)
    firsts = [await pages.page(log, AuditFilter(account="acme", since=since), None, 15) for since in range(4)]
    log.read_records = 0

    for since, first in enumerate(firsts):
        await pages.page(log, AuditFilter(account="acme", since=since), first["next"], 5)

    assert log.read_records == 3 * 20 + 4, "the last one alone was kept"
