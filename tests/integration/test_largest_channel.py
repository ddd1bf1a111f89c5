"""The largest legal channel, driven to every limit through Kafka: what is allowed is taken, and comes back."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest

from contracts.business_system import EditBusinessSystem, OpenBusinessSystem
from contracts.channel import RegisterChannel
from contracts.countries import ISO_3166_ALPHA_2
from contracts.intent import AddIntent, EditIntent, ReferToIntent
from contracts.kafka.publisher import Publisher
from contracts.message import CommandData
from contracts.otp_scheduling import SaveOtpScheduling
from contracts.outcome import CommandRejected
from contracts.partitioner import partition_of
from contracts.signature import RefreshSignature
from services.decider.restore import restore
from services.domain.state import BUSINESS_SYSTEM_BYTES_LIMIT
from services.domain.state_topic import system_key
from tests.installation import Installation, fresh
from tests.servers import PARTITIONS

SYSTEMS, INTENTS = 10, 200
WIDE = "𝄞"  # four bytes in UTF-8, two units in UTF-16, one character


async def _accepted(publisher: Publisher, channel: str, commands: Iterable[CommandData]) -> int:
    """Sends them all at once; returns the last version."""
    outcomes = await publisher.send_many([(channel, command) for command in commands])
    refused = [outcome.body for outcome in outcomes if isinstance(outcome.body, CommandRejected)]
    assert refused == []
    return max(outcome.body.version or 0 for outcome in outcomes)


async def _rejection(publisher: Publisher, channel: str, command: CommandData) -> str:
    outcome = await publisher.send(command, channel=channel)
    assert isinstance(outcome.body, CommandRejected), outcome
    return outcome.body.rejection


async def _until_refused(
    publisher: Publisher, channel: str, commands: Iterable[CommandData]
) -> tuple[int, CommandRejected]:
    """How many were accepted, one after the other, and the first rejection."""
    for accepted, command in enumerate(commands):
        outcome = await publisher.send(command, channel=channel)
        if isinstance(outcome.body, CommandRejected):
            return accepted, outcome.body
    raise AssertionError("nothing was refused")


def _schema(size: int) -> dict[str, object]:
    """A JSON Schema of so many bytes as compact JSON."""
    empty = len(json.dumps({"description": ""}, separators=(",", ":")))
    return {"description": "x" * (size - empty)}


def _data(size: int) -> dict[str, str]:
    return {"d": "x" * (size - len('{"d":""}'))}


def _url(path: str) -> str:
    start = f"https://crm.example/{path}/"
    return start + "u" * (512 - len(start))


@pytest.mark.timeout(180)
async def test_every_limit(installation: Installation) -> None:
    channel = fresh("largest")
    systems = [f"{number}" + "s" * 62 for number in range(SYSTEMS)]
    codes = [f"{number:03}" + "C" * 61 for number in range(INTENTS)]
    async with installation.publisher("acme") as publisher:
        await _accepted(
            publisher,
            channel,
            [RegisterChannel(channel_type="whatsapp", name=WIDE * 255, enterprise_authenticated=True)],
        )
        await _accepted(
            publisher,
            channel,
            [
                OpenBusinessSystem(
                    system=system,
                    name=f"{number}{WIDE * 254}",
                    api_request_url=_url(str(number)),
                    remarks=WIDE * 1024,
                )
                for number, system in enumerate(systems)
            ],
        )
        await _accepted(
            publisher,
            channel,
            (AddIntent(system=one, code=code, name="n", default_data={}) for one in systems for code in codes),
        )
        await _accepted(
            publisher,
            channel,
            [RefreshSignature(system=f"draft-{number}", api_request_url=_url("d")) for number in range(5)],
        )
        everywhere = SaveOtpScheduling(
            enabled=True,
            countries=sorted(ISO_3166_ALPHA_2),
            use_own_numbers=True,
            international_rates_acknowledged=True,
        )
        await _accepted(publisher, channel, [everywhere])

        # One more of anything is refused, and each for its own reason.
        one_more = OpenBusinessSystem(system="more", name="more", api_request_url="https://crm.example/")
        assert await _rejection(publisher, channel, one_more) == "TooManyBusinessSystems"
        more_intents = AddIntent(system=systems[0], code="MORE", name="n", default_data={})
        assert await _rejection(publisher, channel, more_intents) == "TooManyIntents"
        over = EditIntent(system=systems[0], code=codes[0], default_data=_data(4096))
        over = over.model_copy(update={"default_data": _data(4097)})
        assert await _rejection(publisher, channel, over) == "InvalidCommand"

        # One system is filled up to the last byte that its record may have, with intents and then with templates.
        form = {"system": systems[0], "default_data": _data(4096), "schema": _schema(16 * 1024)}
        filled, refused = await _until_refused(
            publisher, channel, (EditIntent.model_validate(form | {"code": code}) for code in codes)
        )
        assert (filled, refused.rejection) == (11, "BusinessSystemTooLarge")
        referred = [
            ReferToIntent(system=systems[0], code=codes[-1], template=f"{number:04}" + "t" * 124)
            for number in range(1_000)
        ]
        templates, refused = await _until_refused(publisher, channel, referred)
        assert refused.rejection == "BusinessSystemTooLarge"
        facts = refused.model_extra or {}
        assert facts["size"] - facts["limit"] <= len(f'"{referred[0].template}",')
        # What is not asked whether there is room still leaves it a record of at most that many bytes.
        await _accepted(publisher, channel, [RefreshSignature(system=systems[0])])
        state = await restore(installation.bootstrap_servers, {}, partition_of(channel, PARTITIONS))
        record = len(state.records[system_key(channel, systems[0])])
        assert BUSINESS_SYSTEM_BYTES_LIMIT - 2_048 < record <= BUSINESS_SYSTEM_BYTES_LIMIT
        name = EditBusinessSystem(system=systems[1], remarks="small again")
        version = await _accepted(publisher, channel, [name])

    # Everything is in the read model, and in the state that the decider restores.
    async with installation.api("acme") as api:
        settings = (await api("GET", f"channels/{channel}/settings?min_version={version}")).body
    assert [len(system["intents"]) for system in settings["business_systems"]] == [INTENTS] * SYSTEMS
    assert settings["name"] == WIDE * 255
    assert len(settings["otp_scheduling"]["countries"]) == len(ISO_3166_ALPHA_2)
    installation.services["decider"].stop()
    installation.restart("decider")
    async with installation.publisher("acme") as publisher:
        assert await _rejection(publisher, channel, more_intents) == "TooManyIntents"
        assert await _rejection(publisher, channel, referred[templates]) == "BusinessSystemTooLarge"
