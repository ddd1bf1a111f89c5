"""The history and the catalogue: equal to what the log itself says, found by who, what, where and when."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from contracts import topics
from contracts.envelope import EventEnvelope
from contracts.message import unix_milliseconds
from projections import MIGRATIONS as PROJECTION_MIGRATIONS
from projections import catalogue, history
from projections.catalogue import queries as catalogue_queries
from projections.history import fold as history_fold
from projections.history import queries as history_queries
from services.infrastructure.checkpoints import MIGRATIONS as CHECKPOINT_MIGRATIONS
from services.infrastructure.config import Settings
from services.infrastructure.postgres import Pool, migrate, pool_of
from services.projector import versions
from services.projector.service import projections
from tests.installation import Installation, fresh
from tests.read_models import history_of

pytestmark = pytest.mark.timeout(120)

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
async def tables(database_url: str) -> AsyncIterator[Pool]:
    """A database with nothing but the tables."""
    pool = await pool_of(Settings.from_environment({"SWITCHBOARD_DATABASE_URL": database_url}), size=2)
    await migrate(pool, "checkpoints", CHECKPOINT_MIGRATIONS)
    await migrate(pool, "projections", PROJECTION_MIGRATIONS)
    yield pool
    await pool.close()


def records(values: list[bytes], start: int = 0) -> list[Any]:
    return [SimpleNamespace(offset=start + at, value=value) for at, value in enumerate(values)]


async def apply(pool: Pool, name: str, topic: str, batch: list[Any]) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await projections()[name][topic](connection, 0, batch)


async def test_found_by_channel_type_actor_and_time(installation: Installation) -> None:
    account, channel = fresh("acct"), fresh("ch")
    begun = datetime.now(UTC) - timedelta(seconds=5)
    async with installation.api(account) as api, installation.publisher(account) as publisher:
        form = {"channel_type": "whatsapp", "name": "Shop", "enterprise_authenticated": True}
        await publisher.send_raw("RegisterChannel", form, channel=channel, actor="ops@acme")
        await publisher.send_raw("ToggleSms", {"enabled": True}, channel=channel, actor="jo@acme")
        await publisher.send_raw("AddIntent", {"system": "crm", "code": "A", "name": "A", "default_data": {}},
                                 channel=channel, actor="jo@acme")  # fmt: skip
        await publisher.send_raw("ToggleSms", {"enabled": False}, channel=channel, actor="ops@acme")
        await history_of(api, channel, 3)

        async def found(query: str) -> list[str]:
            body = (await api("GET", f"channels/{channel}/history?{query}")).body
            return [one.get("rejection", one["type"]) for one in body["entries"]]

        everything = ["SmsDeactivated", "IntentNeedsBusinessSystem", "SmsActivated", "ChannelRegistered"]
        while len(await found("")) < 4:  # a rejection is on a topic of its own
            pass
        assert await found("") == everything
        assert await found("actor=jo@acme") == everything[1:3]
        assert await found("type=SmsActivated&type=ChannelRegistered") == everything[2:]
        assert await found("type=IntentNeedsBusinessSystem") == await found("type=AddIntent") == everything[1:2]
        until = begun.isoformat().replace("+00:00", "Z")
        assert await found(f"until={until}") == []
        assert await found(f"since={until}") == everything
        pages, before = [], ""
        while True:
            body = (await api("GET", f"history?limit=3{before}")).body
            pages.append([one.get("rejection", one["type"]) for one in body["entries"]])
            if body["next"] is None:
                break
            before = f"&before={body['next']}"
        assert pages == [everything[:3], everything[3:]]
        [toggled] = (await api("GET", f"channels/{channel}/history?type=SmsActivated")).body["entries"]
        assert (toggled["before"], toggled["after"]) == ({"sms/enabled": False}, {"sms/enabled": True})
        assert (toggled["actor"], toggled["source"], toggled["version"]) == ("jo@acme", "tests", 2)
        for path, status in (
            ("history?before=nonsense", 400),
            ("history?before=1.events.0.%00", 400),
            ("history?actor=%00", 400),
            ("history?since=yesterday", 400),
            ("history?until=0001-01-01T00:00:00%2B23:00", 400),
            ("history?since=9999-12-31T23:59:59-23:00", 400),
            (f"channels/{fresh('ch')}/history", 404),
            ("channels/%20/history", 404),
        ):
            assert (await api("GET", path)).status == status, path
    async with installation.api(fresh("acct")) as stranger:
        assert (await stranger("GET", "history")).body["entries"] == []
        foreign = await stranger("GET", f"channels/{channel}/history")
        assert (foreign.status, foreign.body["title"]) == (404, "Channel unknown")


async def test_the_catalogue(installation: Installation) -> None:
    account, channel = fresh("acct"), fresh("ch")
    async with installation.api(account) as api, installation.publisher(account) as publisher:

        async def send(kind: str, **data: Any) -> None:
            assert (await publisher.send_raw(kind, data, channel=channel)).accepted

        async def until(query: str, count: int) -> list[dict[str, Any]]:
            while True:
                found: list[dict[str, Any]] = (await api("GET", f"intents?{query}")).body["intents"]
                if len(found) == count:
                    return found

        await send("RegisterChannel", channel_type="whatsapp", name="Shop", enterprise_authenticated=True)
        for system in ("crm", "erp"):
            await send("OpenBusinessSystem", system=system, name=system.upper(), api_request_url="https://x.example/")
            for code in ("ORDER", "STOCK"):
                await send("AddIntent", system=system, code=code, name=code.title(), default_data={"n": 1})
        await send("ReferToIntent", system="crm", code="ORDER", template="welcome")
        [referred] = await until("template=welcome", 1)
        assert {key: value for key, value in referred.items() if key != "version"} == {
            "account": account, "channel": channel, "business_system": "crm", "business_system_name": "CRM",
            "disabled": False, "code": "ORDER", "name": "Order", "default_data": {"n": 1}, "schema": None,
            "templates": ["welcome"],
        }  # fmt: skip
        assert [one["business_system"] for one in await until("code=ORDER", 2)] == ["crm", "erp"]
        first = (await api("GET", "intents?limit=3")).body
        rest = (await api("GET", f"intents?limit=3&after={first['next']}")).body
        assert [one["code"] for one in first["intents"] + rest["intents"]] == ["ORDER", "STOCK"] * 2
        await send("EditBusinessSystem", system="erp", name="New ERP")
        await send("DeleteBusinessSystem", system="crm", force=True)
        assert {one["business_system_name"] for one in await until(f"channel={channel}", 2)} == {"New ERP"}
        await send("RetireChannel")
        await until("", 0)
        assert (await api("GET", "intents?after=x")).status == 400
        assert (await api("GET", "intents?code=%00")).status == 400
    async with installation.api(fresh("acct")) as stranger:
        assert (await stranger("GET", f"intents?channel={channel}")).body["intents"] == []


@pytest.mark.parametrize("size", [1, 5, 1000])
async def test_the_golden_history_in_batches_of_any_size(tables: Pool, size: int) -> None:
    values = (GOLDEN / "events.jsonl").read_bytes().splitlines()
    for start in range(0, len(values), size):
        for name in (history.NAME, catalogue.NAME):
            await apply(tables, name, topics.EVENTS.name, records(values[start : start + size], start))
    outcomes = (GOLDEN / "outcomes.jsonl").read_bytes().splitlines()
    for start in range(0, len(outcomes), size):
        await apply(tables, history.NAME, topics.OUTCOMES.name, records(outcomes[start : start + size], start))
    entries, _ = await history_queries.find(tables, history_queries.Sought(), 1000)
    events = [one for one in entries if one["position"].startswith("switchboard.events")]
    assert [one["version"] for one in reversed(events)] == list(range(1, 25))
    assert all(unix_milliseconds(one["time"]) for one in entries)
    rejected = [json.loads(value) for value in outcomes if b'"CommandRejected"' in value]
    assert sorted(one["rejection"] for one in entries if "rejection" in one) == sorted(
        one["data"]["rejection"] for one in rejected
    )
    retired = events[0]
    assert retired["before"]["channel/retired"] is False
    assert retired["before"]["business-systems/crm/signatures"]
    assert retired["after"] == {"business-systems/crm/signatures": [], "channel/retired": True}
    assert await catalogue_queries.find(tables, None) == []


@pytest.mark.parametrize(("microseconds", "shown"), [(0, True), (400, True), (999, True), (1_000, False)])
async def test_since_is_cut_to_milliseconds_and_hides_nothing_earlier(
    tables: Pool,
    microseconds: int,
    shown: bool,  # noqa: FBT001 -- a case
) -> None:
    """An event has milliseconds: one of .000 happened at .000, and may have happened at .0009."""
    value = (GOLDEN / "events.jsonl").read_bytes().splitlines()[0]
    await apply(tables, history.NAME, topics.EVENTS.name, records([value]))
    since = datetime.fromisoformat(json.loads(value)["time"]) + timedelta(microseconds=microseconds)
    entries, _ = await history_queries.find(tables, history_queries.Sought(since=since), 10)
    assert bool(entries) is shown


async def test_what_became_of_a_request_is_found_by_an_index(tables: Pool) -> None:
    """Of 5,000 entries of one channel, whether by the id of the command or by that of what it belongs to."""
    await tables.execute(
        "INSERT INTO history_v1.entries "
        "(topic, partition, log_offset, id, time, account, channel, type, command_id, correlation_id, repeated) "
        "SELECT 'events', 0, n, n, now(), 'acme', 'ch', 'SmsActivated', n, "
        "CASE WHEN n % 50 = 0 THEN 'order-' || n ELSE n::text END, false FROM generate_series(1, 5000) AS n"
    )
    await tables.execute("ANALYZE history_v1.entries")

    for about, found in (("50", "50"), ("order-50", "50"), ("51", "51")):
        entries = await history_queries.find_about(tables, "acme", "ch", about, 200)
        assert [one["command_id"] for one in entries] == [found]
    plan = await tables.fetch(f"EXPLAIN {history_queries.FIND_ABOUT}", "acme", "ch", "50", 200)
    shown = "\n".join(row[0] for row in plan)
    assert "entries_by_correlation" in shown, shown
    assert "entries_by_command" in shown, shown


@pytest.mark.parametrize("name", list(projections()))
async def test_no_character_stops_a_projection(tables: Pool, name: str) -> None:
    """PostgreSQL's text knows no NUL; JSON does, and an actor may hold one."""
    story = [EventEnvelope.model_validate_json(value) for value in (GOLDEN / "events.jsonl").read_bytes().splitlines()]
    odd = {"data": story[11].data | {"default_data": {"nul\x00": "\x00 😀"}}, "actor": "a\x00b"}
    story[11] = story[11].model_copy(update=odd)
    then = {"system": "crm", "code": "ORDER_STATUS", "name": "Then"}
    story[12] = story[12].model_copy(update={"data": then})
    values = [one.model_dump_json().encode() for one in story[:13]]
    await apply(tables, name, topics.EVENTS.name, records(values[:12]))
    await apply(tables, name, topics.EVENTS.name, records(values[12:], 12))
    if name == catalogue.NAME:
        [intent] = await catalogue_queries.find(tables, None)
        assert intent["default_data"] == {"nul\x00": "\x00 😀"}
    if name == history.NAME:
        entries, _ = await history_queries.find(tables, history_queries.Sought(), 1000)
        assert [one.get("actor") for one in entries if one["version"] == 12] == ["a\ufffdb"]


