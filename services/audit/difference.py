"""The difference between two states of a channel's settings: in words, and as a JSON Patch (RFC 6902)."""

from __future__ import annotations

from typing import Any

import jsonpatch

from contracts.message import compact_json
from contracts.settings import ChannelSettings
from services.audit.as_of import Then
from services.audit.leaves import (
    INTENTS,
    MISSING,
    OTP_SCHEDULING,
    SIGNATURES,
    SMS,
    SYSTEMS,
    Leaves,
    Path,
    changes,
    leaves_of,
)

_LONGEST_VALUE = 120
_FIELDS = {
    "name": "name",
    "provider": "provider",
    "api_request_url": "API Request URL",
    "remarks": "remarks",
    "signature_style": "signature style",
    "default_data": "default data",
    "schema": "schema",
}


def difference(before: Then, after: Then) -> dict[str, Any]:
    """What changed between two moments of a channel, as JSON: words, patch, and what each end rests on."""
    ends = {
        name: {key: value for key, value in then.answer().items() if key not in ("settings", "channel")}
        for name, then in (("from", before), ("to", after))
    }
    said = words(leaves_of(before.state, before.clock), leaves_of(after.state, after.clock))
    return {"channel": after.channel, **ends, "words": said, "patch": patch(before.settings, after.settings)}


def patch(before: ChannelSettings | None, after: ChannelSettings | None) -> list[dict[str, Any]]:
    """What turns the first into the second, both in the shape of ``GET …/settings``; null where there is none."""
    operations: list[dict[str, Any]] = jsonpatch.make_patch(_json(before), _json(after)).patch
    return operations


def _json(settings: ChannelSettings | None) -> Any:
    return None if settings is None else settings.model_dump(mode="json", by_alias=True)


def words(before: Leaves, after: Leaves) -> list[str]:
    """A sentence for each change; none where nothing differs."""
    if not before or not after:
        if before or after:
            return ["The channel was registered." if after else "The channel did not exist yet."]
        return []
    found = changes(before, after)
    # A thing that came or went is one sentence, and its fields are not listed besides.
    whole = {path for path, (was, becomes) in found.items() if _is_thing(path) and MISSING in (was, becomes)}
    said = []
    for path, (was, becomes) in found.items():
        if any(path[: len(thing)] == thing and path != thing for thing in whole):
            continue
        said.append(_sentence(path, was, becomes, before, after))
    return said


def _is_thing(path: Path) -> bool:
    return path[0] == SYSTEMS and (len(path) == 2 or (len(path) == 4 and path[2] == INTENTS))


def _sentence(path: Path, was: Any, becomes: Any, before: Leaves, after: Leaves) -> str:
    match path:
        case ("channel", "retired"):
            return "The channel was retired." if becomes else "The channel was not retired yet."
        case ("channel", field):
            return _changed(f"The channel's {_FIELDS[field]}", was, becomes)
        case (place, "enabled") if place == SMS:
            return "SMS was activated." if becomes else "SMS was deactivated."
        case (place,) if place == OTP_SCHEDULING:
            return _form(was, becomes)
        case (_, system):
            return _system(system, after if becomes is True else before, opened=becomes is True)
        case (_, system, "disabled"):
            return f"Business system {system!r} was {'disabled' if becomes else 'enabled'}."
        case (_, system, kind) if kind == SIGNATURES:
            return _signatures(system, was or [], becomes or [])
        case (_, system, field):
            return _changed(f"The {_FIELDS[field]} of business system {system!r}", was, becomes)
        case (_, system, _, code):
            return f"Intent {code!r} of business system {system!r} was {'added' if becomes is True else 'deleted'}."
        case (_, system, _, code, "templates"):
            return _templates(system, code, was, becomes)
        case _:
            return _changed(
                f"The {_FIELDS[path[4]]} of intent {path[3]!r} of business system {path[1]!r}", was, becomes
            )


def _shown(value: Any) -> str:
    if value is MISSING or value is None:
        return "nothing"
    # In a terminal, an escape sequence in somebody's data must stay a text.
    text = "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in compact_json(value))
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "…"


def _changed(what: str, was: Any, becomes: Any) -> str:
    return f"{what} changed from {_shown(was)} to {_shown(becomes)}."


def _form(was: dict[str, Any], becomes: dict[str, Any]) -> str:
    parts = []
    if was["enabled"] != becomes["enabled"]:
        parts.append("was switched on" if becomes["enabled"] else "was switched off")
    came = sorted(set(becomes["countries"]) - set(was["countries"]))
    went = sorted(set(was["countries"]) - set(becomes["countries"]))
    if came:
        parts.append(f"gained {', '.join(came)}")
    if went:
        parts.append(f"lost {', '.join(went)}")
    if was["use_own_numbers"] != becomes["use_own_numbers"]:
        parts.append("now uses own numbers" if becomes["use_own_numbers"] else "no longer uses own numbers")
    return f"OTP delivery scheduling {', '.join(parts)}."


def _system(system: str, where: Leaves, *, opened: bool) -> str:
    here = (SYSTEMS, system)
    codes = sorted({path[3] for path in where if path[:2] == here and len(path) == 4})
    intents = f" with {'intent' if len(codes) == 1 else 'intents'} {', '.join(codes)}" if codes else ""
    if opened:
        return f"Business system {system!r} was opened for {where[*here, 'api_request_url']}{intents}."
    return f"Business system {system!r} was deleted{intents}."


def _signatures(system: str, was: list[str], becomes: list[str]) -> str:
    drawn = [key for key in becomes if key not in was]
    gone = [key for key in was if key not in becomes]
    parts = [f"gained {', '.join(drawn)}"] if drawn else []
    parts += [f"lost {', '.join(gone)}"] if gone else []
    return f"Signatures of business system {system!r}: {', '.join(parts) or 'in another order'}."


def _templates(system: str, code: str, was: Any, becomes: Any) -> str:
    came = [one for one in becomes or () if one not in (was or ())]
    went = [one for one in was or () if one not in (becomes or ())]
    parts = [f"is used by {', '.join(came)}"] if came else []
    parts += [f"is no longer used by {', '.join(went)}"] if went else []
    return f"Intent {code!r} of business system {system!r} {' and '.join(parts)}."
