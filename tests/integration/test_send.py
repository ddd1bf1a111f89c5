"""`switchboard send` on a running Switchboard: signatures that it shows, and data from a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from contracts.sealing import plain_token_of
from tests.commands import OPEN, REGISTER, command, happen
from tests.installation import Installation, fresh


async def test_a_signature_is_shown(installation: Installation, tmp_path: Path) -> None:
    account, channel = fresh("acct"), fresh("ch")
    async with installation.publisher(account) as publisher:
        await happen(publisher, channel, account, REGISTER, OPEN)
    file = tmp_path / "data.json"
    file.write_text(json.dumps({"system": "crm", "force": True}))
    of_channel = ("--channel", channel, "--account", account)
    refresh = ("send", "RefreshSignature", "--data", f"@{file}", *of_channel, "--reveal")
    reveal = ("send", "RevealSignature", "--data", '{"system": "crm"}', *of_channel, "--reveal")

    issued = await command(installation, *refresh)
    revealed = await command(installation, *reveal)
    untouched = await command(installation, *refresh, "--dry-run")

    assert issued.code == revealed.code == untouched.code == 0
    signature = issued.json["signature"]
    assert signature.startswith("whsec_")
    assert issued.json["plain_token"] == plain_token_of(signature)
    assert "sealed" not in issued.json
    assert (revealed.json["signature"], revealed.json["key_id"]) == (signature, issued.json["key_id"])
    assert "signature" not in untouched.json
    assert signature not in installation.output()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("ToggleSms", "--data", '{"enabled": true}'), "--reveal is for RefreshSignature and RevealSignature"),
        (("RevealSignature", "--data", '{"system": "crm", "seal_to": "x"}'), "leave yours out"),
        (("RevealSignature", "--command-id", "c-1"), "leave out --command-id"),
    ],
)
async def test_what_shows_no_signature(installation: Installation, words: tuple[str, ...], sentence: str) -> None:
    said = await command(installation, "send", *words, "--channel", "ch", "--account", "acme", "--reveal")

    assert (said.code, sentence in said.err) == (2, True), said
