"""What each command is refused for by its own rules, besides what any command is refused for."""

from __future__ import annotations

_SCHEMA = ("IntentSchemaInvalid", "DefaultDataBreaksSchema", "DecisionTimedOut", "BusinessSystemTooLarge")
_NO_INTENT = ("BusinessSystemUnknown", "IntentUnknown")
_SECOND_PERSON = ("ApprovalRequired",)
_NO_CHANGE = ("ChangeUnknown", "ChangeDecided")
_URL = ("BusinessSystemNameTaken", "ApiRequestUrlRefused")

REJECTIONS: dict[str, tuple[str, ...]] = {
    "RegisterChannel": ("ChannelAlreadyRegistered", "EnterpriseAuthenticationMissing"),
    "EditChannel": (),
    "RetireChannel": _SECOND_PERSON,
    "OpenBusinessSystem": ("BusinessSystemAlreadyOpen", "TooManyBusinessSystems", *_URL, *_SECOND_PERSON),
    "EditBusinessSystem": ("BusinessSystemUnknown", "BusinessSystemTooLarge", *_URL, *_SECOND_PERSON),
    "DeleteBusinessSystem": ("BusinessSystemUnknown", "BusinessSystemInUse", *_SECOND_PERSON),
    "DisableBusinessSystem": ("BusinessSystemUnknown",),
    "EnableBusinessSystem": ("BusinessSystemUnknown", *_SECOND_PERSON),
    "RefreshSignature": (
        *("SignatureNeedsApiRequestUrl", "ApiRequestUrlRefused", "ApiRequestUrlSettled"),
        *("GracePeriodRunning", "SealKeyRefused", *_SECOND_PERSON),
    ),
    "RevealSignature": ("BusinessSystemUnknown", "SignatureUnknown", "SealKeyRefused"),
    "RevokeSignature": ("BusinessSystemUnknown", "SignatureUnknown", "SignatureIsCurrent", *_SECOND_PERSON),
    "AddIntent": ("IntentNeedsBusinessSystem", "IntentAlreadyAdded", "TooManyIntents", *_SCHEMA),
    "EditIntent": (*_NO_INTENT, "IntentInUse", *_SCHEMA),
    "DeleteIntent": (*_NO_INTENT, "IntentInUse"),
    "ReferToIntent": (*_NO_INTENT, "TemplateRefersAlready", "BusinessSystemTooLarge"),
    "ReleaseIntent": (*_NO_INTENT, "TemplateDoesNotRefer"),
    "ToggleSms": (),
    "SaveOtpScheduling": (
        *("OtpSchedulingNeedsWhatsApp", "OtpSchedulingNeedsCountries", "InternationalRatesNotAcknowledged"),
        *_SECOND_PERSON,
    ),
    "SaveSpendGuard": ("SpendGuardNeedsLimit",),
    "SaveApprovals": _SECOND_PERSON,
    "ProposeChange": (
        *("ActorMissing", "ChangeAlreadyProposed", "InstantHasPassed", "TooManyProposedChanges"),
        *("ChangeUnknown", "ChangeDecided", "ReplacedByAnother"),
    ),
    "ApproveChange": (*_NO_CHANGE, "ActorMissing", "AuthorCannotApprove", "InstantHasPassed"),
    "DeclineChange": _NO_CHANGE,
    "ApplyChange": (*_NO_CHANGE, "ChangeNotApproved", "ChangeNotDue"),
}
"""A command's type -> names of rejections."""
