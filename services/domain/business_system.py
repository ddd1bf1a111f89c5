"""Business systems: opened with a drafted or a fresh signature, edited, disabled, deleted with all that is theirs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from contracts.business_system import (
    BusinessSystemDeleted,
    BusinessSystemDisabled,
    BusinessSystemEdited,
    BusinessSystemEnabled,
    BusinessSystemOpened,
    DeleteBusinessSystem,
    DisableBusinessSystem,
    EditBusinessSystem,
    EnableBusinessSystem,
    OpenBusinessSystem,
)
from contracts.message import milliseconds_of, rfc3339
from contracts.rejections import (
    NAMED_TEMPLATES_LIMIT,
    ApiRequestUrlRefused,
    BusinessSystemAlreadyOpen,
    BusinessSystemInUse,
    BusinessSystemNameTaken,
    BusinessSystemUnknown,
    Rejection,
    TooManyBusinessSystems,
)
from contracts.signature import IssuedSignature, ReplacedSignature
from services.domain.address import origin, refusal_of_url
from services.domain.decision import NOTHING_CHANGES, Context, Decision, DeletedSecret, Mark
from services.domain.records import too_large
from services.domain.signature import all_secrets, draw, revoked_now
from services.domain.state import BUSINESS_SYSTEMS_LIMIT, BusinessSystem, Channel, ChannelState, Signature

_DEFAULT_STYLE = "standard-webhooks"


def open_(channel: Channel, command: OpenBusinessSystem, context: Context) -> Decision | Rejection:
    if command.system in channel.systems:
        return BusinessSystemAlreadyOpen(system=command.system)
    if len(channel.systems) >= BUSINESS_SYSTEMS_LIMIT:
        return TooManyBusinessSystems(limit=BUSINESS_SYSTEMS_LIMIT)
    refused = _name_taken(channel, command.system, command.name) or _url_refused(command.api_request_url, context)
    if refused is not None:
        return refused
    draft = channel.draft_of(command.system)
    takes_over = draft is not None and origin(draft.api_request_url) == origin(command.api_request_url)
    opened = BusinessSystemOpened(
        system=command.system,
        name=command.name,
        api_request_url=command.api_request_url,
        remarks=command.remarks or "",
        signature_style=command.signature_style,
        signature=IssuedSignature(
            key_id=draft.key_id, fingerprint=draft.fingerprint, issued_at=rfc3339(draft.issued_at)
        )
        if draft is not None and takes_over
        else None,
    )
    if takes_over:
        return Decision((opened,))
    given_up = () if draft is None else (ReplacedSignature(key_id=draft.key_id, valid_until=rfc3339(context.now)),)
    refreshed, kept = draw(channel, command.system, context, given_up)
    return Decision(
        (opened, refreshed), kept=kept, deleted=tuple(DeletedSecret(command.system, old.key_id) for old in given_up)
    )


def _name_taken(channel: Channel, system: str, name: str) -> Rejection | None:
    for other, taken in channel.systems.items():
        if taken == name and other != system:
            return BusinessSystemNameTaken(name=name, system=other)
    return None


def _url_refused(url: str, context: Context) -> Rejection | None:
    reason = refusal_of_url(url, context.allowances)
    return None if reason is None else ApiRequestUrlRefused(reason=reason)


def edit(state: ChannelState, channel: Channel, command: EditBusinessSystem, context: Context) -> Decision | Rejection:
    system = state.system(command.system)
    if system is None:
        return BusinessSystemUnknown(system=command.system)
    cleared = {"remarks": "", "signature_style": _DEFAULT_STYLE}
    changed: dict[str, Any] = {}
    for field in ("name", "api_request_url", "remarks", "signature_style"):
        if field in command.model_fields_set:
            wanted = getattr(command, field)
            wanted = cleared[field] if wanted is None else wanted
            if wanted != getattr(system, field):
                changed[field] = wanted
    if not changed:
        return NOTHING_CHANGES
    refused = (_name_taken(channel, command.system, changed["name"]) if "name" in changed else None) or (
        _url_refused(changed["api_request_url"], context) if "api_request_url" in changed else None
    )
    refused = refused or too_large(command.system, replace(system, **changed), system)
    if refused is not None:
        return refused
    edited = BusinessSystemEdited(system=command.system, **changed)
    if not _needs_new_signature(system, changed):
        return Decision((edited,))
    refreshed, kept = draw(channel, command.system, context, revoked_now(system, context.now))
    return Decision((edited, refreshed), kept=kept, deleted=all_secrets(command.system, system))


def _needs_new_signature(system: BusinessSystem, changed: dict[str, Any]) -> bool:
    """A plain token goes out as it is: the old receiver, or the other style, has seen it, so it must not live on."""
    if "signature_style" in changed:
        return True
    url = changed.get("api_request_url")
    return url is not None and system.signature_style == "plain-token" and origin(url) != origin(system.api_request_url)


def delete(state: ChannelState, command: DeleteBusinessSystem) -> Decision | Rejection:
    system = state.system(command.system)
    if system is None:
        return BusinessSystemUnknown(system=command.system)
    templates = system.templates()
    if templates and not command.force:
        named = templates[:NAMED_TEMPLATES_LIMIT]
        return BusinessSystemInUse(system=command.system, templates=named, more=len(templates) - len(named))
    return Decision((BusinessSystemDeleted(system=command.system),), deleted=all_secrets(command.system, system))


def disable(state: ChannelState, command: DisableBusinessSystem) -> Decision | Rejection:
    system = state.system(command.system)
    if system is None:
        return BusinessSystemUnknown(system=command.system)
    if system.disabled:
        return NOTHING_CHANGES
    return Decision((BusinessSystemDisabled(system=command.system, reason=command.reason),))


def enable(state: ChannelState, command: EnableBusinessSystem) -> Decision | Rejection:
    system = state.system(command.system)
    if system is None:
        return BusinessSystemUnknown(system=command.system)
    if not system.disabled:
        return NOTHING_CHANGES
    return Decision((BusinessSystemEnabled(system=command.system, reason=command.reason),))


def opened(state: ChannelState, channel: Channel, event: BusinessSystemOpened, mark: Mark) -> ChannelState:
    taken = event.signature
    system = BusinessSystem(
        name=event.name,
        api_request_url=event.api_request_url,
        remarks=event.remarks,
        signature_style=event.signature_style,
        changed=mark.version,
        signature_changed=mark.version,
        signatures=()
        if taken is None
        else (Signature(taken.key_id, taken.fingerprint, milliseconds_of(taken.issued_at)),),
    )
    channel = replace(
        channel,
        systems={**channel.systems, event.system: event.name},
        drafts=tuple(draft for draft in channel.drafts if draft.system != event.system),
        closed=channel.closed.without(event.system),
    )
    return state.with_system(channel, event.system, system)


def edited(state: ChannelState, channel: Channel, event: BusinessSystemEdited, mark: Mark) -> ChannelState:
    system = state.system(event.system)
    if system is None:
        return state
    changes = {field: getattr(event, field) for field in event.model_fields_set - {"system"}}
    if event.name is not None:
        channel = replace(channel, systems={**channel.systems, event.system: event.name})
    return state.with_system(channel, event.system, replace(system, **changes, changed=mark.version))


def deleted(state: ChannelState, channel: Channel, event: BusinessSystemDeleted, mark: Mark) -> ChannelState:
    channel = replace(
        channel,
        systems={name: title for name, title in channel.systems.items() if name != event.system},
        closed=channel.closed.with_change(event.system, mark.version),
    )
    return state.without_system(channel, event.system)


def switched(
    state: ChannelState,
    channel: Channel,
    event: BusinessSystemDisabled | BusinessSystemEnabled,
    mark: Mark,
) -> ChannelState:
    system = state.system(event.system)
    if system is None:
        return state
    record = replace(system, disabled=isinstance(event, BusinessSystemDisabled), changed=mark.version)
    return state.with_system(channel, event.system, record)
