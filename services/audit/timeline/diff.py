"""The difference between two moments of a channel's settings: in words, and as a JSON Patch (RFC 6902)."""

from __future__ import annotations

from typing import Any

import jsonpatch

from contracts.settings import ChannelSettings
from services.audit.timeline.channel_settings import state_leaves
from services.audit.timeline.sentences import describe_changes
from services.audit.timeline.settings_at import SettingsAt


def diff_report(before: SettingsAt, after: SettingsAt) -> dict[str, Any]:
    """What changed between two moments of a channel, as JSON: words, patch, and what each end rests on."""
    ends = {
        name: {key: value for key, value in answer.as_json().items() if key not in ("settings", "channel")}
        for name, answer in (("from", before), ("to", after))
    }
    sentences = describe_changes(state_leaves(before.state, before.clock), state_leaves(after.state, after.clock))
    return {"channel": after.channel, **ends, "words": sentences, "patch": patch(before.settings, after.settings)}


def patch(before: ChannelSettings | None, after: ChannelSettings | None) -> list[dict[str, Any]]:
    """What turns the first into the second, both in the shape of ``GET …/settings``; null where there is none."""
    operations: list[dict[str, Any]] = jsonpatch.make_patch(_json(before), _json(after)).patch
    return operations


def _json(settings: ChannelSettings | None) -> Any:
    return None if settings is None else settings.model_dump(mode="json", by_alias=True)
