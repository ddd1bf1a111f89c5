"""A business system is opened, edited, disabled, enabled, deleted; opening issues a signature if none is drafted."""

from __future__ import annotations

from unicodedata import normalize

import pytest

from contracts.business_system import (
    BusinessSystemDeleted,
    BusinessSystemDisabled,
    BusinessSystemEdited,
    BusinessSystemEnabled,
    DeleteBusinessSystem,
    DisableBusinessSystem,
    EditBusinessSystem,
    EnableBusinessSystem,
)
from contracts.intent import IntentAdded, ReleaseIntent
from contracts.rejections import (
    ApiRequestUrlRefused,
    BusinessSystemAlreadyOpen,
    BusinessSystemInUse,
    BusinessSystemNameTaken,
    BusinessSystemUnknown,
)
from contracts.signature import RefreshSignature
from services.domain.url_policy import TARGET_REFUSED, Allowlist
from tests.unit.domain.given import Later, Scenario, at, given
from tests.unit.domain.histories import (
    ADD_ORDER,
    OPEN_CRM,
    OPEN_ERP,
    OPEN_PLAIN,
    REFER,
    URL,
    WHATSAPP,
    crm_opened,
    draft,
    issued,
    refreshed,
)

INSIDE = "http://crm.internal:8080/hook"
OTHER_ORIGIN = "https://crm2.example/hook"
DELETE = DeleteBusinessSystem(system="crm")
DISABLE = DisableBusinessSystem(system="crm")
ENABLE = EnableBusinessSystem(system="crm")
DISABLED = BusinessSystemDisabled(system="crm", reason=None)


def _edit(**fields: object) -> EditBusinessSystem:
    return EditBusinessSystem.model_validate({"system": "crm"} | fields)


def _edited(**fields: object) -> BusinessSystemEdited:
    return BusinessSystemEdited.model_validate({"system": "crm"} | fields)


OPENING: dict[str, Scenario] = {
    "opening issues a signature": given(WHATSAPP).when(OPEN_CRM).then(crm_opened(), refreshed(1)),
    "remarks and style are kept": given(WHATSAPP)
    .when(OPEN_PLAIN.model_copy(update={"remarks": "two\nlines"}))
    .then(
        crm_opened().model_copy(update={"remarks": "two\nlines", "signature_style": "plain-token"}),
        refreshed(1),
    ),
    "opening takes over the drafted signature": given(WHATSAPP, draft(), Later(60))
    .when(OPEN_CRM)
    .then(crm_opened(issued(1)), deletes=()),
    "another path of the same origin takes it over too": given(WHATSAPP, draft(url="https://CRM.example:443/other"))
    .when(OPEN_CRM)
    .then(crm_opened(issued(1))),
    "with a URL of another origin a new signature is issued": given(WHATSAPP, draft(url=OTHER_ORIGIN))
    .when(OPEN_CRM)
    .then(crm_opened(), refreshed(2, ("key-1", at())), deletes=(("crm", "key-1"),)),
    "another port is another origin": given(WHATSAPP, draft(url="https://crm.example:8443/hook"))
    .when(OPEN_CRM)
    .then(crm_opened(), refreshed(2, ("key-1", at())), deletes=(("crm", "key-1"),)),
    "another system's draft is not taken": given(WHATSAPP, draft("erp"))
    .when(OPEN_CRM)
    .then(crm_opened(), refreshed(2), deletes=()),
    "what is open is not opened again": given(WHATSAPP, OPEN_CRM)
    .when(OPEN_CRM)
    .then(BusinessSystemAlreadyOpen(system="crm")),
    "a System Name is unique within its channel": given(WHATSAPP, OPEN_CRM)
    .when(OPEN_ERP.model_copy(update={"name": "CRM"}))
    .then(BusinessSystemNameTaken(name="CRM", system="crm")),
    "a deleted system's name is free": given(WHATSAPP, OPEN_CRM, DELETE)
    .when(OPEN_CRM.model_copy(update={"system": "crm2"}))
    .then(crm_opened().model_copy(update={"system": "crm2"}), refreshed(2, system="crm2")),
    "a renamed system's old name is free": given(WHATSAPP, OPEN_CRM, _edit(name="Customers"))
    .when(OPEN_ERP.model_copy(update={"name": "CRM", "api_request_url": URL}))
    .then(crm_opened().model_copy(update={"system": "erp"}), refreshed(2, system="erp")),
    "http is refused": given(WHATSAPP)
    .when(OPEN_CRM.model_copy(update={"api_request_url": INSIDE}))
    .then(ApiRequestUrlRefused(reason="it must begin with https://, unless the operator allows this host and port")),
    "unless the operator allows the place": given(WHATSAPP)
    .when(OPEN_CRM.model_copy(update={"api_request_url": INSIDE}), allowing=Allowlist.parse(["crm.internal:8080"]))
    .then(crm_opened().model_copy(update={"api_request_url": INSIDE}), refreshed(1)),
    "what was deleted is opened again with a key id never used": given(WHATSAPP, OPEN_CRM, DELETE)
    .when(OPEN_CRM)
    .then(crm_opened(), refreshed(2)),
    "and starts empty": given(WHATSAPP, OPEN_CRM, ADD_ORDER, REFER, DISABLE)
    .when(DeleteBusinessSystem(system="crm", force=True))
    .then(BusinessSystemDeleted(system="crm")),
    "and has none of its intents": given(WHATSAPP, OPEN_CRM, ADD_ORDER, DISABLE, DELETE, OPEN_CRM)
    .when(ADD_ORDER)
    .then(
        IntentAdded.model_validate(
            {"system": "crm", "code": "ORDER", "name": "Order status", "default_data": {"order": "42"}, "schema": None}
        )
    ),
    "and is enabled": given(WHATSAPP, OPEN_CRM, DISABLE, DELETE, OPEN_CRM).when(ENABLE).then(),
}

