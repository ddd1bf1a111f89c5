"""What the sender may not expect of a command is said in its outcome: once accepted, repeated, and in a dry run."""

from __future__ import annotations

from contracts.otp_scheduling import SaveOtpScheduling
from contracts.outcome import CommandAccepted
from tests.unit.decider.partition import Partition, envelope

FORM = SaveOtpScheduling(enabled=True, countries=["IM", "IN"], use_own_numbers=False)
NOTICES = ("Mobile numbers of IM may count as GB: choose GB too, if they are meant.",)


def test_an_outcome_has_the_notices_of_its_decision(partition: Partition) -> None:
    dry, saved, repeated = partition.run(
        envelope(FORM, "dry", dryrun=True), envelope(FORM, "c-2"), envelope(FORM, "c-2")
    )
    for outcome in (dry, saved, repeated):
        assert CommandAccepted.model_validate(outcome["data"]).notices == NOTICES
    assert repeated["data"] == saved["data"]
    assert [one["type"] for one in dry["data"]["would_append"]] == ["OtpSchedulingSaved"]


def test_an_outcome_without_notices_does_not_mention_them(partition: Partition) -> None:
    [saved] = partition.run(envelope(FORM.model_copy(update={"countries": ["IN"]}), "c-1"))
    assert set(saved["data"]) == {"version", "events"}
