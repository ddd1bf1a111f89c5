"""Audits on a running Switchboard, by its command line as people use it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from contracts.business_system import (
    DeleteBusinessSystem,
    DisableBusinessSystem,
    EditBusinessSystem,
    OpenBusinessSystem,
)
from contracts.channel import EditChannel
from contracts.intent import AddIntent, DeleteIntent, EditIntent, ReferToIntent
from contracts.message import CommandData
from contracts.sealing import SealKey
from contracts.signature import RefreshSignature, RevealSignature
from contracts.sms import ToggleSms
from tests.commands import FORM, INTENT, OPEN, REGISTER, command, happen, process
from tests.installation import Installation, fresh


@pytest.mark.timeout(120)  # several processes, one after the other
async def test_as_of_diff_and_log(installation: Installation) -> None:
    channel, account = fresh("audit"), fresh("acct")
    async with installation.publisher(account) as publisher:
        versions = await happen(
            publisher,
            channel,
            account,
            REGISTER,
            OPEN,
            INTENT,
            ToggleSms(enabled=True),
            FORM,
            RevealSignature(system="crm", seal_to=SealKey().seal_to),
        )
        rejected = await publisher.send(INTENT, channel=channel, actor="eve")
    assert versions == [1, 3, 4, 5, 6, 7]
    assert not rejected.accepted

    now = (await command(installation, "audit", "at", "now", "--channel", channel)).json
    async with installation.api(account) as api:
        live = await api("GET", f"channels/{channel}/settings?min_version=7")
    assert now["settings"] == live.body
    assert now["rests_on"]["position"].startswith("switchboard.events/")
    third = (await command(installation, "audit", "at", 4, "--channel", channel)).json
    assert (third["settings"]["version"], third["settings"]["sms"]) == (4, {"enabled": False})
    read = [third["rests_on"]["position"], now["rests_on"]["position"], now["read_to"]]
    assert [int(one.rpartition("/")[2]) for one in read] == sorted(int(one.rpartition("/")[2]) for one in read)
    between = (await command(installation, "audit", "at", 2, "--channel", channel)).json
    assert "between two events of one command" in between["notes"][0]
    early = (await command(installation, "audit", "at", "2020-01-01", "--channel", channel)).json
    assert early["settings"] is None
    assert "did not exist yet" in early["notes"][0]
    future = (await command(installation, "audit", "at", "2999-01-01T00:00:00Z", "--channel", channel)).json
    assert future["settings"]["version"] == 7
    assert "lies in the future" in future["notes"][0]
    with process(installation, "audit", "at", 9, "--channel", channel) as yet:
        _, error = yet.communicate(timeout=50)
    sentence = f"switchboard: Channel '{channel}' is at version 7; version 9 is yet to come.\n"
    assert (yet.returncode, error) == (2, sentence)
    accounts = (await command(installation, "audit", "at", "now", "--account", account)).lines
    assert [one["settings"] for one in accounts] == [now["settings"]]

    diff = (await command(installation, "audit", "diff", 3, 6, "--channel", channel, "-o", "json")).json
    assert diff["words"] == [
        "Intent 'ORDER' of business system 'crm' was added.",
        "OTP delivery scheduling was switched on, gained ID, NO.",
        "SMS was activated.",
    ]
    assert {one["path"] for one in diff["patch"]} >= {"/version", "/sms/enabled"}

    log = (await command(installation, "audit", "log", "--channel", channel)).lines
    assert [one["type"] for one in log] == [
        "ChannelRegistered",
        "BusinessSystemOpened",
        "SignatureRefreshed",
        "IntentAdded",
        "SmsActivated",
        "OtpSchedulingSaved",
        "SignatureRevealed",
        "CommandRejected",
    ]
    switched = log[4]
    assert (switched["before"], switched["after"]) == ({"sms/enabled": False}, {"sms/enabled": True})
    assert (switched["actor"], switched["source"]) == ("ops@acme.example", "tests")
    assert (log[7]["rejection"], log[7]["actor"], log[7]["command"]) == ("IntentAlreadyAdded", "eve", "AddIntent")
    by_eve = (await command(installation, "audit", "log", "--account", account, "--actor", "eve")).lines
    assert by_eve == [log[7]]
    table = await command(installation, "audit", "log", "--account", account, "--type", "ToggleSms", "-o", "table")
    assert "enabled: false → true" in table.out
    assert (await command(installation, "audit", "log", "--channel", channel, "--actor", "nobody")).err.startswith(
        "0 entries, read to switchboard.events/"
    )


async def test_over_http(installation: Installation) -> None:
    channel, account = fresh("audit"), fresh("acct")
    async with installation.publisher(account) as publisher:
        await happen(publisher, channel, account, REGISTER, ToggleSms(enabled=True))
    async with installation.api(account) as api, installation.api(fresh("other")) as stranger:
        await api("GET", f"channels/{channel}/settings?min_version=2")
        then = await api("GET", f"channels/{channel}/settings?at=1")
        assert (then.status, then.body["version"], then.body["sms"]) == (200, 1, {"enabled": False})
        assert then.headers["Switchboard-LogPosition"].startswith("switchboard.events/")
        early = await api("GET", f"channels/{channel}/settings?at=2020-01-01T00:00:00Z")
        assert (early.status, early.body["type"]) == (404, "urn:switchboard:problem:NotYetRegistered")
        yet = await api("GET", f"channels/{channel}/settings?at=3")
        assert (yet.status, "yet to come" in yet.body["detail"]) == (404, True)
        unclear = await api("GET", f"channels/{channel}/settings?at=soon")
        assert (unclear.status, "neither a version" in unclear.body["detail"]) == (400, True)
        diff = await api("GET", f"audit/diff?channel={channel}&from=1&to=2")
        assert diff.body["words"] == ["SMS was activated."]
        log = await api("GET", "audit/log?limit=1")
        assert ([one["type"] for one in log.body["entries"]], log.body["more"]) == (["ChannelRegistered"], True)
        rest = await api("GET", f"audit/log?limit=1&after={log.body['next']}")
        assert [one["type"] for one in rest.body["entries"]] == ["SmsActivated"]
        assert (rest.body["more"], rest.body["next"], rest.body["read_to"] != []) == (False, None, True)
        assert (await api("GET", "audit/log?after=switchboard.events/0/x")).status == 400
        assert [one["channel"] for one in (await api("GET", "audit/at?at=now")).body["answers"]] == [channel]
        assert (await stranger("GET", f"channels/{channel}/settings?at=1")).status == 404
        assert (await stranger("GET", f"audit/log?channel={channel}")).status == 404
        assert (await stranger("GET", "audit/log")).body["entries"] == []
        assert (await stranger("GET", "audit/verify")).status == 403
    async with installation.api(None) as platform:
        verified = await platform("GET", "audit/verify?partition=0")
        assert (verified.status, verified.body["sound"]) == (200, True)
        assert (await platform("GET", "audit/verify?partition=99")).status == 400


@pytest.mark.timeout(120)  # several processes, one after the other
async def test_undo_of_each_kind_of_change(installation: Installation) -> None:
    channel, account = fresh("audit"), fresh("acct")
    async with installation.publisher(account) as publisher:
        version = (await happen(publisher, channel, account, REGISTER, OPEN, INTENT))[-1]
        kinds: list[CommandData] = [
            EditChannel(name="Store", provider="prov"),
            ToggleSms(enabled=True),
            FORM,
            OpenBusinessSystem(system="erp", name="ERP", api_request_url="https://erp.example", remarks="x"),
            EditBusinessSystem(system="crm", name="CRM 2", remarks=None),
            EditBusinessSystem(system="crm", signature_style="plain-token"),
            DisableBusinessSystem(system="crm"),
            AddIntent(system="crm", code="NEW", name="New", default_data={}),
            EditIntent(system="crm", code="ORDER", name="Order 2", default_data={}, json_schema={"type": "object"}),
            ReferToIntent(system="crm", code="ORDER", template="t-1"),
            DeleteIntent(system="crm", code="ORDER"),
            DeleteBusinessSystem(system="crm", force=True),
        ]
        for kind in kinds:
            made = (await happen(publisher, channel, account, kind))[0]
            done = await command(installation, "audit", "undo", version + 1, "--channel", channel, "--yes")
            assert (done.code, "It would send:" in done.out) == (0, True), (kind, done)
            left = (
                await command(installation, "audit", "diff", version, "now", "--channel", channel, "-o", "json")
            ).json
            assert [one for one in left["words"] if not one.startswith("Signatures of")] == [], kind
            assert any(one.startswith("Signatures of") for one in left["words"]) == (
                isinstance(kind, DeleteBusinessSystem) or (made - version == 2 and "plain" in str(kind))
            ), (kind, left["words"])
            version = (await command(installation, "audit", "at", "now", "--channel", channel)).json["settings"][
                "version"
            ]

        deleted = await command(installation, "audit", "undo", version, "--channel", channel, "--dry-run")
        assert deleted.code in (0, 1)
        for kind, sentence in (
            (RefreshSignature(system="crm", grace_seconds=0, force=True), "is deleted and never comes back"),
            (RevealSignature(system="crm", seal_to=SealKey().seal_to), "stays known"),
        ):
            version = (await happen(publisher, channel, account, kind))[-1]
            none = await command(installation, "audit", "undo", version, "--channel", channel, "--yes")
            assert (none.code, "There is nothing to send." in none.out, sentence in none.out) == (1, True, True)
        first = await command(installation, "audit", "undo", 1, "--channel", channel, "--yes")
        assert (first.code, "RetireChannel ends the channel" in first.err) == (2, True)

        # What somebody changed since is not overwritten, and a dry run changes nothing.
        one, two = await happen(publisher, channel, account, EditChannel(name="One"), EditChannel(name="Two"))
        since = await command(installation, "audit", "undo", one, "--channel", channel, "--yes")
        assert (since.code, f"at version {two}, and channel/name changed since" in since.err) == (2, True)
        dry = await command(installation, "audit", "undo", one, "--since", "--channel", channel, "--dry-run")
        assert 'EditChannel {"name": "Shop"}' in dry.out
        assert (await command(installation, "audit", "at", "now", "--channel", channel)).json["settings"][
            "name"
        ] == "Two"
        back = await command(installation, "audit", "undo", one, "--since", "--channel", channel, "--yes")
        assert back.code == 0
        assert (await command(installation, "audit", "at", "now", "--channel", channel)).json["settings"][
            "name"
        ] == "Shop"


WATCHED = """
import sys
seen = open(sys.argv[1], "w", buffering=1)
def watch(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo"):
        print(event, arguments[1:] if event != "socket.getaddrinfo" else arguments[:2], file=seen)
sys.addaudithook(watch)
from services.cli.main import run
sys.argv[1:] = sys.argv[2:]
run()
"""


async def test_a_replay_calls_nobody_but_the_broker(installation: Installation, tmp_path: Path) -> None:
    channel, account = fresh("audit"), fresh("acct")
    async with installation.publisher(account) as publisher:
        await happen(publisher, channel, account, REGISTER, OPEN, INTENT, ToggleSms(enabled=True))
    seen, events = tmp_path / "seen", tmp_path / "events.jsonl"

    def watched() -> subprocess.CompletedProcess[str]:
        arguments = [sys.executable, "-c", WATCHED, str(seen), "audit", "replay", "--out", str(events)]
        return subprocess.run(
            arguments, env=installation.environment, capture_output=True, text=True, timeout=50, check=False
        )

    done = await asyncio.to_thread(watched)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["differences"] == []
    assert answer["compared_with_channel_state"] > 0
    written = [json.loads(line) for line in events.read_text().splitlines()]
    assert len(written) == answer["events"]
    assert [one["type"] for one in written if one["subject"] == channel][-1] == "SmsActivated"
    port = installation.bootstrap_servers.rpartition(":")[2]
    calls = seen.read_text().splitlines()
    assert calls
    assert all(port in call for call in calls), calls


@pytest.mark.timeout(120)  # several processes, one after the other
async def test_verify_anchor_and_copies(installation: Installation, tmp_path: Path) -> None:
    channel, account = fresh("audit"), fresh("acct")
    key, kept, copied = tmp_path / "key.pem", tmp_path / "anchor.json", tmp_path / "log.jsonl"
    async with installation.publisher(account) as publisher:
        await happen(publisher, channel, account, REGISTER, OPEN, INTENT)
        made = await command(installation, "audit", "anchor", "--key", key, "--make-key", "--out", kept)
        assert made.code == 0, made
        await happen(publisher, channel, account, ToggleSms(enabled=True))
    async with installation.api(account) as api:
        await api("GET", f"channels/{channel}/settings?min_version=5")
    arguments = ("audit", "verify", "--database", "--anchor", kept, "--public-key", f"{key}.pub")
    verified = await command(installation, *arguments)
    assert (verified.code, "The log is sound." in verified.out) == (0, True), verified
    assert "compared with the read model" in verified.out
    with process(installation, "audit", "verify", "--anchor", kept, "--jobs", 2) as verifying:
        out, error = await asyncio.to_thread(verifying.communicate, None, 50)
    assert (verifying.returncode, "The log is sound." in out, "4 partitions compared" in out) == (0, True, True), (
        out,
        error,
    )

    assert (await command(installation, "audit", "replay", "--write-copy", copied)).code == 0
    sound = await command(installation, "audit", "verify", "--from", copied, "--anchor", kept)
    assert (sound.code, "The log is sound." in sound.out) == (0, True), sound
    text = copied.read_text()
    copied.write_text(text.replace('\\"name\\":\\"Order\\"', '\\"name\\":\\"Orders\\"'))
    assert copied.read_text() != text
    broken = await command(installation, "audit", "verify", "--from", copied)
    assert broken.code == 1
    assert "BAD switchboard.events/" in broken.out
    assert "it was changed: its hash is not the previoushash of the event at" in broken.out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("audit", "at", "now"), "Name either --channel or --account."),
        (("audit", "at", "now", "--channel", "~x"), "--channel is '~x'"),
        (("audit", "at", "now", "--channel", "no-such-channel"), "holds no event of channel 'no-such-channel'"),
        (("audit", "verify", "--from", "/no/such/file"), "/no/such/file cannot be read"),
        (("audit", "verify", "--anchor", "/no/such/file"), "/no/such/file cannot be read"),
        (("audit", "verify", "--partition", "99"), "The log has no partition 99"),
        (("audit", "verify", "--public-key", "/no/such/file"), "name it with --anchor"),
        (("audit", "anchor", "--key", "/no/such/file"), "--make-key makes a key there"),
        (("audit", "log", "--since", "7"), "it must be a time"),
        (("settings", "apply", "/no/such/file"), "/no/such/file cannot be read"),
    ],
)
async def test_what_cannot_be_answered(installation: Installation, arguments: tuple[str, ...], sentence: str) -> None:
    said = await command(installation, *arguments)
    assert said.code == 2
    assert sentence in said.err
    assert said.err.count("\n") == 1
