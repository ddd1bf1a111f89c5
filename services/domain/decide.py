"""``decide(state, command, context) -> Decision | Rejection``: pure, closed, in the order that the contract states.

Envelope, data and repeats are checked before; here come channel and account, expected version, rules.
"""

from __future__ import annotations

from typing import assert_never

from contracts.business_system import (
    DeleteBusinessSystem,
    DisableBusinessSystem,
    EditBusinessSystem,
    EnableBusinessSystem,
    OpenBusinessSystem,
)
from contracts.channel import EditChannel, RegisterChannel, RetireChannel
from contracts.commands import Command
from contracts.intent import AddIntent, DeleteIntent, EditIntent, ReferToIntent, ReleaseIntent
from contracts.otp_scheduling import SaveOtpScheduling
from contracts.rejections import ChannelAlreadyRegistered, ChannelIsRetired, ChannelUnknown, Rejection
from contracts.signature import RefreshSignature, RevealSignature, RevokeSignature
from contracts.sms import ToggleSms
from services.domain import business_system, channel, intent, otp_scheduling, signature, sms
from services.domain.decision import Context, Decision
from services.domain.resources import conflict, resource_of_command
from services.domain.state import Channel, ChannelState


def decide(
    state: ChannelState, command: Command, context: Context, expected_version: int | None = None
) -> Decision | Rejection:
    """What the command leads to. Raises nothing that input can cause."""
    known = state.channel
    if known is not None and known.account != context.account:
        if isinstance(command, RegisterChannel):
            return ChannelAlreadyRegistered(channel=context.channel)
        return ChannelUnknown(channel=context.channel)
    if known is not None and known.retired:
        return ChannelIsRetired(channel=context.channel)
    if known is None and not isinstance(command, RegisterChannel):
        return ChannelUnknown(channel=context.channel)
    if expected_version is not None:
        refused = conflict(state, resource_of_command(command), expected_version)
        if refused is not None:
            return refused
    if isinstance(command, RegisterChannel):
        return channel.register(state, command, context)
    if known is None:
        return ChannelUnknown(channel=context.channel)
    return _rules(state, known, command, context)


def _rules(  # noqa: C901 -- one closed match over every command is the point
    state: ChannelState, known: Channel, command: Command, context: Context
) -> Decision | Rejection:
    match command:  # a case that is not it costs as much as a switch's whole rule: the short rules come first
        case ToggleSms():
            return sms.toggle(known, command)
        case SaveOtpScheduling():
            return otp_scheduling.save(known, command)
        case EditChannel():
            return channel.edit(known, command)
        case RegisterChannel():
            return channel.register(state, command, context)
        case RetireChannel():
            return channel.retire(state, known, command)
        case OpenBusinessSystem():
            return business_system.open_(known, command, context)
        case EditBusinessSystem():
            return business_system.edit(state, known, command, context)
        case DeleteBusinessSystem():
            return business_system.delete(state, command)
        case DisableBusinessSystem():
            return business_system.disable(state, command)
        case EnableBusinessSystem():
            return business_system.enable(state, command)
        case RefreshSignature():
            return signature.refresh(state, known, command, context)
        case RevealSignature():
            return signature.reveal(state, known, command, context)
        case RevokeSignature():
            return signature.revoke(state, known, command, context)
        case AddIntent():
            return intent.add(state, known, command)
        case EditIntent():
            return intent.edit(state, known, command)
        case DeleteIntent():
            return intent.delete(state, command)
        case ReferToIntent():
            return intent.refer(state, known, command)
        case ReleaseIntent():
            return intent.release(state, command)
        case _:
            assert_never(command)
