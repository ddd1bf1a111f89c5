"""Sentences for people about changes of settings: of what happened, and of what a plan would do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contracts.approvals import ApprovalsSettings
from contracts.bounded_json import compact_json
from contracts.json_values import same_json
from contracts.otp_scheduling import OtpSchedulingSettings
from contracts.resources import CHANNEL
from contracts.settings_diff import BUSINESS_SYSTEMS, INTENTS, MISSING, ONE_LEAF, SIGNATURES, Leaves, Path, diff
from contracts.sms import SmsSettings
from contracts.spend_guard import SpendGuardSettings

_LONGEST_VALUE = 120
_FIELDS = {
    "name": "name",
    "provider": "provider",
    "home_country": "home country",
    "international_rates_from": "start dates of international rates",
    "api_request_url": "API Request URL",
    "remarks": "remarks",
    "signature_style": "signature style",
    "default_data": "default data",
    "schema": "schema",
}


def describe_changes(before: Leaves, after: Leaves, *, planned: bool = False) -> list[str]:
    """A sentence for each change; none where nothing differs. ``planned``: the change has not happened yet."""
    if not before or not after:
        if before or after:
            return ["The channel was registered." if after else "The channel did not exist yet."]
        return []
    changes = diff(before, after)
    # A system or an intent that is added or deleted is one sentence, and its fields are not listed besides.
    whole = {path for path, change in changes.items() if _is_system_or_intent(path) and MISSING in change}
    sentences = _Sentences(before, after, planned)
    return [
        sentences.of(path, *change)
        for path, change in changes.items()
        if not any(path[:length] in whole for length in _LENGTHS if length < len(path))
    ]


def _is_system_or_intent(path: Path) -> bool:
    return path[0] == BUSINESS_SYSTEMS and (len(path) == 2 or (len(path) == 4 and path[2] == INTENTS))


_LENGTHS = (2, 4)
"""Of the paths of a system and of an intent."""


@dataclass(frozen=True, slots=True)
class _Sentences:
    before: Leaves
    after: Leaves
    planned: bool

    def of(self, path: Path, before: Any, after: Any) -> str:
        match path:
            case (resource, *below) if resource != BUSINESS_SYSTEMS:
                return self._channel_or_section(resource, below, before, after)
            case (_, system):
                return self._system(system, opened=after is True)
            case (_, system, "disabled"):
                return self._done("disable" if after else "enable", f"business system {system!r}")
            case (_, system, kind) if kind == SIGNATURES:
                return self._signatures(system, before or [], after or [])
            case (_, system, field):
                return self._field(f"{_FIELDS[field]} of business system {system!r}", before, after)
            case (_, system, _, code):
                return self._done(
                    "add" if after is True else "delete", f"intent {code!r} of business system {system!r}"
                )
            case (_, system, _, code, "templates"):
                return self._templates(system, code, before or (), after or ())
            case _:
                what = f"{_FIELDS[path[4]]} of intent {path[3]!r} of business system {path[1]!r}"
                return self._field(what, before, after)

    def _channel_or_section(self, resource: str, below: list[str], before: Any, after: Any) -> str:
        match resource, below:
            case (section, _) if section == SmsSettings.resource:
                return self._done("activate" if after else "deactivate", "SMS")
            case (section, _) if section == OtpSchedulingSettings.resource:
                return self._otp_scheduling(before, after)
            case (section, _) if section == SpendGuardSettings.resource:
                return self._spend_guard(after)
            case (section, _) if section == ApprovalsSettings.resource:
                return self._approvals(after)
            case (section, _) if section in ONE_LEAF:
                return self._section(section, before, after)
            case (channel, ["retired"]) if channel == CHANNEL:
                return self._done("retire", "the channel") if after else "The channel was not retired yet."
            case (channel, [field]) if channel == CHANNEL:
                return self._field(f"channel's {_FIELDS[field]}", before, after)
            case _:
                return self._field(f"field {below[0]!r} of {resource}", before, after)

    def _done(self, verb: str, what: str) -> str:
        """``activate`` and ``SMS`` give "SMS was activated." or "Would activate SMS."."""
        if self.planned:
            return f"Would {verb} {what}."
        return f"{what[0].upper()}{what[1:]} was {verb.removesuffix('e')}ed."

    def _field(self, what: str, before: Any, after: Any) -> str:
        values = f"from {_value(before)} to {_value(after)}"
        return f"Would change the {what} {values}." if self.planned else f"The {what} changed {values}."

    def _section(self, resource: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
        """For a section that has no sentence of its own."""
        fields = ", ".join(
            f"{name} from {_value(before[name])} to {_value(after[name])}"
            for name in after
            if not same_json(before[name], after[name])
        )
        return f"Would change {resource}: {fields}." if self.planned else f"{resource} changed: {fields}."

    def _otp_scheduling(self, before: dict[str, Any], after: dict[str, Any]) -> str:
        would = self.planned
        parts = []
        if before["enabled"] != after["enabled"]:
            switched = "switched on" if after["enabled"] else "switched off"
            parts.append(f"be {switched}" if would else f"was {switched}")
        added = sorted(set(after["countries"]) - set(before["countries"]))
        removed = sorted(set(before["countries"]) - set(after["countries"]))
        if added:
            parts.append(f"{'gain' if would else 'gained'} {', '.join(added)}")
        if removed:
            parts.append(f"{'lose' if would else 'lost'} {', '.join(removed)}")
        if before["use_own_numbers"] != after["use_own_numbers"]:
            use = "use" if would else "uses"
            parts.append(f"now {use} own numbers" if after["use_own_numbers"] else f"no longer {use} own numbers")
        return f"OTP delivery scheduling {'would ' if would else ''}{', '.join(parts)}."

    def _spend_guard(self, after: Mapping[str, Any]) -> str:
        most, daily = after["max_rate"], after["daily_messages_per_country"]
        limits = [] if most is None else [f"{most['amount']} {most['currency']} a message"]
        limits += [] if daily is None else [f"{daily:,} messages a day to a country"]
        kept = f"at most {' and '.join(limits)}" if limits else "without limits"
        what = f"{after['mode']}, {kept}"
        return f"Would set the spend guard to {what}." if self.planned else f"The spend guard was set to {what}."

    def _approvals(self, after: Sequence[str]) -> str:
        needed = f"for changes of {', '.join(after)}" if after else "for no change"
        return f"Would need an approval {needed}." if self.planned else f"An approval is needed {needed}."

    def _system(self, system: str, *, opened: bool) -> str:
        leaves = self.after if opened else self.before
        system_path = (BUSINESS_SYSTEMS, system)
        codes = sorted(path[3] for path in leaves if path[:2] == system_path and len(path) == 4)
        intents = f" with {'intent' if len(codes) == 1 else 'intents'} {', '.join(codes)}" if codes else ""
        if opened:
            details = f" for {leaves[*system_path, 'api_request_url']}{intents}"
            return (
                f"Would open business system {system!r}{details}."
                if self.planned
                else f"Business system {system!r} was opened{details}."
            )
        if self.planned:
            return f"Would delete business system {system!r}{intents}."
        return f"Business system {system!r} was deleted{intents}."

    def _signatures(self, system: str, before: list[str], after: list[str]) -> str:
        added = [key for key in after if key not in before]
        removed = [key for key in before if key not in after]
        parts = [f"{'would gain' if self.planned else 'gained'} {', '.join(added)}"] if added else []
        parts += [f"{'would lose' if self.planned else 'lost'} {', '.join(removed)}"] if removed else []
        return f"Signatures of business system {system!r}: {', '.join(parts) or 'in another order'}."

    def _templates(self, system: str, code: str, before: Any, after: Any) -> str:
        added = [template for template in after if template not in before]
        removed = [template for template in before if template not in after]
        used, no_longer = (
            ("would be used", "would no longer be used") if self.planned else ("is used", "is no longer used")
        )
        parts = [f"{used} by {', '.join(added)}"] if added else []
        parts += [f"{no_longer} by {', '.join(removed)}"] if removed else []
        return f"Intent {code!r} of business system {system!r} {' and '.join(parts)}."


def _value(value: Any) -> str:
    if value is MISSING or value is None:
        return "nothing"
    # An escape sequence in somebody's data must not reach the terminal.
    text = "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in compact_json(value))
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "…"
