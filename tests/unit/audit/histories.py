"""Random histories of two channels, and what all tests of them share."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

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
from contracts.sealing import SealKey
from contracts.signature import RefreshSignature, RevealSignature, RevokeSignature
from contracts.sms import ToggleSms
from contracts.spend_guard import SaveSpendGuard
from services.audit.settings_files.plan import Permission
from tests.audit import MadeUpLog

CHANNELS = ("ch-1", "ch-8")
REGISTER = RegisterChannel(channel_type="whatsapp", name="Shop", enterprise_authenticated=True)
PERMISSION = Permission(force=True, international_rates_acknowledged=True)

systems = st.sampled_from(["crm", "erp"])
codes = st.sampled_from(["A", "B"])
names = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=8)
documents = st.dictionaries(
    st.text(max_size=3), st.none() | st.booleans() | st.integers() | st.text(max_size=3), max_size=2
)
rate_dates = st.dictionaries(st.sampled_from(["IN", "BD"]), st.just("2026-10-01"), max_size=2)
commands: st.SearchStrategy[CommandData] = st.one_of(
    st.builds(ToggleSms, enabled=st.booleans()),
    st.builds(EditChannel, name=names, provider=st.none() | st.just("prov")),
    st.builds(EditChannel, home_country=st.none() | st.just("AE"), international_rates_from=st.none() | rate_dates),
    st.builds(OpenBusinessSystem, system=systems, name=names, api_request_url=st.just("https://a.example/x")),
    st.builds(EditBusinessSystem, system=systems, name=names, remarks=names),
    st.builds(
        EditBusinessSystem, system=systems, signature_style=st.sampled_from(["plain-token", "standard-webhooks"])
    ),
    st.builds(DeleteBusinessSystem, system=systems, force=st.booleans()),
    st.builds(DisableBusinessSystem, system=systems),
    st.builds(EnableBusinessSystem, system=systems),
    st.builds(RefreshSignature, system=systems, grace_seconds=st.sampled_from([0, 3]), force=st.booleans()),
    st.builds(RefreshSignature, system=systems, api_request_url=st.just("https://a.example/y")),
    st.builds(RevokeSignature, system=systems, key_id=st.sampled_from(["key-1", "key-2", "key-3"])),
    st.builds(RevealSignature, system=systems, seal_to=st.just(SealKey(bytes(32)).seal_to)),
    st.builds(AddIntent, system=systems, code=codes, name=names, default_data=documents),
    st.builds(EditIntent, system=systems, code=codes, name=names, default_data=documents),
    st.builds(DeleteIntent, system=systems, code=codes, force=st.booleans()),
    st.builds(ReferToIntent, system=systems, code=codes, template=st.just("t")),
    st.builds(ReleaseIntent, system=systems, code=codes, template=st.just("t")),
    st.builds(
        SaveOtpScheduling,
        enabled=st.booleans(),
        countries=st.lists(st.sampled_from(["NO", "ID", "IN"]), max_size=3),
        use_own_numbers=st.booleans(),
        international_rates_acknowledged=st.sampled_from([True]),
    ),
    st.builds(
        SaveSpendGuard,
        mode=st.sampled_from(["off", "enforce"]),
        daily_messages_per_country=st.none() | st.integers(0, 2),
    ),
)
steps = st.lists(st.tuples(st.sampled_from(CHANNELS), commands, st.integers(0, 2_000)), max_size=25)


def history(taken: list[tuple[str, CommandData, int]], *, retired: bool = False) -> MadeUpLog:
    log = MadeUpLog()
    for channel in CHANNELS:
        log.send(channel, REGISTER)
        log.now += 10
    for channel, command, wait in taken:
        log.send(channel, command)
        log.now += wait
    if retired:
        log.send(CHANNELS[0], RetireChannel())
        log.now += 10
    return log


def settable(leaves: dict[Any, Any]) -> dict[Any, Any]:
    return {path: value for path, value in leaves.items() if path[-1] != "signatures"}
