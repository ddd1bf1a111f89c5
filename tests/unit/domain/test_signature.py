"""A signature is drafted before Open, refreshed with a grace period, revealed sealed, and revoked."""

from __future__ import annotations

import pytest

from contracts.business_system import DeleteBusinessSystem
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
    DAY,
    DroppedDraft,
    RefreshSignature,
    ReplacedSignature,
    RevealSignature,
    RevokeSignature,
    SignatureRefreshed,
    SignatureRevealed,
    SignatureRevoked,
)
from services.domain.decision import Decision, NewSecret, SealRequest
from services.domain.url_policy import TARGET_REFUSED
from tests.unit.domain.given import Later, Scenario, at, fingerprint_of, given, secret
from tests.unit.domain.histories import (
    OPEN_CRM,
    OPEN_PLAIN,
    SEAL_TO,
    URL,
    WHATSAPP,
    crm_opened,
    draft,
    refreshed,
)

REFRESH = RefreshSignature(system="crm")
FORCED = RefreshSignature(system="crm", force=True)
AT_ONCE = RefreshSignature(system="crm", grace_seconds=0)
REVEAL = RevealSignature(system="crm", seal_to=SEAL_TO)
FIVE_DRAFTS = tuple(draft(f"s{number}") for number in range(1, 6))


def _drafted(
    number: int, *, replaced: str = "", dropped: tuple[str, str] = ("", ""), system: str = "crm"
) -> SignatureRefreshed:
    return SignatureRefreshed(
        system=system,
        key_id=f"key-{number}",
        fingerprint=fingerprint_of(number),
        api_request_url=URL,
        replaced=(ReplacedSignature(key_id=replaced, valid_until=at()),) if replaced else (),
        dropped_draft=DroppedDraft(system=dropped[0], key_id=dropped[1]) if dropped[0] else None,
    )


def _revoke(key_id: str) -> RevokeSignature:
    return RevokeSignature(system="crm", key_id=key_id)


def _reveal(key_id: str) -> RevealSignature:
    return RevealSignature(system="crm", key_id=key_id, seal_to=SEAL_TO)


DRAFTING: dict[str, Scenario] = {
    "a signature can be obtained once the API Request URL is filled in": given(WHATSAPP)
    .when(draft())
    .then(_drafted(1), deletes=()),
    "not before": given(WHATSAPP).when(REFRESH).then(SignatureNeedsApiRequestUrl(system="crm")),
    "and not for a URL that could not be saved": given(WHATSAPP)
    .when(draft(url="https://127.0.0.1/"))
    .then(ApiRequestUrlRefused(reason=TARGET_REFUSED)),
    "each Refresh replaces the draft, without grace or refusal": given(WHATSAPP, draft())
    .when(draft())
    .then(_drafted(2, replaced="key-1"), deletes=(("crm", "key-1"),)),
    "a sixth draft drops the oldest with its secret": given(WHATSAPP, *FIVE_DRAFTS)
    .when(draft())
    .then(_drafted(6, dropped=("s1", "key-1")), deletes=(("s1", "key-1"),)),
    "drawing one of five anew drops none": given(WHATSAPP, *FIVE_DRAFTS)
    .when(draft("s1"))
    .then(_drafted(6, replaced="key-1", system="s1"), deletes=(("s1", "key-1"),)),
    "a refreshed draft is no longer the oldest": given(WHATSAPP, *FIVE_DRAFTS, draft("s1"))
    .when(draft())
    .then(_drafted(7, dropped=("s2", "key-2")), deletes=(("s2", "key-2"),)),
    "a dropped draft cannot be revealed": given(WHATSAPP, *FIVE_DRAFTS, draft())
    .when(RevealSignature(system="s1", seal_to=SEAL_TO))
    .then(BusinessSystemUnknown(system="s1")),
    "a deleted system can be drafted for again": given(WHATSAPP, OPEN_CRM, DeleteBusinessSystem(system="crm"))
    .when(draft())
    .then(_drafted(2)),
}

