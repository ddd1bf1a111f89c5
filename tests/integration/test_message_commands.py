"""`switchboard messages`, `resources` and `usage` on a running Switchboard."""

from __future__ import annotations

import csv
import json
import subprocess
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.commands import run_here
from tests.installation import Installation, fresh, run_apart
from tests.messages import SENDER, SINGAPOREAN, scheduled_channel

Switchboard = Callable[..., subprocess.CompletedProcess[str]]
ROUTE = ("messages", "route", "--recipient", SINGAPOREAN, "--category", "authentication")


@pytest.fixture(scope="module")
def account() -> str:
    return fresh("acct")


@pytest.fixture(scope="module")
def channel(installation: Installation, account: str) -> str:
    return run_apart(scheduled_channel(installation, account))[0]


@pytest.fixture
def switchboard(installation: Installation, account: str) -> Switchboard:
    return partial(run_here, installation.environment | {"SWITCHBOARD_ACCOUNT": account})


def _until(reads: Callable[[], Any], holds: Callable[[Any], bool]) -> Any:
    deadline = time.monotonic() + 60
    while not holds(found := reads()):
        assert time.monotonic() < deadline, found
    return found


def test_a_message_from_its_resource_to_its_charge(switchboard: Switchboard, channel: str, account: str) -> None:
    resource, at = fresh("pool"), ("--channel", channel)
    reported = switchboard("resources", "report", resource, "--country", "SG", "--sender", SENDER, "--units", "5")
    assert reported.returncode == 0, reported.stderr

    def resources() -> dict[str, Any]:
        lines = switchboard("resources", "list").stdout.splitlines()
        return {one["resource"]: one for one in map(json.loads, lines)}

    assert _until(resources, lambda found: resource in found)[resource]["available"] == 5
    dry = switchboard(*ROUTE, *at, "--message", "m1", "--dry-run")
    real = switchboard(*ROUTE[:2], *ROUTE[4:], "--recipient", "-", *at, "--message", "m1", text=f"{SINGAPOREAN}\n")
    decided = json.loads(real.stdout)
    assert (dry.returncode, real.returncode) == (0, 0), dry.stderr + real.stderr
    assert (decided["route"], decided["sender"]) == ("scheduled", SENDER)
    assert json.loads(dry.stdout)["sentence"] == decided["sentence"]

    status = switchboard("messages", "status", "m1", *at, "--status", "delivered")
    assert json.loads(status.stdout)["message"] == "m1", status.stderr
    shown = _until(
        lambda: json.loads(switchboard("messages", "show", "m1", *at).stdout), lambda one: one["charge"] is not None
    )
    assert shown["reservation"]["state"] == "posted"
    listed = [json.loads(line) for line in switchboard("messages", "list", *at, "--country", "SG").stdout.splitlines()]
    assert [(one["message"], one["statuses"]) for one in listed] == [("m1", ["chat/delivered"])]
    assert SINGAPOREAN not in str(shown) + str(listed)

    [row] = [json.loads(line) for line in switchboard("usage", "report").stdout.splitlines()]
    assert (row["account"], row["channel"], row["messages"]) == (account, channel, 1)
    [in_csv] = csv.DictReader(switchboard("usage", "report", "--csv", "--limit", "1").stdout.splitlines())
    assert {name: in_csv[name] or None for name in row} == {**row, "messages": "1"}
    withdrawn = switchboard("resources", "withdraw", resource)
    assert withdrawn.returncode == 0, withdrawn.stderr
    assert _until(resources, lambda found: found[resource]["state"] == "withdrawn")


@pytest.mark.timeout(180)
def test_what_cannot_be_used_is_a_line_and_a_refusal_is_exit_code_1(switchboard: Switchboard, channel: str) -> None:
    at = ("--channel", channel)
    refused = switchboard(*ROUTE, "--channel", fresh("unknown"))
    assert (refused.returncode, json.loads(refused.stdout)["reason"]) == (1, "ChannelUnknown")
    for arguments, says in (
        (("messages", "route", "--recipient", "123", "--category", "authentication", *at), "'recipient' is wrong"),
        ((*ROUTE, *at, "--sms-on", "failed"), "--sms-on and --sms-wait need the number of the SMS: --sms-to."),
        ((*ROUTE, "--channel", fresh("unknown"), "--dry-run"), "The account has no channel"),
        (("messages", "show", "nothing", *at), "has no message 'nothing'"),
        (("messages", "list", *at, "--route", "nowhere"), "--route is 'nowhere'; it must be one of"),
        (("messages", "status", "m1", *at, "--status", "gone"), "'status' is wrong"),
        (("resources", "report", "r", "--country", "XX", "--sender", SENDER, "--units", "1"), "'country' is wrong"),
        (("usage", "report", "--from", "2026-02-01", "--to", "2026-01-01"), "--from 2026-02-01 is after --to"),
    ):
        done = switchboard(*arguments)
        assert done.returncode == 2, done.stdout
        assert done.stderr.startswith("switchboard: ")
        assert says in done.stderr
        assert len(done.stderr.splitlines()) == 1
