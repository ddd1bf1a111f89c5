"""What the product says, held against the oracle's own fold of the log: each difference is a finding."""

from __future__ import annotations

import random
import time
import unicodedata
import urllib.error
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from tests.oracle.fold import Channel, Settings
from tests.oracle.four_eyes import FourEyes, on_path
from tests.oracle.http import Api
from tests.oracle.json_difference import difference, same
from tests.oracle.json_patch import apply_patch
from tests.oracle.log import Record

GENESIS = "0" * 64
_SECTIONS = ("sms", "otp-scheduling", "spend-guard", "approvals")
_SETTLE_S = 30.0
_PRECONDITION_FAILED = 412
_NOT_REMEMBERED = ("InvalidCommand", "CommandIdReused", "ChannelUnknown")
"""Rejections that the same command gets anew, not as a repeated outcome."""


class Oracle:
    """``events`` and ``outcomes`` are all committed records of their topics."""

    def __init__(self, events: list[Record], outcomes: list[Record], api: Api) -> None:
        self._events, self._outcomes, self._api = events, outcomes, api
        self._by_channel: dict[str, list[Record]] = {}
        for record in events:
            self._by_channel.setdefault(record.json["subject"], []).append(record)

    def findings(self, samples: int, seed: int) -> Iterator[str]:
        """``samples``: so many moments and so many differences of channels are asked for."""
        dice = random.Random(seed)
        yield from self.broken_chains()
        yield from self.wrong_outcomes()
        yield from self.wrong_settings()
        yield from self.wrong_versions()
        yield from self.wrong_moments(samples, dice)
        yield from self.wrong_differences(samples, dice)
        yield from self.wrong_proposed_changes()
        yield from self.wrong_history()
        yield from self.wrong_audit_log()
        yield from self.wrong_feed()

    def broken_chains(self) -> Iterator[str]:
        """``sequence`` and ``partitionsequence`` count 1, 2, 3 …; ``previoushash`` is the hash of the event before."""
        counts: dict[int, int] = {}
        for record in self._events:
            counts[record.partition] = counts.get(record.partition, 0) + 1
            if (count := record.json["partitionsequence"]) != counts[record.partition]:
                yield f"{_place(record)}: partitionsequence {count}, not {counts[record.partition]}"
            if record.key != record.json["subject"]:
                yield f"{_place(record)}: the key is not the channel"
        for channel, records in self._by_channel.items():
            before, latest = GENESIS, ""
            for number, record in enumerate(records, 1):
                if record.json["sequence"] != number:
                    yield f"{_place(record)}: version {record.json['sequence']} of {channel}, not {number}"
                if record.json["previoushash"] != before:
                    yield f"{_place(record)}: previoushash does not fit"
                if record.json["time"] < latest:
                    yield f"{_place(record)}: time goes backwards within {channel}"
                if (name := record.json["data"].get("name")) is not None and not _is_plain(name):
                    yield f"{_place(record)}: the name {name!r} is not in NFC, or has something invisible"
                before, latest = sha256(record.value).hexdigest(), record.json["time"]
            if len({record.partition for record in records}) != 1:
                yield f"{channel} is on several partitions"

    def wrong_outcomes(self) -> Iterator[str]:
        """Each command has one first outcome; accepted ones name events that exist, each event is named once."""
        named: dict[str, str] = {}
        first: set[tuple[str, str, str]] = set()
        for record in self._outcomes:
            outcome = record.json
            if outcome.get("repeated") or outcome["data"].get("rejection") in _NOT_REMEMBERED:
                continue
            key = (outcome["accountid"], outcome["subject"], outcome["causationid"])
            if key in first:
                yield f"command {key} has a second first outcome"
            first.add(key)
            for event in outcome["data"].get("events", ()):
                if event in named:
                    yield f"event {event} is named by two outcomes"
                named[event] = outcome["causationid"]
        for record in self._events:
            if named.pop(record.json["id"], None) != record.json["causationid"]:
                yield f"{_place(record)}: no outcome names this event"
        for event, command in named.items():
            yield f"the outcome of {command} names event {event}, which is not there"

    def wrong_settings(self) -> Iterator[str]:
        """The read model, once it has caught up."""
        for channel, records in self._by_channel.items():
            account = records[0].json["accountid"]
            version = records[-1].json["sequence"]
            shown = self._api.get(f"/v1/channels/{channel}/settings", account, min_version=version)
            if found := difference(shown, self._fold(channel, version, _now())):
                yield f"settings of {channel}: {found}"

    def wrong_versions(self) -> Iterator[str]:
        """An ETag is the last event on the resource's path; it is accepted as If-Match, and the version before not."""
        for channel, records in self._by_channel.items():
            account = records[0].json["accountid"]
            version = records[-1].json["sequence"]
            settings = self._fold(channel, version, _now()) or {}
            for path in ("", *resources(settings)):
                resource = path or "channel"
                expected = max(
                    (r.json["sequence"] for r in records if on_path(r.json["resource"], resource)), default=0
                )
                at = f"/v1/channels/{channel}{'/' if path else ''}{path}"
                shown = self._api.etag(at.replace("/signature", "/signatures"), account, min_version=version)
                if shown != expected:
                    yield f"the ETag of {at} is {shown}, not {expected}"
                elif not settings["retired"]:
                    yield from self._wrong_conditions(at, path, account, expected)

    def _wrong_conditions(self, at: str, path: str, account: str, version: int) -> Iterator[str]:
        """By dry runs, which change nothing."""
        method, body = ("POST", {"force": True}) if path.endswith("/signature") else ("PATCH", {"name": "Another"})
        if path in (*_SECTIONS, "business-systems") or path.endswith("/intents"):
            return
        for expected, stale in ((version, False), (version - 1, True)):
            try:
                self._api.send(method, at, account, body, {"If-Match": f'"{expected}"'}, dry_run="true")
                status = 200
            except urllib.error.HTTPError as error:
                status = error.code
            if (status == _PRECONDITION_FAILED) != stale:
                yield f"{at}: If-Match of version {expected}, last changed in {version}, is answered with {status}"

    def wrong_moments(self, samples: int, dice: random.Random) -> Iterator[str]:
        for channel, records, number in self._samples(samples, dice):
            account = records[0].json["accountid"]
            version = records[number].json["sequence"]
            time_ = records[number].json["time"]
            shown = self._api.get(f"/v1/channels/{channel}/settings", account, at=version)
            if found := difference(shown, self._fold(channel, version, time_)):
                yield f"settings of {channel} at version {version}: {found}"
            latest = max(record.json["sequence"] for record in records if record.json["time"] <= time_)
            shown = self._api.get(f"/v1/channels/{channel}/settings", account, at=time_)
            if found := difference(shown, self._fold(channel, latest, time_)):
                yield f"settings of {channel} at {time_}: {found}"

    def wrong_differences(self, samples: int, dice: random.Random) -> Iterator[str]:
        """The JSON Patch between two versions, applied to the one, gives the other."""
        for channel, records, number in self._samples(samples, dice):
            account = records[0].json["accountid"]
            first = dice.randrange(number + 1)
            one, other = records[first], records[number]
            answer = self._api.get(
                "/v1/audit/diff", account, channel=channel, from_=one.json["sequence"], to=other.json["sequence"]
            )
            patched = apply_patch(self._fold(channel, one.json["sequence"], one.json["time"]), answer["patch"])
            if found := difference(patched, self._fold(channel, other.json["sequence"], other.json["time"])):
                yield f"difference of {channel} from {one.json['sequence']} to {other.json['sequence']}: {found}"

    def wrong_proposed_changes(self) -> Iterator[str]:
        """The rules of two people, and each proposed change with what became of it, newest first."""
        for channel, records in self._by_channel.items():
            folded = FourEyes(records)
            yield from (f"{channel}, {broken}" for broken in folded.broken)
            expected, before = list(reversed(folded.changes.values())), None
            at, account = f"/v1/channels/{channel}/proposed-changes", records[0].json["accountid"]
            shown: list[Any] = []
            while shown == [] or before is not None:
                version = records[-1].json["sequence"]
                page = self._api.get(at, account, limit=7, before=before, min_version=version)
                shown, before = shown + page["changes"], page["next"]
                if not shown:
                    break
            if found := difference(shown, expected):
                yield f"proposed changes of {channel}: {found}"

    def wrong_history(self) -> Iterator[str]:
        """Each event once, newest first, with what it says."""
        for channel, records in self._by_channel.items():
            account = records[0].json["accountid"]
            entries: list[Any] = []
            before = None
            while True:
                page = self._api.get(
                    f"/v1/channels/{channel}/history",
                    account,
                    limit=200,
                    before=before,
                    min_version=records[-1].json["sequence"],
                )
                entries += page["entries"]
                before = page.get("next")
                if before is None:
                    break
            yield from self._compare_entries(f"history of {channel}", records, entries[::-1])

    def wrong_audit_log(self) -> Iterator[str]:
        for channel, records in self._by_channel.items():
            account = records[0].json["accountid"]
            entries: list[Any] = []
            after = None
            while True:
                page = self._api.get("/v1/audit/log", account, channel=channel, limit=1000, after=after)
                entries += page["entries"]
                after = page.get("next")
                if not page.get("more"):
                    break
            yield from self._compare_entries(f"audit log of {channel}", records, entries)

    def _compare_entries(self, what: str, records: list[Record], entries: list[Any]) -> Iterator[str]:
        told = [entry for entry in entries if not entry.get("rejection")]
        ids = [entry["id"] for entry in told]
        expected = [record.json["id"] for record in records]
        if ids != expected:
            yield f"{what}: {len(ids)} events, not the {len(expected)} of the log in their order"
            return
        for entry, record in zip(told, records, strict=True):
            event = record.json
            for name, value in (
                ("type", event["type"]),
                ("actor", event.get("actor")),
                ("version", event["sequence"]),
                ("command_id", event["causationid"]),
                ("data", event["data"]),
            ):
                if not same(entry.get(name), value):
                    yield f"{what}, version {event['sequence']}: {name} is {entry.get(name)!r}, not {value!r}"

    def wrong_feed(self) -> Iterator[str]:
        """Polled from the beginning: each event of an account once, in order per channel."""
        for account in {record.json["accountid"] for record in self._events}:
            seen: dict[str, list[str]] = {}
            cursor = "beginning"
            while True:
                page = self._api.get("/v1/changes", account, cursor=cursor, account_=account, limit=1000)
                for event in page["changes"]:
                    seen.setdefault(event["subject"], []).append(event["id"])
                if not page["changes"] or page["cursor"] == cursor:
                    break
                cursor = page["cursor"]
            for channel, records in self._by_channel.items():
                if records[0].json["accountid"] == account:
                    expected = [record.json["id"] for record in records]
                    if seen.pop(channel, []) != expected:
                        yield f"feed of {channel}: not the events of the log in their order"
            for channel in seen:
                yield f"feed of account {account}: channel {channel} is another account's"

    def _samples(self, count: int, dice: random.Random) -> Iterator[tuple[str, list[Record], int]]:
        channels = sorted(self._by_channel)
        for _ in range(count if channels else 0):
            records = self._by_channel[dice.choice(channels)]
            yield records[0].json["subject"], records, dice.randrange(len(records))

    def _fold(self, channel: str, version: int, time_: str) -> Settings | None:
        folded = Channel()
        for record in self._by_channel[channel]:
            if record.json["sequence"] > version:
                break
            folded.apply(record.json)
        return folded.settings_at(time_)


def _is_plain(name: str) -> bool:
    return name == unicodedata.normalize("NFC", name).strip() and not {"\u200b", "\u202e"} & set(name)


def resources(settings: Settings) -> Iterator[str]:
    """The paths below a channel that have an ETag."""
    yield from (*_SECTIONS, "business-systems")
    for system in settings["business_systems"]:
        path = f"business-systems/{system['system']}"
        yield from (path, f"{path}/signature", f"{path}/intents")
        yield from (f"{path}/intents/{intent['code']}" for intent in system["intents"])


def _place(record: Record) -> str:
    return f"events/{record.partition}/{record.offset}"


def _now() -> str:
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
