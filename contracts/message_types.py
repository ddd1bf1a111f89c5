"""Every settings command and event: each union is declared here, once, and everything dispatches on it."""

from __future__ import annotations

from typing import get_args

from .approvals import ApprovalsSaved, SaveApprovals
from .business_system import (
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
from .channel import (
    ChannelEdited,
    ChannelRegistered,
    ChannelRetired,
    EditChannel,
    RegisterChannel,
    RetireChannel,
)
from .intent import (
    AddIntent,
    DeleteIntent,
    EditIntent,
    IntentAdded,
    IntentDeleted,
    IntentEdited,
    IntentReferredTo,
    IntentReleased,
    ReferToIntent,
    ReleaseIntent,
)
from .message import CommandData, EventData
from .otp_scheduling import OtpSchedulingSaved, SaveOtpScheduling
from .proposed_change import (
    ApplyChange,
    ApproveChange,
    ChangeApplied,
    ChangeApproved,
    ChangeDeclined,
    ChangeProposed,
    ChangeVoided,
    DeclineChange,
    ProposeChange,
)
from .signature import (
    RefreshSignature,
    RevealSignature,
    RevokeSignature,
    SignatureRefreshed,
    SignatureRevealed,
    SignatureRevoked,
)
from .sms import SmsActivated, SmsDeactivated, ToggleSms
from .spend_guard import SaveSpendGuard, SpendGuardSaved

Command = (
    RegisterChannel
    | EditChannel
    | RetireChannel
    | OpenBusinessSystem
    | EditBusinessSystem
    | DeleteBusinessSystem
    | DisableBusinessSystem
    | EnableBusinessSystem
    | RefreshSignature
    | RevealSignature
    | RevokeSignature
    | AddIntent
    | EditIntent
    | DeleteIntent
    | ReferToIntent
    | ReleaseIntent
    | ToggleSms
    | SaveOtpScheduling
    | SaveSpendGuard
    | SaveApprovals
    | ProposeChange
    | ApproveChange
    | DeclineChange
    | ApplyChange
)

Event = (
    ChannelRegistered
    | ChannelEdited
    | ChannelRetired
    | BusinessSystemOpened
    | BusinessSystemEdited
    | BusinessSystemDeleted
    | BusinessSystemDisabled
    | BusinessSystemEnabled
    | SignatureRefreshed
    | SignatureRevealed
    | SignatureRevoked
    | IntentAdded
    | IntentEdited
    | IntentDeleted
    | IntentReferredTo
    | IntentReleased
    | SmsActivated
    | SmsDeactivated
    | OtpSchedulingSaved
    | SpendGuardSaved
    | ApprovalsSaved
    | ChangeProposed
    | ChangeApproved
    | ChangeDeclined
    | ChangeVoided
    | ChangeApplied
)

COMMANDS: dict[str, type[CommandData]] = {kind.__name__: kind for kind in get_args(Command)}
EVENTS: dict[str, type[EventData]] = {kind.__name__: kind for kind in get_args(Event)}
