"""The media type of data: JSON in UTF-8, however that is spelled."""

from __future__ import annotations

import json

import pytest

from contracts.envelope import InvalidEnvelope, read_command

GOOD = {
    "specversion": "1.0",
    "id": "c-1",
    "type": "ToggleSms",
    "source": "my-service",
    "subject": "ch-1",
    "accountid": "acme",
    "data": {"enabled": True},
}


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        'Application/JSON;charset="UTF-8"',
        "application/json ;a=1",
    ],
)
def test_json_in_utf_8(media_type: str) -> None:
    command = read_command(json.dumps(GOOD | {"datacontenttype": media_type}).encode())
    assert command.datacontenttype == media_type


@pytest.mark.parametrize(
    "media_type", ["application/xml", "application/json; charset=latin-1", "application/json charset", "", "json;"]
)
def test_another_one_is_refused(media_type: str) -> None:
    with pytest.raises(InvalidEnvelope, match="'datacontenttype' is wrong: it must be application/json"):
        read_command(json.dumps(GOOD | {"datacontenttype": media_type}).encode())
