"""Who may do what: a row for every route under ``/v1``.

The checks, the ``security`` in `/docs`, and the table in docs/access.md are made from these rows. A gateway with a
route without a row does not start.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from contracts.approvals import ApprovalsSettings
from contracts.settings import SECTIONS
from services.gateway.authentication.roles import ALL_ROLES, Role


class Target(Enum):
    """What a route is about, which decides whether a caller's scope suffices. The value says so in words."""

    CHANNEL = "the channel in the path, if it is in the caller's scope"
    CHANNELS = "an account's channels; a caller for a channel or a provider names one in the parameter `channel`"
    SCOPE = "what is in the caller's scope"
    ACCOUNT = "an account: not for callers for a channel or a provider"
    PLATFORM = "the platform: only for callers without an account or a provider"


@dataclass(frozen=True, slots=True)
class Operation:
    """The caller needs one of the ``roles``."""

    roles: frozenset[Role]
    target: Target


def _row(target: Target, *roles: Role) -> Operation:
    return Operation(frozenset(roles) or ALL_ROLES, target)


_CHANNEL, _CHANNELS, _SCOPE, _ACCOUNT, _PLATFORM = Target
_EDITOR, _KEEPER, _AUDITOR, _ADMINISTRATOR = Role.EDITOR, Role.SIGNATURE_KEEPER, Role.AUDITOR, Role.ADMINISTRATOR
_APPROVER, _DEVELOPER = Role.APPROVER, Role.DEVELOPER
_AT = "/v1/channels/{channel}"
_SYSTEM = f"{_AT}/business-systems/{{system}}"
_CHANGES = f"{_AT}/proposed-changes"

OPERATIONS: dict[str, Operation] = {
    # Reading: every role.
    "GET /v1/channels": _row(_SCOPE),
    f"GET {_AT}": _row(_CHANNEL),
    f"GET {_AT}/settings": _row(_CHANNEL),
    f"GET {_AT}/business-systems": _row(_CHANNEL),
    f"GET {_SYSTEM}": _row(_CHANNEL),
    f"GET {_SYSTEM}/health": _row(_CHANNEL),
    f"GET {_SYSTEM}/signatures": _row(_CHANNEL),
    f"GET {_SYSTEM}/intents": _row(_CHANNEL),
    f"GET {_SYSTEM}/intents/{{code}}": _row(_CHANNEL),
    f"GET {_AT}/invocations": _row(_CHANNEL),
    f"GET {_AT}/history": _row(_CHANNEL),
    "GET /v1/customers": _row(_SCOPE),
    "GET /v1/intents": _row(_CHANNELS),
    "GET /v1/deliveries": _row(_CHANNELS),
    "GET /v1/deliveries/{delivery}": _row(_SCOPE),
    "GET /v1/changes": _row(_CHANNELS),
    "GET /v1/history": _row(_ACCOUNT),
    # Settings.
    "POST /v1/customers/settings": _row(_SCOPE, _EDITOR),
    f"PATCH {_AT}": _row(_CHANNEL, _EDITOR),
    f"PUT {_SYSTEM}": _row(_CHANNEL, _EDITOR),
    f"PATCH {_SYSTEM}": _row(_CHANNEL, _EDITOR),
    f"DELETE {_SYSTEM}": _row(_CHANNEL, _EDITOR),
    f"POST {_SYSTEM}/disable": _row(_CHANNEL, _EDITOR),
    f"POST {_SYSTEM}/enable": _row(_CHANNEL, _EDITOR),
    f"PUT {_SYSTEM}/intents/{{code}}": _row(_CHANNEL, _EDITOR),
    f"PATCH {_SYSTEM}/intents/{{code}}": _row(_CHANNEL, _EDITOR),
    f"DELETE {_SYSTEM}/intents/{{code}}": _row(_CHANNEL, _EDITOR),
    f"PUT {_SYSTEM}/intents/{{code}}/references/{{template}}": _row(_CHANNEL, _EDITOR),
    f"DELETE {_SYSTEM}/intents/{{code}}/references/{{template}}": _row(_CHANNEL, _EDITOR),
    **{f"GET {_AT}/{section.resource}": _row(_CHANNEL) for section in SECTIONS.values()},
    **{f"PUT {_AT}/{section.resource}": _row(_CHANNEL, _EDITOR) for section in SECTIONS.values()},
    # Proposed changes.
    f"GET {_CHANGES}": _row(_CHANNEL),
    f"GET {_CHANGES}/{{change}}": _row(_CHANNEL),
    f"POST {_CHANGES}": _row(_CHANNEL, _EDITOR, _KEEPER, _ADMINISTRATOR),
    f"POST {_CHANGES}/{{change}}/approve": _row(_CHANNEL, _APPROVER),
    f"POST {_CHANGES}/{{change}}/decline": _row(_CHANNEL, _APPROVER, _EDITOR, _KEEPER, _ADMINISTRATOR),
    # Calls of business systems.
    f"POST {_AT}/invocations": _row(_CHANNEL, _EDITOR),
    f"POST {_SYSTEM}/intents/{{code}}/trigger": _row(_CHANNEL, _EDITOR, _DEVELOPER),
    f"PUT {_AT}/listeners/{{listener}}": _row(_CHANNEL, _EDITOR, _DEVELOPER),
    f"DELETE {_AT}/listeners/{{listener}}": _row(_CHANNEL, _EDITOR, _DEVELOPER),
    f"PUT {_AT}/listeners/{{listener}}/answers/{{delivery}}": _row(_CHANNEL, _EDITOR, _DEVELOPER),
    "POST /v1/deliveries/{delivery}/replay": _row(_SCOPE, _EDITOR),
    "POST /v1/deliveries/replay": _row(_ACCOUNT, _EDITOR),
    # Messages.
    f"POST {_AT}/message-decisions": _row(_CHANNEL, _EDITOR),
    f"POST {_AT}/messages/{{message}}/statuses": _row(_CHANNEL, _EDITOR),
    f"GET {_AT}/messages": _row(_CHANNEL),
    f"GET {_AT}/messages/{{message}}": _row(_CHANNEL),
    f"POST {_AT}/what-if": _row(_CHANNEL),
    "GET /v1/usage": _row(_ACCOUNT),
    "GET /v1/scheduling-resources": _row(_SCOPE),
    "GET /v1/health": _row(_PLATFORM),
    "POST /v1/scheduling-resources": _row(_PLATFORM, _EDITOR),
    "DELETE /v1/scheduling-resources/{resource}": _row(_PLATFORM, _EDITOR),
    "GET /v1/rates": _row(_SCOPE),
    "PUT /v1/rates": _row(_PLATFORM, _EDITOR),
    # Secrets.
    f"POST {_SYSTEM}/signature": _row(_CHANNEL, _KEEPER),
    f"GET {_SYSTEM}/signature": _row(_CHANNEL, _KEEPER),
    f"DELETE {_SYSTEM}/signature/{{key_id}}": _row(_CHANNEL, _KEEPER),
    f"POST {_SYSTEM}/signature/{{key_id}}/retirement": _row(_CHANNEL, _KEEPER),
    f"POST {_SYSTEM}/test-calls": _row(_CHANNEL, _KEEPER),
    # Audits.
    "GET /v1/audit/at": _row(_CHANNELS, _AUDITOR),
    "GET /v1/audit/diff": _row(_CHANNELS, _AUDITOR),
    "GET /v1/audit/log": _row(_CHANNELS, _AUDITOR),
    "GET /v1/audit/verify": _row(_PLATFORM, _AUDITOR),
    "GET /v1/access-log": _row(_SCOPE, _AUDITOR),
    # Administration.
    "GET /v1/api-keys": _row(_SCOPE, _ADMINISTRATOR),
    "POST /v1/api-keys": _row(_SCOPE, _ADMINISTRATOR),
    "POST /v1/api-keys/{key}/rotation": _row(_SCOPE, _ADMINISTRATOR),
    "DELETE /v1/api-keys/{key}": _row(_SCOPE, _ADMINISTRATOR),
    f"PUT {_AT}": _row(_PLATFORM, _ADMINISTRATOR),
    f"DELETE {_AT}": _row(_CHANNEL, _ADMINISTRATOR),
    f"PUT {_AT}/{ApprovalsSettings.resource}": _row(_CHANNEL, _ADMINISTRATOR),
}
"""Method and path of a route -> who may use it."""

