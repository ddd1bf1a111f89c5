"""`switchboard changes` on a running Switchboard: two people at the command line."""

from __future__ import annotations

import asyncio
import json

from contracts.approvals import SaveApprovals
from tests.commands import REGISTER, Said, command, happen
from tests.installation import Installation, fresh

FORM = {"enabled": True, "countries": ["ID"], "use_own_numbers": False}


async def test_a_change_from_its_proposal_to_its_end(installation: Installation) -> None:
    account, channel = fresh("acct"), fresh("ch")
    of_channel = ("--channel", channel, "--account", account)
    async with installation.publisher(account) as publisher:
        await happen(publisher, channel, account, REGISTER, SaveApprovals(required_for=["otp-scheduling"]))

    async def changes(*words: str, actor: str) -> Said:
        return await command(installation, "changes", *words, *of_channel, "--actor", actor)

    form = ("SaveOtpScheduling", "--data", json.dumps(FORM))
    direct = await command(installation, "send", *form, *of_channel, "--actor", "anna")
    assert (direct.code, direct.json["rejection"]) == (1, "ApprovalRequired")

    assert (await changes("propose", "c-1", *form, "--comment", "for Jakarta", actor="anna")).code == 0
    second = await changes("propose", "c-2", *form, "--replaces", "c-1", "--at", "2096-01-01T00:00:00Z", actor="anna")
    assert second.code == 0
    own = await changes("approve", "c-2", actor="anna")
    assert (own.code, own.json["rejection"]) == (1, "AuthorCannotApprove")
    approved = await changes("approve", "c-2", "--comment", "go", actor="bert")
    assert (approved.code, len(approved.json["events"])) == (0, 1)

    async def listed(*options: str) -> list[tuple[str, str, str | None]]:
        said = await command(installation, "changes", "list", *of_channel, *options)
        return [(one["change"], one["status"], one.get("approved_by")) for one in said.lines]

    async with asyncio.timeout(30):
        while await listed("--open") != [("c-2", "approved", "bert")]:  # noqa: ASYNC110 -- the read model catches up
            await asyncio.sleep(0.2)
    assert await listed() == [("c-2", "approved", "bert"), ("c-1", "voided", None)]

    assert (await changes("decline", "c-2", actor="bert")).code == 0
    again = await changes("decline", "c-2", actor="bert")
    assert (again.code, again.json["state"]) == (1, "declined")


async def test_what_cannot_be_sent_is_a_line_and_exit_code_2(installation: Installation) -> None:
    at = ("--channel", "ch-1", "--account", "acme")
    for words in (("propose", "c-1", "RetireChannel", "--data", "{", *at), ("list", "--channel", "a b")):
        said = await command(installation, "changes", *words)
        assert (said.code, said.err.count("\n")) == (2, 1), said
