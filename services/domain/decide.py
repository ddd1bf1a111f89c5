"""``decide(state, command, context) -> Decision | Rejection``: pure, closed, and in the order that the contract states.

Envelope, data and idempotency window are checked before. Here: channel and account, expected version, rules, approval.
"""

from __future__ import annotations

from typing import assert_never

from contracts.approvals import SaveApprovals
from contracts.business_system import (
    DeleteBusinessSystem,
    DisableBusinessSystem,
    EditBusinessSystem,
    EnableBusinessSystem,
    OpenBusinessSystem,
)
from contracts.channel import EditChannel, RegisterChannel, RetireChannel
from contracts.intent import AddIntent, DeleteIntent, EditIntent, ReferToIntent, ReleaseIntent
from contracts.message_types import Command
from contracts.otp_scheduling import SaveOtpScheduling
from contracts.proposed_change import ApplyChange, ApproveChange, DeclineChange, ProposeChange
from contracts.rejection import Rejection
from contracts.rejections import ChannelAlreadyRegistered, ChannelIsRetired, ChannelUnknown
from contracts.signature import RefreshSignature, RevealSignature, RevokeSignature
from contracts.sms import ToggleSms
from contracts.spend_guard import SaveSpendGuard
from services.domain import (
    approvals,
    business_system,
    intent,
    otp_scheduling,
    proposed_change,
    signature,
    sms,
    spend_guard,
)
from services.domain import channel as channels
from services.domain.decision import Context, Decision
from services.domain.difference import difference
from services.domain.expected_version import version_conflict
from services.domain.state import Channel, ChannelState


def decide(
    state: ChannelState, command: Command, context: Context, expected_version: int | None = None
) -> Decision | Rejection:
    """The decision on the command. No input makes it raise; what ``context.check_data`` raises passes through."""
    channel = state.channel
    if channel is not None and channel.account != context.account:
        if isinstance(command, RegisterChannel):
            return ChannelAlreadyRegistered(channel=context.channel)
        return ChannelUnknown(channel=context.channel)
    if channel is not None and channel.retired:
        return ChannelIsRetired(channel=context.channel)
    if channel is None and not isinstance(command, RegisterChannel):
        return ChannelUnknown(channel=context.channel)
    if expected_version is not None:
        rejection = version_conflict(state, command.resource, expected_version)
        if rejection is not None:
            return rejection
    if isinstance(command, RegisterChannel):
        return channels.register(state, command, context)
    if channel is None:
        return ChannelUnknown(channel=context.channel)
    decision = _rules(state, channel, command, context)
    if isinstance(decision, Rejection):
        return decision
    if not isinstance(command, (ApproveChange, ApplyChange)):
        rejection = approvals.approval_required(channel, decision)
        if rejection is not None:
            return rejection
    return proposed_change.with_voided(channel, decision)


def _rules(  # noqa: C901 -- one closed match over every command is the point
    state: ChannelState, channel: Channel, command: Command, context: Context
) -> Decision | Rejection:
    def rules(proposed: Command) -> Decision | Rejection:
        return _rules(state, channel, proposed, context)

    match command:  # short rules first: testing one case takes as long as a whole short rule
        case ToggleSms():
            return sms.toggle(channel, command)
        case SaveOtpScheduling():
            return otp_scheduling.save(channel, command)
        case SaveSpendGuard():
            return spend_guard.save(channel, command)
        case SaveApprovals():
            return approvals.save(channel, command)
        case EditChannel():
            return channels.edit(channel, command)
        case RegisterChannel():
            return channels.register(state, command, context)
        case RetireChannel():
            return channels.retire(state, channel, command)
        case OpenBusinessSystem():
            return business_system.open_(channel, command, context)
        case EditBusinessSystem():
            return business_system.edit(state, channel, command, context)
        case DeleteBusinessSystem():
            return business_system.delete(state, command)
        case DisableBusinessSystem():
            return business_system.disable(state, command)
        case EnableBusinessSystem():
            return business_system.enable(state, command)
        case RefreshSignature():
            return signature.refresh(state, channel, command, context)
        case RevealSignature():
            return signature.reveal(state, channel, command, context)
        case RevokeSignature():
            return signature.revoke(state, channel, command, context)
        case AddIntent():
            return intent.add(state, channel, command, context)
        case EditIntent():
            return intent.edit(state, channel, command, context)
        case DeleteIntent():
            return intent.delete(state, command)
        case ReferToIntent():
            return intent.refer(state, channel, command)
        case ReleaseIntent():
            return intent.release(state, command)
        case ProposeChange():
            would = rules(command.command.data)
            if isinstance(would, Rejection):
                return would
            return proposed_change.propose(channel, command, would, difference(state, would, context), context)
        case ApproveChange():
            return proposed_change.approve(channel, command, context, rules)
        case DeclineChange():
            return proposed_change.decline(channel, command)
        case ApplyChange():
            return proposed_change.apply(channel, command, context, rules)
        case _:
            assert_never(command)