SENT_BY = {
    "RegisterChannel": f"PUT {_AT}",
    "EditChannel": f"PATCH {_AT}",
    "RetireChannel": f"DELETE {_AT}",
    "OpenBusinessSystem": f"PUT {_SYSTEM}",
    "EditBusinessSystem": f"PATCH {_SYSTEM}",
    "DeleteBusinessSystem": f"DELETE {_SYSTEM}",
    "DisableBusinessSystem": f"POST {_SYSTEM}/disable",
    "EnableBusinessSystem": f"POST {_SYSTEM}/enable",
    "RefreshSignature": f"POST {_SYSTEM}/signature",
    "RevealSignature": f"GET {_SYSTEM}/signature",
    "RevokeSignature": f"DELETE {_SYSTEM}/signature/{{key_id}}",
    "AddIntent": f"PUT {_SYSTEM}/intents/{{code}}",
    "EditIntent": f"PATCH {_SYSTEM}/intents/{{code}}",
    "DeleteIntent": f"DELETE {_SYSTEM}/intents/{{code}}",
    "ReferToIntent": f"PUT {_SYSTEM}/intents/{{code}}/references/{{template}}",
    "ReleaseIntent": f"DELETE {_SYSTEM}/intents/{{code}}/references/{{template}}",
    "ToggleSms": f"PUT {_AT}/sms",
    "SaveOtpScheduling": f"PUT {_AT}/otp-scheduling",
    "SaveSpendGuard": f"PUT {_AT}/spend-guard",
    "SaveApprovals": f"PUT {_AT}/approvals",
    "ProposeChange": f"POST {_CHANGES}",
    "ApproveChange": f"POST {_CHANGES}/{{change}}/approve",
    "DeclineChange": f"POST {_CHANGES}/{{change}}/decline",
}
"""A command -> the operation that sends it: who sends it by another way, such as a proposal, may do that."""
