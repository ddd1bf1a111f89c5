"""The oracle's rules of two people: the decider's own logs keep them, and a log that does not is objected to."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from tests.damages.log import made_up_log
from tests.oracle.four_eyes import FourEyes
from tests.oracle.log import Record


def _channels(seed: int) -> list[list[Record]]:
    found: dict[bytes | None, list[Record]] = {}
    for one in made_up_log(random.Random(seed)).records:  # noqa: S311 -- repeatable, not secret
        value = one.value or b""
        record = Record(one.partition, one.offset, (one.key or b"").decode(), value, json.loads(value))
        found.setdefault(one.key, []).append(record)
    return list(found.values())


LOGS = [records for seed in range(80) for records in _channels(seed)]


def test_the_deciders_own_logs_keep_them() -> None:
    folded = [FourEyes(records) for records in LOGS]
    assert [one.broken for one in folded if one.broken] == []
    became = {change["status"] for one in folded for change in one.changes.values()}
    assert became == {"proposed", "approved", "applied", "declined", "voided"}


@pytest.mark.parametrize(
    ("kind", "changed", "objection"),
    [
        ("ChangeVoided", None, "overtakes"),
        ("ChangeVoided", {"data": {"change": "c-0", "reason": ""}}, ""),
        ("ChangeApproved", {"data": {"approved_by": "anna"}, "actor": "anna"}, "by its author"),
        ("ChangeApproved", {"data": {"digest": "0" * 64}}, "as another command or version"),
        ("ChangeApproved", {"actor": "carl"}, "or by another"),
        ("ChangeApplied", {"commandtype": "SaveOtpScheduling"}, "is carried out by SaveOtpScheduling"),
        ("ChangeApplied", {"commandtype": "SaveOtpScheduling"}, "without a second person"),
        ("ChangeApplied", {"time": "2020-01-01T00:00:00.000Z"}, "at 2020-01-01"),
        ("ChangeProposed", {"data": {"before": {"otp-scheduling": {"enabled": True}}}}, "is told as"),
        ("OtpSchedulingSaved", {"data": {"countries": ["US"]}}, "is told as"),
        ("OtpSchedulingSaved", {"resource": "sms"}, "by other events than its own"),
    ],
)
def test_a_log_that_breaks_them_is_objected_to(kind: str, changed: dict[str, Any] | None, objection: str) -> None:
    found = [one for records in LOGS for one in _objections(records, kind, changed)]
    assert any(objection in one for one in found), found[:5]


def _objections(records: list[Record], kind: str, changed: dict[str, Any] | None) -> list[str]:
    """After each event of the kind was changed, and those of its command where that is what was changed."""
    broken = []
    for at, record in enumerate(records):
        if record.json["type"] != kind:
            continue
        edited = list(records)
        if changed is None:
            del edited[at]
        else:
            data = {**record.json["data"], **changed.get("data", {})}
            edited[at] = record._replace(json={**record.json, **changed, "data": data})
            for other, one in enumerate(records):
                if "commandtype" in changed and one.json["causationid"] == record.json["causationid"]:
                    edited[other] = one._replace(json={**one.json, "commandtype": changed["commandtype"]})
        try:
            broken += FourEyes(edited).broken
        except KeyError:  # it does not fold any more, which is an objection too
            broken.append("")
    return broken
