"""Signatures: drafted before a business system is opened, refreshed with a grace period, revealed, and revoked.

A secret is never part of the state or an event: they have its key id and its fingerprint.
"""

from __future__ import annotations

from dataclasses import replace

from contracts.message import rfc3339, unix_milliseconds
from contracts.rejection import Rejection
from contracts.rejections import (
    ApiRequestUrlRefused,
    ApiRequestUrlSettled,
    BusinessSystemUnknown,
    GracePeriodRunning,
    SignatureIsCurrent,
    SignatureNeedsApiRequestUrl,
    SignatureUnknown,
)
from contracts.signature import (
    DroppedDraft,
    RefreshSignature,
    ReplacedSignature,
    RevealSignature,
    RevokeSignature,
    SignatureRefreshed,
    SignatureRevealed,
    SignatureRevoked,
)
from services.domain.decision import Context, Decision, DeletedSecret, EventMetadata, NewSecret, SealRequest
from services.domain.state import (
    DRAFTS_LIMIT,
    BusinessSystem,
    Channel,
    ChannelState,
    Draft,
    ImpossibleHistory,
    Signature,
)
from services.domain.url_policy import url_refusal
from services.domain.webhook_signature import fingerprint


def next_key_id(channel: Channel) -> str:
    """Never used before on the channel, and a channel is never registered twice."""
    return f"key-{channel.signatures_issued + 1}"


def issue(
    channel: Channel, system: str, context: Context, replaced: tuple[ReplacedSignature, ...] = ()
) -> tuple[SignatureRefreshed, NewSecret]:
    """A new signature for an open system, and its secret."""
    key_id = next_key_id(channel)
    event = SignatureRefreshed(system=system, key_id=key_id, fingerprint=fingerprint(context.secret), replaced=replaced)
    return event, NewSecret(system, key_id, context.secret)


def revoked_now(system: BusinessSystem, now: int) -> tuple[ReplacedSignature, ...]:
    """Every signature that is still valid, revoked at once."""
    return tuple(
        ReplacedSignature(key_id=signature.key_id, valid_until=rfc3339(now))
        for signature in system.signatures
        if signature.is_valid(now)
    )


def secrets_of(name: str, system: BusinessSystem) -> tuple[DeletedSecret, ...]:
    return tuple(DeletedSecret(name, signature.key_id) for signature in system.signatures)


def refresh(state: ChannelState, channel: Channel, command: RefreshSignature, context: Context) -> Decision | Rejection:
    system = state.system(command.system)
    if system is None:
        return _draft(channel, command, context)
    if command.api_request_url is not None and command.api_request_url != system.api_request_url:
        return ApiRequestUrlSettled(system=command.system)
    now = context.now
    in_grace = [signature for signature in system.signatures if signature.valid_until is not None]
    running = [signature for signature in in_grace if signature.is_valid(now)]
    if running and not command.force:
        newest = running[0]
        return GracePeriodRunning(
            system=command.system, key_id=newest.key_id, valid_until=rfc3339(newest.valid_until or now)
        )
    grace_ends = now + command.grace_seconds * 1000
    current = [signature for signature in system.signatures if signature.valid_until is None]
    replaced = (
        *(ReplacedSignature(key_id=old.key_id, valid_until=rfc3339(grace_ends)) for old in current),
        *(ReplacedSignature(key_id=old.key_id, valid_until=rfc3339(now)) for old in running),
    )
    event, new_secret = issue(channel, command.system, context, replaced)
    deleted = in_grace if command.grace_seconds else [*current, *in_grace]
    return Decision(
        (event,),
        new_secret=new_secret,
        deleted_secrets=tuple(DeletedSecret(command.system, old.key_id) for old in deleted),
        seal_request=_seal_request(command, new_secret.key_id),
    )


def _seal_request(command: RefreshSignature, key_id: str) -> SealRequest | None:
    return None if command.seal_to is None else SealRequest(command.system, key_id, command.seal_to)


def _draft(channel: Channel, command: RefreshSignature, context: Context) -> Decision | Rejection:
    """Before the business system is opened, each refresh replaces the draft, without a grace period."""
    if command.api_request_url is None:
        return SignatureNeedsApiRequestUrl(system=command.system)
    refusal = url_refusal(command.api_request_url, context.allowlist, context.account)
    if refusal is not None:
        return ApiRequestUrlRefused(reason=refusal.clause)
    earlier = channel.draft_of(command.system)
    others = [draft for draft in channel.drafts if draft.system != command.system]
    dropped = others[0] if len(others) >= DRAFTS_LIMIT else None
    event, new_secret = issue(channel, command.system, context)
    event = event.model_copy(
        update={
            "api_request_url": command.api_request_url,
            "replaced": ()
            if earlier is None
            else (ReplacedSignature(key_id=earlier.key_id, valid_until=rfc3339(context.now)),),
            "dropped_draft": None if dropped is None else DroppedDraft(system=dropped.system, key_id=dropped.key_id),
        }
    )
    deleted = tuple(DeletedSecret(draft.system, draft.key_id) for draft in (earlier, dropped) if draft is not None)
    return Decision(
        (event,), new_secret=new_secret, deleted_secrets=deleted, seal_request=_seal_request(command, new_secret.key_id)
    )


