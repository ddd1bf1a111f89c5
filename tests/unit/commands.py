"""Random commands that meet each other: few systems, few codes, so that most of them find something there."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

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
from contracts.message import CommandData
from contracts.otp_scheduling import SaveOtpScheduling
from contracts.proposed_change import ApplyChange, ApproveChange, DeclineChange, ProposeChange
from contracts.signature import RefreshSignature, RevealSignature, RevokeSignature
from contracts.sms import ToggleSms
from contracts.spend_guard import SaveSpendGuard
from tests.unit.domain.histories import SEAL_TO

REGISTER = RegisterChannel(channel_type="whatsapp", name="Shop", enterprise_authenticated=True)

_system = st.sampled_from(["crm", "erp", "shop"])
_code = st.sampled_from(["ORDER", "REFUND"])
_template = st.sampled_from(["welcome", "bye"])
_name = st.sampled_from(["CRM", "ERP", 'Ümlaut \U0001f600 \\ "quoted"'])
_url = st.sampled_from(["https://crm.example/hook", "https://crm.example/other", "https://erp.example:8443/"])
_style = st.sampled_from(["standard-webhooks", "plain-token"])
_force = st.booleans()
_key = st.sampled_from([f"key-{number}" for number in range(1, 9)])
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_data = st.dictionaries(st.text(max_size=5), _json, max_size=3)
_schema = st.sampled_from([None, {}, {"type": "object"}, {"required": ["order"]}, {"maxProperties": 1}])


Fields = dict[str, st.SearchStrategy[Any]]


def _any(kind: type[CommandData], fields: Fields, optional: Fields | None = None) -> st.SearchStrategy[CommandData]:
    return st.fixed_dictionaries(fields, optional=optional or {}).map(kind.model_validate)


_system_is = {"system": _system}
_intent_is = {"system": _system, "code": _code}
_system_fields = {"name": _name, "api_request_url": _url}
_form = {
    "enabled": st.booleans(),
    "countries": st.lists(st.sampled_from(["ID", "IN", "AE", "BD"]), max_size=4),
    "use_own_numbers": st.booleans(),
    "international_rates_acknowledged": st.booleans(),
}

_approved_section = st.sampled_from(["business-systems", "otp-scheduling", "retire", "signature"])

_limits = {
    "max_rate": st.none()
    | st.sampled_from(["0.05", "0.050", "1"]).map(lambda amount: {"amount": amount, "currency": "AED"}),
    "daily_messages_per_country": st.none() | st.integers(0, 2),
}

_rate_facts = {
    "home_country": st.sampled_from([None, "AE"]),
    "international_rates_from": st.sampled_from([None, {}, {"IN": "2026-10-01"}]),
}

edits: st.SearchStrategy[CommandData] = st.one_of(
    _any(EditChannel, {}, {"name": _name, "provider": st.sampled_from([None, "agency"])} | _rate_facts),
    _any(
        EditBusinessSystem,
        _system_is,
        _system_fields | {"remarks": st.none() | _name, "signature_style": st.none() | _style},
    ),
    _any(
        EditIntent,
        _intent_is,
        {"name": _name, "default_data": st.none() | _data, "schema": _schema, "force": _force},
    ),
    _any(DisableBusinessSystem, _system_is, {"reason": _name}),
    _any(EnableBusinessSystem, _system_is),
    _any(ToggleSms, {"enabled": st.booleans()}),
    _any(SaveOtpScheduling, _form),
    _any(SaveSpendGuard, {"mode": st.sampled_from(["off", "monitor", "enforce"])}, _limits),
    _any(SaveApprovals, {"required_for": st.lists(_approved_section, max_size=2)}),
)
"""Edits, switches and forms: what says how things are to be, and so changes nothing when it is asked for again."""

_steps: st.SearchStrategy[CommandData] = st.one_of(
    _any(OpenBusinessSystem, _system_is | _system_fields, {"remarks": _name, "signature_style": _style}),
    _any(DeleteBusinessSystem, _system_is, {"force": _force}),
    _any(
        RefreshSignature,
        _system_is,
        {"grace_seconds": st.sampled_from([0, 1, 60]), "force": _force, "api_request_url": _url},
    ),
    _any(RevealSignature, _system_is | {"seal_to": st.just(SEAL_TO)}, {"key_id": _key}),
    _any(RevokeSignature, _system_is | {"key_id": _key}),
    _any(AddIntent, _intent_is | {"name": _name, "default_data": _data}, {"schema": _schema}),
    _any(DeleteIntent, _intent_is, {"force": _force}),
    _any(ReferToIntent, _intent_is | {"template": _template}),
    _any(ReleaseIntent, _intent_is | {"template": _template}),
)

_proposed = st.one_of(
    _any(SaveOtpScheduling, _form),
    _any(EditBusinessSystem, _system_is, {"remarks": st.none() | _name, "signature_style": st.none() | _style}),
    _any(RefreshSignature, _system_is),
    _any(SaveApprovals, {"required_for": st.lists(_approved_section, max_size=2)}),
    st.just(RetireChannel()),
).map(lambda command: {"type": type(command).__name__, "data": command.model_dump(exclude_unset=True)})
_change = st.sampled_from([f"change-{number}" for number in range(4)])
_change_is = {"change": _change}
decisions_on_changes: st.SearchStrategy[CommandData] = st.one_of(
    _any(
        ProposeChange,
        _change_is | {"command": _proposed},
        {"replaces": _change, "at": st.just("2026-11-22T08:00:20Z"), "comment": _name},
    ),
    _any(ApproveChange, _change_is),
    _any(DeclineChange, _change_is, {"comment": _name}),
    _any(ApplyChange, _change_is),
)

commands: st.SearchStrategy[CommandData] = st.one_of(
    edits, _steps, decisions_on_changes, st.just(REGISTER), st.just(RetireChannel())
)

_OPEN_CRM = OpenBusinessSystem(system="crm", name="CRM", api_request_url="https://crm.example/hook")
_ADD_ORDER = AddIntent(system="crm", code="ORDER", name="Order", default_data={"order": "42"})
_beginnings: st.SearchStrategy[list[CommandData]] = st.sampled_from(
    [[REGISTER], [REGISTER, _OPEN_CRM], [REGISTER, _OPEN_CRM, _ADD_ORDER]]
)

histories: st.SearchStrategy[list[CommandData]] = st.tuples(
    _beginnings,
    st.lists(edits | _steps | decisions_on_changes, min_size=8, max_size=20),
    st.lists(commands, max_size=2),
).map(lambda parts: parts[0] + parts[1] + parts[2])
