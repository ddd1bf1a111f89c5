"""Business systems: opened with a drafted or a new signature, edited, disabled, and deleted with their contents."""

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
from contracts.message import rfc3339, unix_milliseconds
from contracts.names import name_key
from contracts.rejection import Rejection
from contracts.rejections import (
    NAMED_TEMPLATES_LIMIT,
    ApiRequestUrlRefused,
    BusinessSystemAlreadyOpen,
    BusinessSystemInUse,
    BusinessSystemNameTaken,
    BusinessSystemUnknown,
    TooManyBusinessSystems,
)
from contracts.signature import IssuedSignature, ReplacedSignature
from services.domain.decision import NOTHING_CHANGES, Context, Decision, DeletedSecret, EventMetadata
from services.domain.signature import issue, revoked_now, secrets_of
from services.domain.state import (
    BUSINESS_SYSTEMS_LIMIT,
    BusinessSystem,
    Channel,
    ChannelState,
    ImpossibleHistory,
    Signature,
)
from services.domain.state_codec import too_large
from services.domain.url_policy import url_refusal
from services.domain.url_target import origin

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
    refreshed, new_secret = issue(channel, command.system, context, given_up)
    return Decision(
        (opened, refreshed),
        new_secret=new_secret,
        deleted_secrets=tuple(DeletedSecret(command.system, old.key_id) for old in given_up),
    )


def _name_taken(channel: Channel, system: str, name: str) -> Rejection | None:
    key = name_key(name)
    for other, taken in channel.systems.items():
        if name_key(taken) == key and other != system:
            return BusinessSystemNameTaken(name=name, system=other)
    return None


def _url_refused(url: str, context: Context) -> Rejection | None:
    refusal = url_refusal(url, context.allowlist, context.account)
    return None if refusal is None else ApiRequestUrlRefused(reason=refusal.clause)


def edit(state: ChannelState, channel: Channel, command: EditBusinessSystem, context: Context) -> Decision | Rejection:
    system = state.system(command.system)
    if system is None:
        return BusinessSystemUnknown(system=command.system)
    cleared = {"remarks": "", "signature_style": _DEFAULT_STYLE}
    changed: dict[str, Any] = {}
    for field in ("name", "api_request_url", "remarks", "signature_style"):
        if field in command.model_fields_set:
            value = getattr(command, field)
            value = cleared[field] if value is None else value
            if value != getattr(system, field):
                changed[field] = value
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
    refreshed, new_secret = issue(channel, command.system, context, revoked_now(system, context.now))
    return Decision((edited, refreshed), new_secret=new_secret, deleted_secrets=secrets_of(command.system, system))


def _needs_new_signature(system: BusinessSystem, changed: dict[str, Any]) -> bool:
    """A plain token is sent in clear: the receiver of the old URL or style has seen it, so it must not stay valid."""
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
    return Decision((BusinessSystemDeleted(system=command.system),), deleted_secrets=secrets_of(command.system, system))


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


def opened(state: ChannelState, channel: Channel, event: BusinessSystemOpened, metadata: EventMetadata) -> ChannelState:
    if event.system in channel.systems:
        raise ImpossibleHistory(f"business system {event.system!r} is open already")
    signature, draft = event.signature, channel.draft_of(event.system)
    if signature is not None and (draft is None or draft.key_id != signature.key_id):
        raise ImpossibleHistory(f"business system {event.system!r} has no drafted signature {signature.key_id}")
    system = BusinessSystem(
        name=event.name,
        api_request_url=event.api_request_url,
        remarks=event.remarks,
        signature_style=event.signature_style,
        changed=metadata.version,
        signature_changed=metadata.version,
        signatures=()
        if signature is None
        else (Signature(signature.key_id, signature.fingerprint, unix_milliseconds(signature.issued_at)),),
    )
    channel = channel.after(
        metadata,
        systems={**channel.systems, event.system: event.name},
        drafts=tuple(draft for draft in channel.drafts if draft.system != event.system),
        closed=channel.closed.without(event.system),
    )
    return state.with_system(channel, event.system, system)


def edited(state: ChannelState, channel: Channel, event: BusinessSystemEdited, metadata: EventMetadata) -> ChannelState:
    system = state.open_system(event.system)
    changes = {field: getattr(event, field) for field in event.model_fields_set - {"system"}}
    systems = channel.systems if event.name is None else {**channel.systems, event.system: event.name}
    channel = channel.after(metadata, systems=systems)
    return state.with_system(channel, event.system, replace(system, **changes, changed=metadata.version))


def deleted(
    state: ChannelState, channel: Channel, event: BusinessSystemDeleted, metadata: EventMetadata
) -> ChannelState:
    state.open_system(event.system)
    channel = channel.after(
        metadata,
        systems={name: title for name, title in channel.systems.items() if name != event.system},
        closed=channel.closed.with_change(event.system, metadata.version),
    )
    return state.without_system(channel, event.system)


def switched(
    state: ChannelState,
    channel: Channel,
    event: BusinessSystemDisabled | BusinessSystemEnabled,
    metadata: EventMetadata,
) -> ChannelState:
    system = state.open_system(event.system)
    record = replace(system, disabled=isinstance(event, BusinessSystemDisabled), changed=metadata.version)
    return state.with_system(channel.after(metadata), event.system, record)
