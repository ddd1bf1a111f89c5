"""What a decision would change in a channel's settings: its fields before and after."""

from __future__ import annotations

from typing import Any

from contracts.resources import CHANNEL
from contracts.settings_diff import BUSINESS_SYSTEM_FIELDS, MISSING, SIGNATURES, resource_diff
from services.domain.decision import Context, Decision, Difference, EventMetadata
from services.domain.evolve import evolve
from services.domain.state import ChannelState


def difference(state: ChannelState, decision: Decision, context: Context) -> Difference:
    """The fields that differ after the decision's events."""
    later, version = state, 0 if state.channel is None else state.channel.version
    for number, event in enumerate(decision.events, 1):
        later = evolve(later, event, context.account, EventMetadata(version + number, context.now, ""))
    found = Difference({}, {})
    for resource in sorted({event.resource.removesuffix("/signature") for event in decision.events}):
        fields = _fields(state, resource, context.now), _fields(later, resource, context.now)
        for path, (before, after) in resource_diff(resource, *fields).items():
            if before is not MISSING:
                found.before["/".join(path)] = before
            if after is not MISSING:
                found.after["/".join(path)] = after
    return found


def _fields(state: ChannelState, resource: str, now: int) -> dict[str, Any] | None:
    """The fields of a resource that a proposed command can change; None where there is none."""
    channel = state.channel
    if channel is None:
        return None
    if resource == CHANNEL:
        return {"retired": channel.retired}
    for section in channel.sections().values():
        if section.resource == resource:
            return section.model_dump(mode="json")
    system = state.system(resource.split("/")[1])
    if system is None:
        return None
    valid = [signature.key_id for signature in system.signatures if signature.is_valid(now)]
    return {field: getattr(system, field) for field in BUSINESS_SYSTEM_FIELDS} | {SIGNATURES: valid}
