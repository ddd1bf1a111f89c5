"""Signatures: drawn, drafted before Open, refreshed with a grace period, revealed sealed, revoked.

The secret itself never enters state or events: they know its key id and its fingerprint.
"""

from __future__ import annotations

from dataclasses import replace

from contracts.message import milliseconds_of, rfc3339
from contracts.rejections import (
    ApiRequestUrlRefused,
    ApiRequestUrlSettled,
    BusinessSystemUnknown,
    GracePeriodRunning,
    Rejection,
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
from services.domain.address import refusal_of_url
from services.domain.decision import Context, Decision, DeletedSecret, KeptSecret, Mark, SealedSecret
from services.domain.signing import fingerprint
from services.domain.state import DRAFTS_LIMIT, BusinessSystem, Channel, ChannelState, Draft, Signature


def next_key_id(channel: Channel) -> str:
    """Unique on the channel for ever: a channel is never registered twice."""
    return f"key-{channel.signatures_drawn + 1}"


def draw(
    channel: Channel, system: str, context: Context, replaced: tuple[ReplacedSignature, ...] = ()
) -> tuple[SignatureRefreshed, KeptSecret]:
    """A new signature for an open system, and what is to be kept of it."""
    key_id = next_key_id(channel)
    event = SignatureRefreshed(system=system, key_id=key_id, fingerprint=fingerprint(context.secret), replaced=replaced)
    return event, KeptSecret(system, key_id, context.secret)


def revoked_now(system: BusinessSystem, now: int) -> tuple[ReplacedSignature, ...]:
    """Every signature that is still valid, as revoked at once."""
    return tuple(
        ReplacedSignature(key_id=signature.key_id, valid_until=rfc3339(now))
        for signature in system.signatures
        if signature.is_valid(now)
    )


def all_secrets(name: str, system: BusinessSystem) -> tuple[DeletedSecret, ...]:
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
    event, kept = draw(channel, command.system, context, replaced)
    gone = in_grace if command.grace_seconds else [*current, *in_grace]
    return Decision(
        (event,),
        kept=kept,
        deleted=tuple(DeletedSecret(command.system, old.key_id) for old in gone),
        sealed=_sealed(command, kept.key_id),
    )


def _sealed(command: RefreshSignature, key_id: str) -> SealedSecret | None:
    return None if command.seal_to is None else SealedSecret(command.system, key_id, command.seal_to)


def _draft(channel: Channel, command: RefreshSignature, context: Context) -> Decision | Rejection:
    """Before Open is confirmed each Refresh replaces the draft, without grace or refusal."""
    if command.api_request_url is None:
        return SignatureNeedsApiRequestUrl(system=command.system)
    refusal = refusal_of_url(command.api_request_url, context.allowances)
    if refusal is not None:
        return ApiRequestUrlRefused(reason=refusal)
    earlier = channel.draft_of(command.system)
    others = [draft for draft in channel.drafts if draft.system != command.system]
    dropped = others[0] if len(others) >= DRAFTS_LIMIT else None
    event, kept = draw(channel, command.system, context)
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
    return Decision((event,), kept=kept, deleted=deleted, sealed=_sealed(command, kept.key_id))


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
        sealed=SealedSecret(command.system, key_id, command.seal_to),
    )


def revoke(state: ChannelState, channel: Channel, command: RevokeSignature, context: Context) -> Decision | Rejection:
    system = state.system(command.system)
    draft = channel.draft_of(command.system)
    if system is None and draft is None:
        return BusinessSystemUnknown(system=command.system)
    if system is not None:
        signature = next((one for one in system.signatures if one.key_id == command.key_id), None)
        if signature is None or not signature.is_valid(context.now):
            return SignatureUnknown(system=command.system, key_id=command.key_id)
        if signature.valid_until is None:
            return SignatureIsCurrent(system=command.system, key_id=command.key_id)
    elif draft is not None and draft.key_id != command.key_id:
        return SignatureUnknown(system=command.system, key_id=command.key_id)
    return Decision(
        (SignatureRevoked(system=command.system, key_id=command.key_id),),
        deleted=(DeletedSecret(command.system, command.key_id),),
    )


def refreshed(state: ChannelState, channel: Channel, event: SignatureRefreshed, mark: Mark) -> ChannelState:
    channel = replace(channel, signatures_drawn=channel.signatures_drawn + 1)
    if event.api_request_url is not None:
        return state.with_channel(_drafted(channel, event, mark))
    system = state.system(event.system)
    if system is None:
        return state.with_channel(channel)
    ends = {old.key_id: milliseconds_of(old.valid_until) for old in event.replaced}
    kept = (
        replace(old, valid_until=ends.get(old.key_id, old.valid_until))
        for old in system.signatures
        if old.key_id in ends or old.is_valid(mark.time)
    )
    fresh = Signature(event.key_id, event.fingerprint, mark.time)
    signatures = (fresh, *(old for old in kept if old.is_valid(mark.time)))
    record = replace(system, signatures=signatures, signature_changed=mark.version)
    return state.with_system(channel, event.system, record)


def _drafted(channel: Channel, event: SignatureRefreshed, mark: Mark) -> Channel:
    gone = {event.system, event.dropped_draft.system if event.dropped_draft else event.system}
    fresh = Draft(event.system, event.key_id, event.fingerprint, mark.time, event.api_request_url or "")
    return replace(
        channel,
        drafts=(*(draft for draft in channel.drafts if draft.system not in gone), fresh),
        closed=channel.closed.with_change(event.system, mark.version),
    )


def revealed(state: ChannelState, channel: Channel, event: SignatureRevealed, mark: Mark) -> ChannelState:
    """A reveal changes no settings, but it is an event of the signature, and so moves its version."""
    system = state.system(event.system)
    if system is None:
        return state.with_channel(replace(channel, closed=channel.closed.with_change(event.system, mark.version)))
    return state.with_system(channel, event.system, replace(system, signature_changed=mark.version))


def revoked(state: ChannelState, channel: Channel, event: SignatureRevoked, mark: Mark) -> ChannelState:
    system = state.system(event.system)
    if system is None:
        drafts = tuple(draft for draft in channel.drafts if draft.key_id != event.key_id)
        closed = channel.closed.with_change(event.system, mark.version)
        return state.with_channel(replace(channel, drafts=drafts, closed=closed))
    signatures = tuple(old for old in system.signatures if old.key_id != event.key_id)
    record = replace(system, signatures=signatures, signature_changed=mark.version)
    return state.with_system(channel, event.system, record)
