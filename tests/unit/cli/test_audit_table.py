"""The audit log as a table: whole in 80 columns, and harmless."""

from __future__ import annotations

import pytest

from services.audit.log.source import LogPosition
from services.audit.timeline.audit_log import AuditEntry
from services.cli.audit_table import print_table

ENTRY = AuditEntry(
    position=LogPosition("switchboard.events", 11, 1_234_567),
    id="event-1",
    time="2026-11-22T08:00:00.000Z",
    time_ms=0,
    account="acme",
    channel="whatsapp-production-europe-west-1",
    type="IntentEdited",
    command="EditIntent",
    command_id="command-1",
    actor=":warning: [red]eve[/red] \x1b[31m",
    source="console",
    version=7,
    resource="business-systems/crm/intents/ORDER_STATUS",
    before={"business-systems/crm/intents/ORDER_STATUS/name": "a" * 200},
    after={"business-systems/crm/intents/ORDER_STATUS/name": "Order status"},
)


@pytest.mark.parametrize("columns", [80, 120])
def test_all_of_an_entry_can_be_read(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    print_table([ENTRY])
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= columns
    assert "\x1b" not in shown
    for part in (
        "2026-11-22 08:00:00.000",
        "events/11/1234567",
        "IntentEdited, by",
        ":warning:",
        "[red]eve[/red]",
        "�[31m",
        "whatsapp-production-europe-west-1 of acme",
        "version 7",
        "business-systems/crm/intents/ORDER_STATUS",
        '→ "Order status"',
    ):
        assert part in shown, (part, shown)


def test_a_form_is_told_field_by_field(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    off = {"enabled": False, "countries": ["ID"], "use_own_numbers": False}
    before, after = {"otp-scheduling": off}, {"otp-scheduling": off | {"countries": ["ID", "NO"]}}
    entry = AuditEntry(**{name: getattr(ENTRY, name) for name in AuditEntry.__slots__} | {
        "resource": "otp-scheduling", "before": before, "after": after
    })  # fmt: skip
    print_table([entry])
    shown = capsys.readouterr().out
    assert 'countries: ["ID"] → ["ID", "NO"]' in shown
    assert "use_own_numbers" not in shown
