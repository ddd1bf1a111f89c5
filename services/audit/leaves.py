"""A channel's settings as leaves: path -> value, so that two of them can be compared and three merged.

Paths are those of the resources with a field behind them: ``("business-systems", "crm", "intents", "ORDER", "name")``.
That a business system or an intent exists is a leaf of its own, with the value True. What can only be restored as a
whole is one leaf: the form of OTP delivery scheduling, an intent's default data, its schema, its templates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.audit.history import systems_of
from services.domain.state import BusinessSystem, ChannelState, Intent

Path = tuple[str, ...]
Leaves = dict[Path, Any]

CHANNEL = "channel"
SMS = "sms"
OTP_SCHEDULING = "otp-scheduling"
SYSTEMS = "business-systems"
INTENTS = "intents"
SIGNATURES = "signatures"

SYSTEM_FIELDS = ("name", "api_request_url", "remarks", "signature_style", "disabled")
INTENT_FIELDS = ("name", "default_data", "schema", "templates")


class _Missing:
    """What a path that leads nowhere holds."""

    def __repr__(self) -> str:
        return "nothing"


MISSING = _Missing()


def leaves_of(state: ChannelState, now: int) -> Leaves:
    """All of them; ``now`` (Unix milliseconds) decides which older signatures are valid."""
    found = {**_of_channel(state), **_of_sms(state), **_of_form(state)}
    for name, system in systems_of(state).items():
        found |= _of_system(name, system, now)
    return found


def leaves_below(state: ChannelState, resource: str, now: int) -> Leaves:
    """Those that an event of the resource can have changed."""
    match resource.split("/"):
        case ["channel"]:
            return leaves_of(state, now)
        case ["sms"]:
            return _of_sms(state)
        case ["otp-scheduling"]:
            return _of_form(state)
        case [_, name, *below]:
            system = state.system(name)
            if system is None:
                return {}
            if below[:1] == [INTENTS]:
                intent = system.intents.get(below[1])
                return {} if intent is None else _of_intent(name, below[1], intent)
            return _of_system(name, system, now)
        case _:
            return {}


def _of_channel(state: ChannelState) -> Leaves:
    known = state.channel
    if known is None:
        return {}
    return {(CHANNEL, field): getattr(known, field) for field in ("name", "provider", "retired")}


def _of_sms(state: ChannelState) -> Leaves:
    return {} if state.channel is None else {(SMS, "enabled"): state.channel.sms_enabled}


def _of_form(state: ChannelState) -> Leaves:
    if state.channel is None:
        return {}
    form = state.channel.otp_scheduling
    whole = {"enabled": form.enabled, "countries": list(form.countries), "use_own_numbers": form.use_own_numbers}
    return {(OTP_SCHEDULING,): whole}


def _of_system(name: str, system: BusinessSystem, now: int) -> Leaves:
    here = (SYSTEMS, name)
    found: Leaves = {here: True}
    found |= {(*here, field): getattr(system, field) for field in SYSTEM_FIELDS}
    found[*here, SIGNATURES] = [one.key_id for one in system.signatures if one.is_valid(now)]
    for code, intent in sorted(system.intents.items()):
        found |= _of_intent(name, code, intent)
    return found


def _of_intent(name: str, code: str, intent: Intent) -> Leaves:
    here = (SYSTEMS, name, INTENTS, code)
    return {
        here: True,
        (*here, "name"): intent.name,
        (*here, "default_data"): intent.default_data,
        (*here, "schema"): intent.json_schema,
        (*here, "templates"): list(intent.templates),
    }


def same(one: Any, other: Any) -> bool:
    """Equal as JSON: to Python, 1, 1.0 and true are equal too."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def changes(before: Mapping[Path, Any], after: Mapping[Path, Any]) -> dict[Path, tuple[Any, Any]]:
    """Path -> (before, after), sorted, for every leaf that differs; `MISSING` where there was or is none."""
    return {
        path: (before.get(path, MISSING), after.get(path, MISSING))
        for path in sorted(before.keys() | after.keys())
        if not same(before.get(path, MISSING), after.get(path, MISSING))
    }


@dataclass(frozen=True, slots=True)
class Taken:
    """What three-way merging came to: ``wanted``, and the paths that somebody changed since, with what they hold."""

    wanted: Leaves
    conflicts: dict[Path, Any]


def taken_back(before: Leaves, after: Leaves, current: Leaves) -> Taken:
    """``current`` with the change from ``before`` to ``after`` taken back, and everything else left as it is."""
    wanted, conflicts = dict(current), {}
    for path, (was, became) in changes(before, after).items():
        if path[-1] == SIGNATURES:
            continue
        is_now = current.get(path, MISSING)
        if same(is_now, was):
            continue
        if not same(is_now, became):
            conflicts[path] = is_now
        elif was is MISSING:
            del wanted[path]
        else:
            wanted[path] = was
    for path in wanted:
        # What was added below a thing that goes, or changed below one that is gone, would go or come unasked.
        if path[-1] != SIGNATURES and any(parent not in wanted for parent in _parents(path)):
            conflicts[path] = wanted[path]
    return Taken(wanted, conflicts)


def _parents(path: Path) -> list[Path]:
    if path[0] != SYSTEMS:
        return []
    return [path[:length] for length in (2, 4) if length < len(path) and (length == 2 or path[2] == INTENTS)]
