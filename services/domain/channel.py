"""Channels: registered by the platform, edited, retired for good."""

from __future__ import annotations

from contracts.channel import (
    ChannelEdited,
    ChannelRegistered,
    ChannelRetired,
    EditChannel,
    RegisterChannel,
    RetireChannel,
)
from contracts.rejections import ChannelAlreadyRegistered, EnterpriseAuthenticationMissing, Rejection
from services.domain.decision import NOTHING_CHANGES, Context, Decision, DeletedSecret, Mark
from services.domain.state import Channel, ChannelState, replace


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
            ),
        )
    )


def edit(channel: Channel, command: EditChannel) -> Decision:
    changed = {
        field: getattr(command, field)
        for field in ("name", "provider")
        if field in command.model_fields_set and getattr(command, field) != getattr(channel, field)
    }
    return Decision((ChannelEdited(**changed),)) if changed else NOTHING_CHANGES


def retire(state: ChannelState, channel: Channel, _: RetireChannel) -> Decision:
    drafted = [DeletedSecret(draft.system, draft.key_id) for draft in channel.drafts]
    held = [
        DeletedSecret(name, signature.key_id)
        for name in channel.systems
        if (system := state.system(name)) is not None
        for signature in system.signatures
    ]
    return Decision((ChannelRetired(),), deleted=(*drafted, *held))


def registered(event: ChannelRegistered, account: str, mark: Mark) -> Channel:
    return Channel(
        account=account,
        channel_type=event.channel_type,
        name=event.name,
        provider=event.provider,
        version=mark.version,
        head=mark.head,
        time=mark.time,
        channel_changed=mark.version,
    )


def edited(channel: Channel, event: ChannelEdited, mark: Mark) -> Channel:
    changes = {field: getattr(event, field) for field in event.model_fields_set}
    return replace(channel, **changes, channel_changed=mark.version)


def retired(channel: Channel, mark: Mark) -> Channel:
    """What belonged to the channel goes with it; its name is kept, so that it is never registered again."""
    return replace(channel, retired=True, systems={}, drafts=(), channel_changed=mark.version)