EDITING: dict[str, Scenario] = {
    "an edit says only what changed": given(WHATSAPP, OPEN_CRM)
    .when(_edit(name="Customers", api_request_url=URL, remarks=""))
    .then(_edited(name="Customers"), deletes=()),
    "null clears the remarks": given(WHATSAPP, OPEN_CRM, _edit(remarks="old"))
    .when(_edit(remarks=None))
    .then(_edited(remarks="")),
    "null remarks where there are none change nothing": given(WHATSAPP, OPEN_CRM).when(_edit(remarks=None)).then(),
    "an edit that changes nothing appends nothing": given(WHATSAPP, OPEN_CRM).when(_edit(name="CRM")).then(),
    "an edit of nothing appends nothing": given(WHATSAPP, OPEN_CRM).when(_edit()).then(),
    "what is not open cannot be edited": given(WHATSAPP)
    .when(_edit(name="Customers"))
    .then(BusinessSystemUnknown(system="crm")),
    "a draft is not open": given(WHATSAPP, draft())
    .when(_edit(name="Customers"))
    .then(BusinessSystemUnknown(system="crm")),
    **{
        f"a name that looks like another system's is taken: {name!a}": given(
            WHATSAPP, OPEN_CRM, OPEN_ERP.model_copy(update={"name": taken})
        )
        .when(_edit(name=name))
        .then(BusinessSystemNameTaken(name=normalize("NFC", name).strip(), system="erp"))
        for name, taken in (
            ("Bu\u0308ro", "B\u00fcro"),
            (" ERP ", "ERP"),
            ("Our\u00a0ERP", "Our ERP"),
            ("E\u200dRP", "ERP"),
            ("\u2764\ufe0f", "\u2764"),
        )
    },
    "another system's name is taken": given(WHATSAPP, OPEN_CRM, OPEN_ERP)
    .when(_edit(name="ERP"))
    .then(BusinessSystemNameTaken(name="ERP", system="erp")),
    "a private address is refused": given(WHATSAPP, OPEN_CRM)
    .when(_edit(api_request_url="https://10.0.0.1/"))
    .then(ApiRequestUrlRefused(reason=TARGET_REFUSED)),
    "another URL keeps the signature": given(WHATSAPP, OPEN_CRM)
    .when(_edit(api_request_url=OTHER_ORIGIN))
    .then(_edited(api_request_url=OTHER_ORIGIN), deletes=()),
    "another style draws a new signature and revokes the old one": given(WHATSAPP, OPEN_CRM, Later(5))
    .when(_edit(signature_style="plain-token"))
    .then(_edited(signature_style="plain-token"), refreshed(2, ("key-1", at(5))), deletes=(("crm", "key-1"),)),
    "it revokes one in its grace period too": given(WHATSAPP, OPEN_CRM, RefreshSignature(system="crm"), Later(5))
    .when(_edit(signature_style="plain-token"))
    .then(
        _edited(signature_style="plain-token"),
        refreshed(3, ("key-2", at(5)), ("key-1", at(5))),
        deletes=(("crm", "key-2"), ("crm", "key-1")),
    ),
    "null puts the style back, which is a change of style": given(WHATSAPP, OPEN_PLAIN)
    .when(_edit(signature_style=None))
    .then(_edited(signature_style="standard-webhooks"), refreshed(2, ("key-1", at())), deletes=(("crm", "key-1"),)),
    "null where the style is the default changes nothing": given(WHATSAPP, OPEN_CRM)
    .when(_edit(signature_style=None))
    .then(),
    "a plain-style system's other origin draws a new signature": given(WHATSAPP, OPEN_PLAIN)
    .when(_edit(api_request_url=OTHER_ORIGIN))
    .then(_edited(api_request_url=OTHER_ORIGIN), refreshed(2, ("key-1", at())), deletes=(("crm", "key-1"),)),
    "a plain-style system's other path does not": given(WHATSAPP, OPEN_PLAIN)
    .when(_edit(api_request_url="https://crm.example/other"))
    .then(_edited(api_request_url="https://crm.example/other"), deletes=()),
}

