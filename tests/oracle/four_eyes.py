"""What a channel's log says of approvals and proposed changes, from the product's documents alone: the rules that its
events must follow, and what is to be shown of each change."""

from __future__ import annotations

import copy
from itertools import groupby
from typing import Any

from tests.oracle.fold import Channel
from tests.oracle.json_difference import same
from tests.oracle.log import Record

OPEN_LIMIT = 10
_STATUS = {"ChangeApplied": "applied", "ChangeDeclined": "declined", "ChangeVoided": "voided"}
_BY_TWO = ("ApproveChange", "ApplyChange")
_SECTIONS = {"otp-scheduling": "otp_scheduling", "approvals": "approvals"}

Change = dict[str, Any]


def on_path(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


class FourEyes:
    """One channel. ``changes`` are as HTTP shows them, by id, oldest first; ``broken`` says which rule was not kept."""

    def __init__(self, records: list[Record]) -> None:
        self.changes: dict[str, Change] = {}
        self.broken: list[str] = []
        self._channel = Channel()
        self._settings_in: dict[int, Any] = {0: None}
        for _, command in groupby(records, key=lambda record: record.json["causationid"]):
            self._follow([record.json for record in command])

    def _follow(self, events: list[Any]) -> None:
        """The events of one command."""
        before, first = self._channel.settings_at(events[0]["time"]), events[0]["sequence"]
        command, kinds = events[0]["commandtype"], [event["type"] for event in events]
        open_before = {name: change for name, change in self.changes.items() if "closed_at" not in change}
        if sections := self._unapproved(before, command, events):
            self._object(events[0], f"{command} changes {sections} without a second person")
        for event in events:
            self._channel.apply(event)
            self._settings_in[event["sequence"]] = self._channel.settings_at(event["time"])
            if event["resource"].startswith("proposed-changes/"):
                self._change(event, command, kinds)
        settings = [event for event in events if not event["resource"].startswith("proposed-changes/")]
        for name, change in open_before.items():
            overtaken = any(_overtakes(event, change["affects"]) for event in settings)
            if overtaken and "closed_at" not in change:
                self._object(events[0], f"{command} overtakes {name}, which stays {change['status']}")
            if change["status"] == "voided" and not overtaken and command not in ("ProposeChange", "ApplyChange"):
                self._object(events[0], f"{command} makes {name} void, which it does not touch")
            if change["status"] == "voided" and settings and change["version"] > settings[0]["sequence"]:
                self._object(events[0], f"{name} is void after what made it so")
        for name in [event["data"]["change"] for event in events if event["type"] == "ChangeApplied"]:
            self._carried_out(self.changes[name], settings, first)
        if len([one for one in self.changes.values() if "closed_at" not in one]) > OPEN_LIMIT:
            self._object(events[0], f"more than {OPEN_LIMIT} changes are open")

    def _unapproved(self, before: Any, command: str, events: list[Any]) -> list[str]:
        required = set() if before is None else set(before["approvals"]["required_for"])
        if not required or command in _BY_TWO:
            return []
        open_systems = {one["system"] for one in before["business_systems"]}
        touched = {section for event in events for section in _sections_of(event, open_systems)}
        return sorted(touched & (required | {"approvals"}))

    def _change(self, event: Any, command: str, kinds: list[str]) -> None:
        name, kind = event["data"]["change"], event["type"]
        if event["resource"] != f"proposed-changes/{name}":
            self._object(event, f"its resource is not change {name}")
        if kind == "ChangeProposed":
            self._proposed(event, name)
            return
        change = self.changes[name]
        if "closed_at" in change:
            self._object(event, f"{kind} of {name}, which is {change['status']}")
        if kind == "ChangeApproved":
            self._approved(event, change, at_once="ChangeApplied" in kinds)
        else:
            self._closed(event, change, command)
        if "comment" in event["data"]:
            change["decision_comment"] = event["data"]["comment"]
        change["version"] = event["sequence"]

    def _proposed(self, event: Any, name: str) -> None:
        data, version = event["data"], event["sequence"]
        if event.get("actor") != data["proposed_by"]:
            self._object(event, f"{name} was not proposed by its actor")
        self._compare_values(event, data["before"], data["expected_version"])
        self.changes.pop(name, None)
        shown = {"status": "proposed", "proposed_at": event["time"], "proposed_in": version, "version": version}
        self.changes[name] = copy.deepcopy(data) | shown

    def _approved(self, event: Any, change: Change, *, at_once: bool) -> None:
        data, name = event["data"], change["change"]
        if change["status"] != "proposed" or data["approved_by"] == change["proposed_by"]:
            self._object(event, f"{name} is approved by its author, or twice")
        if (data["digest"], data["expected_version"]) != (change["digest"], change["expected_version"]):
            self._object(event, f"{name} is approved as another command or version")
        if ("at" in change) == at_once or event.get("actor") != data["approved_by"]:
            self._object(event, f"{name} is not carried out on approval, or before its instant, or by another")
        change |= {"status": "approved", "approved_by": data["approved_by"], "approved_at": event["time"]}

    def _closed(self, event: Any, change: Change, command: str) -> None:
        data, name = event["data"], change["change"]
        match event["type"]:
            case "ChangeApplied":
                if (data["proposed_by"], data["approved_by"]) != (change["proposed_by"], change.get("approved_by")):
                    self._object(event, f"{name} is carried out without its author's and approver's names")
                right = "ApplyChange" if "at" in change else "ApproveChange"
                if command != right or event["time"] < change.get("at", ""):
                    self._object(event, f"{name} is carried out by {command} at {event['time']}")
            case "ChangeDeclined":
                change["declined_by"] = event.get("actor")
            case "ChangeVoided":
                change["reason"] = data["reason"]
        change |= {"status": _STATUS[event["type"]], "closed_at": event["time"]}

    def _carried_out(self, change: Change, settings: list[Any], first: int) -> None:
        """Its own events follow, it was not overtaken since it was judged, and they do what it told."""
        if not settings or not all(on_path(event["resource"], change["affects"]) for event in settings):
            self._object({"sequence": first}, f"{change['change']} is carried out by other events than its own")
        self._compare_values({"sequence": first}, change["after"], max(self._settings_in))

    def _compare_values(self, event: Any, values: dict[str, Any], version: int) -> None:
        for path, value in values.items():
            held = _value_at(self._settings_in[version], path)
            if held is not None and not same(held, value):
                self._object(event, f"{path} is told as {value!r}, and is {held!r} in version {version}")

    def _object(self, event: Any, what: str) -> None:
        self.broken.append(f"version {event['sequence']}: {what}")


def _overtakes(event: Any, affected: str) -> bool:
    return event["type"] == "ChannelRetired" or on_path(event["resource"], affected)


def _sections_of(event: Any, open_systems: set[str]) -> tuple[str, ...]:
    """The sections that an event changes, as the table in docs/approvals.md has them."""
    match event["type"]:
        case "SignatureRefreshed" | "SignatureRevoked":
            return ("signature",) if event["data"]["system"] in open_systems else ()
        case "OtpSchedulingSaved":
            return ("otp-scheduling",)
        case "BusinessSystemOpened" | "BusinessSystemEdited" | "BusinessSystemEnabled":
            return ("business-systems",)
        case "BusinessSystemDeleted":
            return ("business-systems", "signature")
        case "ChannelRetired":
            return ("retire",)
        case "ApprovalsSaved":
            return ("approvals",)
        case _:
            return ()


def _value_at(settings: Any, path: str) -> Any:
    """A section, or a field of a business system; None for what the settings show in another form."""
    if path in _SECTIONS:
        return settings[_SECTIONS[path]]
    parts = path.split("/")
    if len(parts) == 3 and parts[0] == "business-systems" and parts[2] not in ("signatures", "intents"):
        found = [one for one in settings["business_systems"] if one["system"] == parts[1]]
        return found[0].get(parts[2]) if found else "no such system"
    return None