def reveal(state: ChannelState, channel: Channel, command: RevealSignature, context: Context) -> Decision | Rejection:
    system = state.system(command.system)
    draft = channel.draft_of(command.system)
    if system is not None:
        valid = [signature.key_id for signature in system.signatures if signature.is_valid(context.now)]
    elif draft is not None:
        valid = [draft.key_id]
    else:
        return BusinessSystemUnknown(system=command.system)
    key_id = command.key_id or valid[0]
    if key_id not in valid:
        return SignatureUnknown(system=command.system, key_id=key_id)
    return Decision(
        (SignatureRevealed(system=command.system, key_id=key_id),),
        seal_request=SealRequest(command.system, key_id, command.seal_to),
    )


def revoke(state: ChannelState, channel: Channel, command: RevokeSignature, context: Context) -> Decision | Rejection:
    system = state.system(command.system)
    draft = channel.draft_of(command.system)
    if system is None and draft is None:
        return BusinessSystemUnknown(system=command.system)
    if system is not None:
        signature = next((each for each in system.signatures if each.key_id == command.key_id), None)
        if signature is None or not signature.is_valid(context.now):
            return SignatureUnknown(system=command.system, key_id=command.key_id)
        if signature.valid_until is None:
            return SignatureIsCurrent(system=command.system, key_id=command.key_id)
    elif draft is not None and draft.key_id != command.key_id:
        return SignatureUnknown(system=command.system, key_id=command.key_id)
    return Decision(
        (SignatureRevoked(system=command.system, key_id=command.key_id),),
        deleted_secrets=(DeletedSecret(command.system, command.key_id),),
    )


def refreshed(
    state: ChannelState, channel: Channel, event: SignatureRefreshed, metadata: EventMetadata
) -> ChannelState:
    if event.api_request_url is not None:
        return state.with_channel(_drafted(channel, event, metadata))
    system = state.open_system(event.system)
    ends = {old.key_id: unix_milliseconds(old.valid_until) for old in event.replaced}
    remaining = (
        replace(old, valid_until=ends.get(old.key_id, old.valid_until))
        for old in system.signatures
        if old.key_id in ends or old.is_valid(metadata.time)
    )
    new = Signature(event.key_id, event.fingerprint, metadata.time)
    signatures = (new, *(old for old in remaining if old.is_valid(metadata.time)))
    record = replace(system, signatures=signatures, signature_changed=metadata.version)
    channel = channel.after(metadata, signatures_issued=channel.signatures_issued + 1)
    return state.with_system(channel, event.system, record)


def _drafted(channel: Channel, event: SignatureRefreshed, metadata: EventMetadata) -> Channel:
    if event.system in channel.systems:
        raise ImpossibleHistory(f"business system {event.system!r} is open, so no signature is drafted for it")
    dropped = {event.system, event.dropped_draft.system if event.dropped_draft else event.system}
    new = Draft(event.system, event.key_id, event.fingerprint, metadata.time, event.api_request_url or "")
    return channel.after(
        metadata,
        drafts=(*(draft for draft in channel.drafts if draft.system not in dropped), new),
        signatures_issued=channel.signatures_issued + 1,
        closed=channel.closed.with_change(event.system, metadata.version),
    )


def revealed(state: ChannelState, channel: Channel, event: SignatureRevealed, metadata: EventMetadata) -> ChannelState:
    """A reveal changes no settings, but it is an event of the signature, so the signature's version changes."""
    system = state.system(event.system)
    if system is None:
        _require_draft(channel, event.system, event.key_id)
        closed = channel.closed.with_change(event.system, metadata.version)
        return state.with_channel(channel.after(metadata, closed=closed))
    _require_signature(system, event.system, event.key_id)
    return state.with_system(channel.after(metadata), event.system, replace(system, signature_changed=metadata.version))


def revoked(state: ChannelState, channel: Channel, event: SignatureRevoked, metadata: EventMetadata) -> ChannelState:
    system = state.system(event.system)
    if system is None:
        _require_draft(channel, event.system, event.key_id)
        drafts = tuple(draft for draft in channel.drafts if draft.key_id != event.key_id)
        closed = channel.closed.with_change(event.system, metadata.version)
        return state.with_channel(channel.after(metadata, drafts=drafts, closed=closed))
    _require_signature(system, event.system, event.key_id)
    signatures = tuple(old for old in system.signatures if old.key_id != event.key_id)
    record = replace(system, signatures=signatures, signature_changed=metadata.version)
    return state.with_system(channel.after(metadata), event.system, record)


def _require_draft(channel: Channel, system: str, key_id: str) -> None:
    draft = channel.draft_of(system)
    if draft is None or draft.key_id != key_id:
        raise ImpossibleHistory(f"business system {system!r} is not open and has no drafted signature {key_id}")


def _require_signature(system: BusinessSystem, name: str, key_id: str) -> None:
    if all(signature.key_id != key_id for signature in system.signatures):
        raise ImpossibleHistory(f"business system {name!r} has no signature {key_id}")
