"""Approvals: which events need a second person, and the form that says so.

What an event changes decides, not which command it comes from: an edit that draws a new signature changes the signature
too, and deleting a system deletes its signatures. A draft signs nothing until its system is opened, so it needs no
approval; nor does disabling a system, which stops calls at once.
"""

from __future__ import annotations

from contracts import approvals
from contracts.approval_rejections import ApprovalRequired
from contracts.approvals import ApprovalsSaved, SaveApprovals
from contracts.business_system import (
    BusinessSystemDeleted,
    BusinessSystemEdited,
    BusinessSystemEnabled,
    BusinessSystemOpened,
)
from contracts.channel import ChannelRetired
from contracts.message_types import Event
from contracts.otp_scheduling import OtpSchedulingSaved
from contracts.rejection import Rejection
from contracts.signature import SignatureRefreshed, SignatureRevoked
from services.domain.decision import NOTHING_CHANGES, Decision, EventMetadata
from services.domain.state import Channel


def save(channel: Channel, command: SaveApprovals) -> Decision:
    required_for = tuple(sorted(set(command.required_for)))
    if required_for == channel.approvals:
        return NOTHING_CHANGES
    return Decision((ApprovalsSaved(required_for=required_for),))


def saved(channel: Channel, event: ApprovalsSaved, metadata: EventMetadata) -> Channel:
    return channel.after(metadata, approvals=event.required_for, approvals_changed=metadata.version)


def approval_required(channel: Channel, decision: Decision) -> Rejection | None:
    """The rejection of a decision that changes what only a second person's approval may; None where none is needed."""
    if not channel.approvals:
        return None
    touched = {section for event in decision.events for section in _sections(channel, event)}
    sections = sorted(touched & {*channel.approvals, approvals.RESOURCE})
    return ApprovalRequired(sections=sections) if sections else None


def _sections(channel: Channel, event: Event) -> tuple[str, ...]:
    match event:
        case ApprovalsSaved():
            return (approvals.RESOURCE,)
        case SignatureRefreshed() | SignatureRevoked():
            return ("signature",) if event.system in channel.systems else ()
        case OtpSchedulingSaved():
            return ("otp-scheduling",)
        case BusinessSystemOpened() | BusinessSystemEdited() | BusinessSystemEnabled():
            return ("business-systems",)
        case BusinessSystemDeleted():
            return ("business-systems", "signature")
        case ChannelRetired():
            return ("retire",)
        case _:
            return ()
