"""State records outlive the release that wrote them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from services.domain.state import Channel
from services.domain.state_codec import CHANNEL, RecordFormat, RecordTooNew

FIRST_EVER = (
    b'{"v":1,"account":"acme","channel_type":"whatsapp","name":"Shop","provider":null,"retired":false,"version":4,'
    b'"head":"c0ffee","time":1795334400000,"channel_changed":1,"sms_enabled":true,"sms_changed":4,"otp_scheduling":'
    b'{"enabled":false,"countries":[],"use_own_numbers":false},"otp_scheduling_changed":0,"systems":{"crm":"CRM"},'
    b'"drafts":[],"signatures_drawn":1,"closed":{"versions":{},"floor":0}}'
)
"""As the first release wrote it. Never to be edited: partitions hold such records until their channels change."""


def test_the_first_format_is_read_for_ever() -> None:
    channel = CHANNEL.decode(FIRST_EVER)
    assert (channel.name, channel.version, channel.sms_enabled, channel.systems) == ("Shop", 4, True, {"crm": "CRM"})


def test_a_record_is_read_as_it_was_written() -> None:
    channel = CHANNEL.decode(FIRST_EVER)
    assert CHANNEL.decode(CHANNEL.encode(channel)) == channel


def test_what_is_at_its_default_takes_no_room() -> None:
    """A million channels fit because of this; `FIRST_EVER` spells them out."""
    channel = CHANNEL.decode(FIRST_EVER)
    written = json.loads(CHANNEL.encode(channel))
    assert {"provider", "retired", "otp_scheduling", "otp_scheduling_changed", "drafts", "closed"}.isdisjoint(written)
    assert {"v", "account", "name", "sms_enabled", "sms_changed", "systems"} <= written.keys()


def test_a_field_that_an_older_release_did_not_know_has_its_default() -> None:
    older = FIRST_EVER.replace(b',"closed":{"versions":{},"floor":0}', b"")
    assert CHANNEL.decode(older) == CHANNEL.decode(FIRST_EVER)


def _renamed(record: dict[str, Any]) -> dict[str, Any]:
    return {**record, "name": record["name"].upper()}


def _numbered(record: dict[str, Any]) -> dict[str, Any]:
    return {**record, "name": record["name"] + "2"}


def test_an_old_record_takes_every_step_to_the_present_format() -> None:
    third = RecordFormat(TypeAdapter(Channel), (_renamed, _numbered))
    channel = third.decode(FIRST_EVER)
    assert channel.name == "SHOP2"
    assert third.encode(channel).startswith(b'{"v":3,')
    assert third.decode(FIRST_EVER.replace(b'"v":1', b'"v":2')).name == "Shop2"
    assert third.decode(third.encode(channel)) == channel


def test_a_record_of_a_newer_release_is_refused() -> None:
    with pytest.raises(RecordTooNew, match="format 2"):
        CHANNEL.decode(FIRST_EVER.replace(b'"v":1', b'"v":2'))


@pytest.mark.parametrize("value", [b"", b"\xff", b"{}", b"[]", b"null", b'{"v":0}', b'{"v":"x"}', b'{"v":1}'])
def test_what_is_no_record_is_refused(value: bytes) -> None:
    with pytest.raises(ValidationError):
        CHANNEL.decode(value)
