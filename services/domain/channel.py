"""Channels: registered by the platform, edited, and retired permanently."""

from __future__ import annotations

from dataclasses import replace

from contracts.channel import (
    ChannelEdited,
    ChannelRegistered,
    ChannelRetired,
    EditChannel,
    RegisterChannel,
    RetireChannel,
)
from contracts.rejection import Rejection
from contracts.rejections import ChannelAlreadyRegistered, EnterpriseAuthenticationMissing
from services.domain.decision import NOTHING_CHANGES, Context, Decision, DeletedSecret, EventMetadata
from services.domain.state import Channel, ChannelState

_RATE_FACTS = ("home_country", "international_rates_from")
"""What the platform states so that the rate of a message is known; left out of an event where there is none."""


def register(state: ChannelState, command: RegisterChannel, context: Context) -> Decision | Rejection:
    if state.channel is not None:
        return ChannelAlreadyRegistered(channel=context.channel)
    if not command.enterprise_authenticated:
        return EnterpriseAuthenticationMissing(account=context.account)
    return Decision(
        (
            ChannelRegistered(
                channel_type=command.channel_type,
                name=command.name,
                enterprise_authenticated=True,
                provider=command.provider,
                **{field: value for field in _RATE_FACTS if (value := getattr(command, field))},
            ),
        )
    )


def edit(channel: Channel, command: EditChannel) -> Decision:
    changed = {
        field: getattr(command, field) or None
        for field in ("name", "provider", *_RATE_FACTS)
        if field in command.model_fields_set and (getattr(command, field) or None) != getattr(channel, field)
    }
    return Decision((ChannelEdited(**changed),)) if changed else NOTHING_CHANGES


def retire(state: ChannelState, channel: Channel, _: RetireChannel) -> Decision:
    drafted = [DeletedSecret(draft.system, draft.key_id) for draft in channel.drafts]
    issued = [
        DeletedSecret(name, signature.key_id)
        for name in channel.systems
        if (system := state.system(name)) is not None
        for signature in system.signatures
    ]
    return Decision((ChannelRetired(),), deleted_secrets=(*drafted, *issued))


def registered(event: ChannelRegistered, account: str, metadata: EventMetadata) -> Channel:
    return Channel(
        account=account,
        channel_type=event.channel_type,
        name=event.name,
        provider=event.provider,
        home_country=event.home_country,
        international_rates_from=event.international_rates_from,
        version=metadata.version,
        head=metadata.head,
        time=metadata.time,
        channel_changed=metadata.version,
    )


def edited(channel: Channel, event: ChannelEdited, metadata: EventMetadata) -> Channel:
    changes = {field: getattr(event, field) for field in event.model_fields_set}
    return channel.after(metadata, **changes, channel_changed=metadata.version)


def retired(state: ChannelState, channel: Channel, metadata: EventMetadata) -> ChannelState:
    """Everything stays to be read, except signatures: their secrets are deleted. The id is never registered again."""
    systems = {name: replace(state.open_system(name), signatures=()) for name in channel.systems}
    channel = channel.after(metadata, retired=True, drafts=(), channel_changed=metadata.version)
    return ChannelState(channel, systems, state.load)
