"""What `audit verify` finds on a running Switchboard: a byte changed on the broker's disk, rows in a read model."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from contracts import topics
from contracts.partitioner import partition_of
from contracts.sms import ToggleSms
from tests.commands import INTENT, OPEN, REGISTER, Said, command, happen
from tests.installation import Installation, fresh
from tests.servers import PARTITIONS, Servers


def flip(partition: Path, wanted: bytes) -> None:
    """One bit of the byte behind ``wanted``, in place, as a failing disk or a hand would do it."""
    segment = next(one for one in partition.glob("*.log") if wanted in one.read_bytes())
    with segment.open("r+b") as file:
        place = file.read().index(wanted) + len(wanted)
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1]))


async def test_a_byte_flipped_on_the_brokers_disk(installation: Installation, shared_servers: Servers) -> None:
    directory = next((one for one in shared_servers.directories if one.name == "kafka"), None)
    if directory is None:
        pytest.skip("the broker's files are not ours")
    channel, account = fresh("audit"), fresh("acct")
    async with installation.publisher(account) as publisher:
        name = fresh("Shop")
        await happen(publisher, channel, account, REGISTER.model_copy(update={"name": name}), OPEN, INTENT)
    at = (await command(installation, "audit", "at", 1, "--channel", channel)).json
    partition = partition_of(channel, PARTITIONS)
    offset = at["rests_on"]["position"]
    files = directory / "logs" / f"{topics.EVENTS.name}-{partition}"
    mark = f'"name":"{name[:-1]}'.encode()
    flip(files, mark)
    try:
        verified = await command(installation, "audit", "verify", "--partition", partition)
        other = await command(installation, "audit", "at", "now", "--channel", channel)
    finally:
        flip(files, mark)
    assert verified.code == 1
    assert f"BAD {offset}: the checksum of the records from here on is wrong" in verified.out, verified.out
    assert f"BAD {offset} (channel '{channel}'): it was changed: its hash is not the previoushash" in verified.out
    assert verified.out.count("BAD") == 3, verified.out  # the third is what channel-state holds
    assert (other.code, "The log is damaged" in other.err) == (2, True)
    sound = await command(installation, "audit", "verify", "--partition", partition)
    assert (sound.code, "The log is sound." in sound.out) == (0, True), sound


async def test_read_models_that_show_something_else(installation: Installation) -> None:
    channel, account = fresh("audit"), fresh("acct")
    async with installation.publisher(account) as publisher:
        version = (await happen(publisher, channel, account, REGISTER, OPEN, INTENT, ToggleSms(enabled=True)))[-1]
    async with installation.api(account) as api:
        assert (await api("GET", f"channels/{channel}/history?min_version={version}")).status == 200
        assert (await api("GET", f"channels/{channel}/settings?min_version={version}")).status == 200
        while not (await api("GET", f"intents?channel={channel}")).body["intents"]:  # noqa: ASYNC110 -- it has no event
            await asyncio.sleep(0.05)
    partition = partition_of(channel, PARTITIONS)

    async def verified() -> Said:
        return await command(installation, "audit", "verify", "--database", "--partition", partition)

    sound = await verified()
    assert (sound.code, "The log is sound." in sound.out) == (0, True), sound
    assert "with the intent catalogue" in sound.out
    connection = await asyncpg.connect(installation.settings.database_url)
    try:
        for table, change, back, clause in (
            (
                "settings.channels",
                "sections = jsonb_set(sections, '{sms,settings,enabled}', 'false')",
                "sections = jsonb_set(sections, '{sms,settings,enabled}', 'true')",
                "shows other settings in this version",
            ),
            ("settings.channels", "channel_changed = 3", "channel_changed = 1", "shows other settings in this version"),
            ("settings.intents", "changed = 3", "changed = 4", "shows other settings in this version"),
            (
                "settings.channels",
                "channel_type = 'fax'",
                "channel_type = 'whatsapp'",
                "rows of the channel cannot be read",
            ),
            ("settings.channels", "version = 4", "version = 5", "shows version 4, though it has read version 5"),
            ("catalogue.intents", "name = 'x'", "name = 'Order'", "the intent catalogue shows other intents"),
            ("catalogue.systems", "disabled = true", "disabled = false", "the intent catalogue shows other intents"),
            ("history.entries", "actor = 'eve'", "actor = 'ops@acme.example'", "history tells it otherwise: actor"),
            ("history.entries", "channel = channel || '-'", "", "the history tells it otherwise: channel"),
        ):
            await connection.execute(f"UPDATE {table} SET {change} WHERE channel = $1", channel)  # noqa: S608
            wrong = await verified()
            restore = back or "channel = $1"
            where = "channel = $1" if back else "channel = $1 || '-'"
            await connection.execute(f"UPDATE {table} SET {restore} WHERE {where}", channel)  # noqa: S608
            assert (wrong.code, clause in wrong.out) == (1, True), (table, change, wrong)
            assert f"(channel '{channel}')" in wrong.out
        row = await connection.fetchrow(
            "DELETE FROM history.entries WHERE channel = $1 AND version = 2 RETURNING *", channel
        )
        gone = await verified()
        assert row is not None
        columns = ", ".join(f"${number}" for number in range(1, len(row) + 1))
        await connection.execute(f"INSERT INTO history.entries VALUES ({columns})", *row.values())  # noqa: S608
        assert (gone.code, "the history has no entry of it, though it has read it" in gone.out) == (1, True), gone
        added = """
            INSERT INTO history.entries
                (topic, partition, log_offset, id, time, account, channel, type, command_id, correlation_id, repeated)
            SELECT topic, partition, log_offset + $2, 'no-event', time, account, channel, type, 'none', 'none', false
            FROM history.entries WHERE topic = 'events' AND channel = $1 AND version = 1
        """
        for distance in (1, 10**9):  # a marker's offset, and one that is yet to come
            await connection.execute(added, channel, distance)
            more = await command(installation, "audit", "verify", "--database")
            await connection.execute("DELETE FROM history.entries WHERE id = 'no-event'")
            assert (more.code, f"(channel '{channel}'): the history has an entry of it" in more.out) == (1, True), more
        orphan = "UPDATE settings.business_systems SET channel = $2 WHERE channel = $1"
        await connection.execute(orphan, channel, "no-such-channel")
        lost = await command(installation, "audit", "verify", "--database")
        await connection.execute(orphan, "no-such-channel", channel)
        assert "(channel 'no-such-channel'): the read model has a row of business system crm whose owner" in lost.out
        assert "a row of intent crm/" in lost.out, lost
        for column, clause in (
            ("sequence", "the checkpoint of the catalogue counts"),
            ("next_offset", "and the log ends here"),
        ):
            where = "partition = $1 AND consumer = 'switchboard.projector-catalogue'"
            change = f"UPDATE switchboard.checkpoints SET {column} = {column} + $2 WHERE {where}"  # noqa: S608
            await connection.execute(change, partition, 10**9)
            ahead = await verified()
            await connection.execute(change, partition, -(10**9))
            assert (ahead.code, clause in ahead.out) == (1, True), ahead
        await connection.execute("INSERT INTO catalogue.systems VALUES ('no-such-channel', 'crm', 'CRM', false)")
        strange = await command(installation, "audit", "verify", "--database")
        await connection.execute("DELETE FROM catalogue.systems WHERE channel = 'no-such-channel'")
        assert "the intent catalogue shows it, but the log has no event of it" in strange.out
    finally:
        await connection.close()
    assert (await verified()).code == 0