REFRESHING: dict[str, Scenario] = {
    "the old one stays valid for 24 hours": given(WHATSAPP, OPEN_CRM)
    .when(REFRESH)
    .then(refreshed(2, ("key-1", at(DAY))), deletes=()),
    "or as long as is asked for": given(WHATSAPP, OPEN_CRM)
    .when(RefreshSignature(system="crm", grace_seconds=60))
    .then(refreshed(2, ("key-1", at(60)))),
    "grace 0 revokes it now": given(WHATSAPP, OPEN_CRM, Later(5))
    .when(AT_ONCE)
    .then(refreshed(2, ("key-1", at(5))), deletes=(("crm", "key-1"),)),
    "a second refresh inside the window is refused": given(WHATSAPP, OPEN_CRM, REFRESH, Later(DAY - 0.001))
    .when(REFRESH)
    .then(GracePeriodRunning(system="crm", key_id="key-1", valid_until=at(DAY))),
    "also with grace 0": given(WHATSAPP, OPEN_CRM, REFRESH)
    .when(AT_ONCE)
    .then(GracePeriodRunning(system="crm", key_id="key-1", valid_until=at(DAY))),
    "forced, it revokes the one in grace": given(WHATSAPP, OPEN_CRM, REFRESH, Later(5))
    .when(FORCED)
    .then(refreshed(3, ("key-2", at(5 + DAY)), ("key-1", at(5))), deletes=(("crm", "key-1"),)),
    "forced with grace 0, none of the old ones stays": given(WHATSAPP, OPEN_CRM, REFRESH, Later(5))
    .when(RefreshSignature(system="crm", force=True, grace_seconds=0))
    .then(refreshed(3, ("key-2", at(5)), ("key-1", at(5))), deletes=(("crm", "key-2"), ("crm", "key-1"))),
    "after the window it needs no force, and the expired secret goes": given(WHATSAPP, OPEN_CRM, REFRESH, Later(DAY))
    .when(REFRESH)
    .then(refreshed(3, ("key-2", at(2 * DAY))), deletes=(("crm", "key-1"),)),
    "force where nothing runs is a plain refresh": given(WHATSAPP, OPEN_CRM)
    .when(FORCED)
    .then(refreshed(2, ("key-1", at(DAY)))),
    "right after grace 0 nothing runs": given(WHATSAPP, OPEN_CRM, AT_ONCE)
    .when(REFRESH)
    .then(refreshed(3, ("key-2", at(DAY)))),
    "a revoked one in grace is no reason for refusal": given(WHATSAPP, OPEN_CRM, REFRESH, _revoke("key-1"))
    .when(REFRESH)
    .then(refreshed(3, ("key-2", at(DAY)))),
    "its own URL may be named": given(WHATSAPP, OPEN_CRM).when(draft()).then(refreshed(2, ("key-1", at(DAY)))),
    "another URL is for EditBusinessSystem": given(WHATSAPP, OPEN_CRM)
    .when(draft(url="https://crm2.example/"))
    .then(ApiRequestUrlSettled(system="crm")),
    "a taken-over draft is refreshed like any other": given(WHATSAPP, draft(), OPEN_CRM)
    .when(REFRESH)
    .then(refreshed(2, ("key-1", at(DAY)))),
}

REVEALING: dict[str, Scenario] = {
    "without a key id the newest is revealed": given(WHATSAPP, OPEN_CRM, REFRESH)
    .when(REVEAL)
    .then(SignatureRevealed(system="crm", key_id="key-2")),
    "each reveal is an event of its own": given(WHATSAPP, OPEN_CRM, REVEAL)
    .when(REVEAL)
    .then(SignatureRevealed(system="crm", key_id="key-1")),
    "one in its grace period too": given(WHATSAPP, OPEN_CRM, REFRESH, Later(DAY - 1))
    .when(_reveal("key-1"))
    .then(SignatureRevealed(system="crm", key_id="key-1")),
    "an expired one never": given(WHATSAPP, OPEN_CRM, REFRESH, Later(DAY))
    .when(_reveal("key-1"))
    .then(SignatureUnknown(system="crm", key_id="key-1")),
    "a revoked one never": given(WHATSAPP, OPEN_CRM, AT_ONCE)
    .when(_reveal("key-1"))
    .then(SignatureUnknown(system="crm", key_id="key-1")),
    "one that never was neither": given(WHATSAPP, OPEN_CRM)
    .when(_reveal("key-9"))
    .then(SignatureUnknown(system="crm", key_id="key-9")),
    "a draft": given(WHATSAPP, draft()).when(REVEAL).then(SignatureRevealed(system="crm", key_id="key-1")),
    "a replaced draft never": given(WHATSAPP, draft(), draft())
    .when(_reveal("key-1"))
    .then(SignatureUnknown(system="crm", key_id="key-1")),
    "of what is neither open nor drafted, none": given(WHATSAPP).when(REVEAL).then(BusinessSystemUnknown(system="crm")),
    "of a deleted system, none": given(WHATSAPP, OPEN_CRM, DeleteBusinessSystem(system="crm"))
    .when(_reveal("key-1"))
    .then(BusinessSystemUnknown(system="crm")),
}

