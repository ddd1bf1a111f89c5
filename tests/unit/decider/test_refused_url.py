"""A URL that leads inside: the account gets one sentence, the operator's log has the reason."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from contracts.business_system import OpenBusinessSystem
from contracts.channel import RegisterChannel
from services.domain.url_policy import TARGET_REFUSED, Allowlist
from tests.unit.decider.partition import Partition, envelope, rejection_of

REGISTER = RegisterChannel(channel_type="whatsapp", name="Shop", enterprise_authenticated=True)


@pytest.mark.parametrize("target", ["10.0.0.7:5432", "10.0.0.8", "db.internal"])
def test_the_reason_is_in_the_log_alone(target: str) -> None:
    partition = Partition(allowlist=Allowlist.parse((), never=["10.0.0.7:5432"]))
    opened = OpenBusinessSystem(system="crm", name="CRM", api_request_url=f"https://{target}/hook?token=secret")

    with capture_logs() as lines:
        [_, outcome] = partition.run(envelope(REGISTER, "c1"), envelope(opened, "c2"))

    assert rejection_of(outcome) == "ApiRequestUrlRefused"
    assert outcome["data"]["reason"] == TARGET_REFUSED
    [line] = [line for line in lines if line["event"] == "URL refused"]
    assert target.partition(":")[0] in line["detail"]
    assert "secret" not in str(line)


def test_the_decider_knows_what_is_allowed_to_one_account() -> None:
    inside = OpenBusinessSystem(system="crm", name="CRM", api_request_url="https://10.0.0.8/hook")
    outcomes = {}
    for account in ("acme", "bolt"):
        partition = Partition(allowlist=Allowlist.parse([f"{account}@10.0.0.0/8:443"]))
        [_, outcomes[account]] = partition.run(envelope(REGISTER, "c1"), envelope(inside, "c2"))

    assert outcomes["acme"]["type"] == "CommandAccepted"
    assert rejection_of(outcomes["bolt"]) == "ApiRequestUrlRefused"
