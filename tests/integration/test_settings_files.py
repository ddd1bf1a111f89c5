"""Settings as YAML files, exported and applied by the command line."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import yaml

from contracts.intent import ReferToIntent
from contracts.otp_scheduling import SaveOtpScheduling
from contracts.sms import ToggleSms
from tests.commands import FORM, INTENT, OPEN, REGISTER, command, happen, process
from tests.installation import Installation, fresh


def applied(text: str, **changes: Any) -> str:
    """The file with some of its top-level entries replaced."""
    return yaml.safe_dump(yaml.safe_load(text) | changes, sort_keys=False)


async def test_settings_as_a_file(installation: Installation, tmp_path: Path) -> None:
    channel, other, account = fresh("audit"), fresh("audit"), fresh("acct")
    file = tmp_path / "settings.yaml"
    async with installation.publisher(account) as publisher:
        refer = ReferToIntent(system="crm", code="ORDER", template="t-1")
        await happen(publisher, channel, account, REGISTER, OPEN, INTENT, refer, ToggleSms(enabled=True), FORM)
        await happen(publisher, other, account, REGISTER)
        assert (await command(installation, "settings", "export", "--channel", channel, "--out", file)).code == 0
        same = await command(installation, "settings", "apply", file, "--yes")
        assert (same.code, "Nothing differs." in same.out) == (0, True)

        # Onto a fresh channel it gives the same settings; a second time it sends nothing.
        dry = await command(installation, "settings", "apply", file, "--channel", other, "--dry-run")
        assert "would send OpenBusinessSystem" in dry.out
        first = await command(installation, "settings", "apply", file, "--channel", other, "--yes")
        assert (first.code, first.out.count("accepted, version")) == (0, 5), first.out
        second = await command(installation, "settings", "apply", file, "--channel", other, "--yes")
        assert (second.code, "Nothing differs." in second.out) == (0, True)
        one, two = [
            (await command(installation, "audit", "at", "now", "--channel", name)).json["settings"]
            for name in (channel, other)
        ]
        for settings in (one, two):
            del settings["channel"], settings["version"], settings["business_systems"][0]["signatures"]
        assert one == two

        # An edited file is applied to its own channel, and then says the version that it shows.
        file.write_text(applied(file.read_text(), sms={"enabled": False}, name="Store"))
        done = await command(installation, "settings", "apply", file, "--yes")
        assert (done.code, f"{file} now has version 9" in done.out) == (0, True), done.out
        assert yaml.safe_load(file.read_text())["version"] == 9

        # Somebody changes what the file shows: it is refused, with both versions.
        await happen(publisher, channel, account, ToggleSms(enabled=True))
        stale = await command(installation, "settings", "apply", file, "--yes")
        assert stale.code == 1
        assert f"shows version 9 of '{channel}', which is at version 10 now, and sms/enabled changed" in stale.out
        over = await command(installation, "settings", "apply", file, "--overwrite", "--dry-run")
        assert (over.code, "would send ToggleSms" in over.out) == (0, True)


async def test_a_change_while_a_person_thinks(installation: Installation, tmp_path: Path) -> None:
    channel, account = fresh("audit"), fresh("acct")
    file = tmp_path / "settings.yaml"
    async with installation.publisher(account) as publisher:
        await happen(publisher, channel, account, REGISTER, FORM)
        await command(installation, "settings", "export", "--channel", channel, "--out", file)
        form = {"enabled": True, "countries": ["NO"], "use_own_numbers": False}
        file.write_text(applied(file.read_text(), otp_scheduling=form))
        with process(installation, "settings", "apply", file) as applying:
            assert applying.stdin is not None
            assert applying.stdout is not None
            shown = ""
            while "[y/N]" not in shown:
                shown += await asyncio.to_thread(applying.stdout.read, 1)
            other = SaveOtpScheduling(enabled=False, countries=["IN"], use_own_numbers=False)
            await happen(publisher, channel, account, other)
            out, _ = await asyncio.to_thread(applying.communicate, "y\n", 50)
    assert applying.returncode == 1
    assert "OTP delivery scheduling would lose ID." in shown
    assert "SaveOtpScheduling was refused (VersionConflict)" in out
    assert "Seen was version 2; the channel is at version 3 now." in out


async def test_a_change_of_another_section_is_not_reverted_by_the_next_apply(
    installation: Installation, tmp_path: Path
) -> None:
    """The file does not show that change, so its version stays before it; its line ends stay too."""
    channel, account = fresh("audit"), fresh("acct")
    file = tmp_path / "settings.yaml"
    async with installation.publisher(account) as publisher:
        await happen(publisher, channel, account, REGISTER, FORM)
        await command(installation, "settings", "export", "--channel", channel, "--out", file)
        text = applied(file.read_text(), sms={"enabled": True}).replace("\n", "\r\n")
        file.write_bytes(text.encode())
        with process(installation, "settings", "apply", file) as applying:
            assert applying.stdin is not None
            assert applying.stdout is not None
            shown = ""
            while "[y/N]" not in shown:
                shown += await asyncio.to_thread(applying.stdout.read, 1)
            await happen(
                publisher, channel, account, SaveOtpScheduling(enabled=False, countries=["IN"], use_own_numbers=False)
            )
            out, _ = await asyncio.to_thread(applying.communicate, "y\n", 50)
    assert applying.returncode == 0
    assert "keeps its version, as somebody changed the channel in between" in out
    assert file.read_bytes() == text.encode()
    stale = await command(installation, "settings", "apply", file, "--yes")
    assert (stale.code, "changed in between" in stale.out) == (1, True), stale


async def test_a_dry_run_asks_about_addresses(installation: Installation, tmp_path: Path) -> None:
    channel, account = fresh("audit"), fresh("acct")
    file = tmp_path / "settings.yaml"
    file.write_text("business_systems: {crm: {name: CRM, api_request_url: https://10.1.2.3/x}}\n")
    async with installation.publisher(account) as publisher:
        await happen(publisher, channel, account, REGISTER)
    dry = await command(installation, "settings", "apply", file, "--channel", channel, "--dry-run")
    assert (dry.code, "OpenBusinessSystem was refused (ApiRequestUrlRefused)" in dry.out) == (1, True), dry


async def test_onto_all_channels_of_a_provider(installation: Installation, tmp_path: Path) -> None:
    provider, account = fresh("prov"), fresh("acct")
    channels = [fresh("audit") for _ in range(3)]
    file = tmp_path / "settings.yaml"
    file.write_text("format: 1\nsms: {enabled: true}\n")
    async with installation.publisher(account) as publisher:
        register = REGISTER.model_copy(update={"provider": provider})
        for channel in channels[:2]:
            await happen(publisher, channel, account, register)
        await happen(publisher, channels[0], account, ToggleSms(enabled=True))
        await happen(publisher, channels[2], account, REGISTER)
    done = await command(installation, "settings", "apply", file, "--provider", provider, "--yes")
    assert (done.code, f"1 of 2 channels differ: {channels[1]}" in done.out) == (0, True), done.out
    assert done.out.count("accepted, version") == 1
    again = await command(installation, "settings", "apply", file, "--provider", provider, "--yes")
    assert (again.code, "0 of 2 channels differ" in again.out) == (0, True)


async def test_an_address_that_would_be_refused_stops_everything(installation: Installation, tmp_path: Path) -> None:
    """Nothing is deleted for a system that then cannot be opened: the decider is asked beforehand, by a dry run."""
    channel, account = fresh("audit"), fresh("acct")
    file = tmp_path / "settings.yaml"
    async with installation.publisher(account) as publisher:
        await happen(publisher, channel, account, REGISTER, OPEN)
    await command(installation, "settings", "export", "--channel", channel, "--out", file)
    text = file.read_text().replace("  crm:", "  erp:").replace("https://crm.example", "https://10.0.0.1")
    file.write_text(text)
    done = await command(installation, "settings", "apply", file, "--yes")
    assert "Would delete the secret of key-1 of business system 'crm' for good." in done.out
    assert (done.code, "OpenBusinessSystem was refused (ApiRequestUrlRefused)" in done.out) == (1, True), done.out
    assert "Accepted before it: 0 commands." in done.out
    now = (await command(installation, "audit", "at", "now", "--channel", channel)).json["settings"]
    assert (now["version"], [one["system"] for one in now["business_systems"]]) == (3, ["crm"])