REVOKING: dict[str, Scenario] = {
    "one in its grace period is revoked with its secret": given(WHATSAPP, OPEN_CRM, REFRESH)
    .when(_revoke("key-1"))
    .then(SignatureRevoked(system="crm", key_id="key-1"), deletes=(("crm", "key-1"),)),
    "the current one is not: no call could be signed": given(WHATSAPP, OPEN_CRM)
    .when(_revoke("key-1"))
    .then(SignatureIsCurrent(system="crm", key_id="key-1")),
    "what is revoked is not revoked again": given(WHATSAPP, OPEN_CRM, REFRESH, _revoke("key-1"))
    .when(_revoke("key-1"))
    .then(SignatureUnknown(system="crm", key_id="key-1")),
    "what is expired is not revoked": given(WHATSAPP, OPEN_CRM, REFRESH, Later(DAY))
    .when(_revoke("key-1"))
    .then(SignatureUnknown(system="crm", key_id="key-1")),
    "one that never was neither": given(WHATSAPP, OPEN_CRM)
    .when(_revoke("key-9"))
    .then(SignatureUnknown(system="crm", key_id="key-9")),
    "a draft is revoked": given(WHATSAPP, draft())
    .when(_revoke("key-1"))
    .then(SignatureRevoked(system="crm", key_id="key-1"), deletes=(("crm", "key-1"),)),
    "another key of a draft is unknown": given(WHATSAPP, draft())
    .when(_revoke("key-2"))
    .then(SignatureUnknown(system="crm", key_id="key-2")),
    "a revoked draft is gone": given(WHATSAPP, draft(), _revoke("key-1"))
    .when(OPEN_CRM)
    .then(crm_opened(), refreshed(2), deletes=()),
    "of what is neither open nor drafted, none": given(WHATSAPP)
    .when(_revoke("key-1"))
    .then(BusinessSystemUnknown(system="crm")),
}

SCENARIOS: dict[str, Scenario] = {
    **{f"drafting: {name}": one for name, one in DRAFTING.items()},
    **{f"refreshing: {name}": one for name, one in REFRESHING.items()},
    **{f"revealing: {name}": one for name, one in REVEALING.items()},
    **{f"revoking: {name}": one for name, one in REVOKING.items()},
}


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))
def test_signature(scenario: Scenario) -> None:
    scenario.check()


def _decision(scenario: Scenario) -> Decision:
    decided = scenario.decided()
    assert isinstance(decided, Decision)
    return decided


def test_a_new_secret_is_kept_under_its_key_id() -> None:
    assert _decision(given(WHATSAPP).when(OPEN_CRM)).new_secret == NewSecret("crm", "key-1", secret(1))
    assert _decision(given(WHATSAPP).when(draft())).new_secret == NewSecret("crm", "key-1", secret(1))
    assert _decision(given(WHATSAPP, OPEN_CRM).when(REFRESH)).new_secret == NewSecret("crm", "key-2", secret(2))


def test_no_secret_is_in_an_event_or_a_printed_decision() -> None:
    decided = _decision(given(WHATSAPP).when(OPEN_CRM))

    assert "\\x01" not in repr(decided)
    assert all(secret(1).hex() not in event.model_dump_json() for event in decided.events)


@pytest.mark.parametrize(
    ("scenario", "sealed"),
    [
        (given(WHATSAPP, OPEN_CRM).when(REVEAL), SealRequest("crm", "key-1", SEAL_TO)),
        (given(WHATSAPP, OPEN_PLAIN).when(REVEAL), SealRequest("crm", "key-1", SEAL_TO)),
        (given(WHATSAPP, draft()).when(REVEAL), SealRequest("crm", "key-1", SEAL_TO)),
        (
            given(WHATSAPP, OPEN_PLAIN).when(RefreshSignature(system="crm", seal_to=SEAL_TO)),
            SealRequest("crm", "key-2", SEAL_TO),
        ),
        (
            given(WHATSAPP).when(RefreshSignature(system="crm", api_request_url=URL, seal_to=SEAL_TO)),
            SealRequest("crm", "key-1", SEAL_TO),
        ),
        (given(WHATSAPP, OPEN_CRM).when(REFRESH), None),
    ],
)
def test_who_asks_gets_it_sealed(scenario: Scenario, sealed: SealRequest | None) -> None:
    assert _decision(scenario).seal_request == sealed