async def test_what_is_remembered_is_true_whatever_became_of_a_batch(tables: Pool) -> None:
    """A batch that was rolled back, and one that another process applied meanwhile: told as if nobody remembered."""
    values = records((GOLDEN / "events.jsonl").read_bytes().splitlines())
    told = await _told(tables, values)
    ours, others = history_fold.EventHistory(), history_fold.EventHistory()
    await _apply(tables, ours, values[:9])
    with pytest.raises(_LostItsDatabase):
        await _apply(tables, ours, values[9:20], then=_LostItsDatabase())
    await _apply(tables, ours, values[9:12])
    await _apply(tables, others, values[12:16])
    await _apply(tables, ours, values[16:])
    assert await _entries(tables) == told


async def test_what_is_remembered_is_not_loaded_again(tables: Pool) -> None:
    """Nobody but the batch before says what was: the table may be empty."""
    values = records((GOLDEN / "events.jsonl").read_bytes().splitlines())
    told = await _told(tables, values[:2])
    remembering = history_fold.EventHistory()
    await _apply(tables, remembering, values[:1])
    await tables.execute("TRUNCATE history_v1.resources")
    await _apply(tables, remembering, values[1:2])
    assert await _entries(tables) == told


class _LostItsDatabase(Exception):
    pass


async def _apply(pool: Pool, into: history_fold.EventHistory, batch: list[Any], then: Exception | None = None) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await versions.use_live(connection, history.MODEL)
        await into.apply(connection, 0, batch)
        if then is not None:
            raise then


async def _entries(pool: Pool) -> list[Any]:
    return [dict(row) for row in await pool.fetch("SELECT * FROM history.entries ORDER BY log_offset")]


async def _told(pool: Pool, batch: list[Any]) -> list[Any]:
    """What is entered where nothing is remembered; the tables are empty again."""
    await _apply(pool, history_fold.EventHistory(), batch)
    told = await _entries(pool)
    await pool.execute("TRUNCATE history_v1.entries, history_v1.resources")
    assert told
    return told
