"""The sections that one request saves on many channels."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from contracts.approvals import ApprovalsSettings
from contracts.settings import SECTIONS, ChannelSettings
from services.gateway.routes.customers import SectionsToSave

TEMPLATE = ChannelSettings(
    channel="ch-1",
    account="acme",
    channel_type="whatsapp",
    name="Shop",
    version=1,
    approvals=ApprovalsSettings(required_for=("retire",)),
)
ASKED = {"template": "ch-1", "channels": ("ch-2",)}


def test_all_sections_are_saved_but_the_approvals_which_are_each_accounts_own() -> None:
    saved = [resource for resource, _ in SectionsToSave.model_validate(ASKED).commands(TEMPLATE)]

    assert {*saved} == {section.resource for section in SECTIONS.values()} - {ApprovalsSettings.resource}
    with pytest.raises(ValidationError):
        SectionsToSave.model_validate(ASKED | {"sections": ["approvals"]})
