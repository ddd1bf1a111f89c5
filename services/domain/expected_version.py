"""The check of a command's expected version (optimistic concurrency), per resource.

A command is stale if its resource, or one above or below it on the same path, changed after the expected version.
Changes of other resources do not conflict.
"""

from __future__ import annotations

from operator import attrgetter

from contracts.rejection import Rejection
from contracts.rejections import VersionConflict, VersionYetToCome
from contracts.resources import PROPOSED_CHANGES
from contracts.settings import SECTIONS
from services.domain.state import BusinessSystem, Channel, ChannelState

_SECTION_CHANGED = {section.resource: attrgetter(f"{name}_changed") for name, section in SECTIONS.items()}
"""Resource of a section -> the field of `Channel` with the version of its last change."""


def version_conflict(state: ChannelState, resource: str, expected: int) -> Rejection | None:
    """The rejection of a command that expects version ``expected`` and is stale, or ahead; None if it is neither."""
    current = 0 if state.channel is None else state.channel.version
    if expected > current:
        return VersionYetToCome(expected=expected, current=current)
    changed = 0 if state.channel is None else _changed_at(state, state.channel, resource)
    if changed > expected:
        return VersionConflict(resource=resource, expected=expected, changed_at=changed)
    return None


def _changed_at(state: ChannelState, channel: Channel, resource: str) -> int:
    """The version in which the resource, or one above or below it on its path, changed last."""
    match resource.split("/"):
        case ["channel"]:
            return channel.channel_changed
        case [proposed, change] if proposed == PROPOSED_CHANGES:
            known = channel.open_changes.get(change) or channel.closed_changes.get(change)
            return 0 if known is None else known.changed
        case [section]:
            changed: int = _SECTION_CHANGED[section](channel)
            return changed
        case [_, name, *below]:
            system = state.system(name)
            return channel.closed.changed_at(name) if system is None else _changed_in(system, below)
        case _:
            raise ValueError(f"{resource!r} is not a resource")


def _changed_in(system: BusinessSystem, below: list[str]) -> int:
    match below:
        case []:
            return system.last_change()
        case ["signature"]:
            return max(system.changed, system.signature_changed)
        case [_, code]:
            intent = system.intents.get(code)
            changed = system.deleted_intents.changed_at(code) if intent is None else intent.changed
            return max(system.changed, changed)
        case _:
            raise ValueError(f"{below!r} is not a resource below a business system")