SWITCHING: dict[str, Scenario] = {
    "a system is disabled": given(WHATSAPP, OPEN_CRM)
    .when(DisableBusinessSystem(system="crm", reason="it answers nothing"))
    .then(BusinessSystemDisabled(system="crm", reason="it answers nothing")),
    "disabled again appends nothing": given(WHATSAPP, OPEN_CRM, DISABLE).when(DISABLE).then(),
    "it is enabled": given(WHATSAPP, OPEN_CRM, DISABLE)
    .when(ENABLE)
    .then(BusinessSystemEnabled(system="crm", reason=None)),
    "enabled again appends nothing": given(WHATSAPP, OPEN_CRM).when(ENABLE).then(),
    "and disabled once more": given(WHATSAPP, OPEN_CRM, DISABLE, ENABLE).when(DISABLE).then(DISABLED),
    "what is not open cannot be disabled": given(WHATSAPP).when(DISABLE).then(BusinessSystemUnknown(system="crm")),
    "what is not open cannot be enabled": given(WHATSAPP).when(ENABLE).then(BusinessSystemUnknown(system="crm")),
}

DELETING: dict[str, Scenario] = {
    "a system is deleted with its signatures": given(WHATSAPP, OPEN_CRM, RefreshSignature(system="crm"))
    .when(DELETE)
    .then(BusinessSystemDeleted(system="crm"), deletes=(("crm", "key-2"), ("crm", "key-1"))),
    "one event deletes its intents too": given(WHATSAPP, OPEN_CRM, ADD_ORDER)
    .when(DELETE)
    .then(BusinessSystemDeleted(system="crm")),
    "while templates refer to its intents it is not, and they are named": given(WHATSAPP, OPEN_CRM, ADD_ORDER, REFER)
    .when(DELETE)
    .then(BusinessSystemInUse(system="crm", templates=["welcome"])),
    "of very many, the first hundred are named, and the others counted": given(
        WHATSAPP, OPEN_CRM, ADD_ORDER, *(REFER.model_copy(update={"template": f"t{at:03}"}) for at in range(103))
    )
    .when(DELETE)
    .then(BusinessSystemInUse(system="crm", templates=[f"t{at:03}" for at in range(100)], more=3)),
    "unless it is forced": given(WHATSAPP, OPEN_CRM, ADD_ORDER, REFER)
    .when(DeleteBusinessSystem(system="crm", force=True))
    .then(BusinessSystemDeleted(system="crm")),
    "released, it can be deleted": given(
        WHATSAPP, OPEN_CRM, ADD_ORDER, REFER, ReleaseIntent(system="crm", code="ORDER", template="welcome")
    )
    .when(DELETE)
    .then(BusinessSystemDeleted(system="crm")),
    "what is not open is not deleted": given(WHATSAPP).when(DELETE).then(BusinessSystemUnknown(system="crm")),
    "what is deleted is not deleted again": given(WHATSAPP, OPEN_CRM, DELETE)
    .when(DELETE)
    .then(BusinessSystemUnknown(system="crm")),
    "a draft is not open, and not deleted": given(WHATSAPP, draft())
    .when(DELETE)
    .then(BusinessSystemUnknown(system="crm")),
}

SCENARIOS: dict[str, Scenario] = {**OPENING, **EDITING, **SWITCHING, **DELETING}


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))
def test_business_system(scenario: Scenario) -> None:
    scenario.check()
