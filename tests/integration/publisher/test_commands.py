"""The publisher sends one command: shared ids, missed outcomes, refused values, and closing."""

from __future__ import annotations

import asyncio
import signal

import pytest
from aiokafka import AIOKafkaProducer

from contracts import topics
from contracts.business_system import OpenBusinessSystem
from contracts.invocation import InvokeIntent
from contracts.kafka import client
from contracts.kafka.publisher import Outcome, OutcomeTimeout, Publisher, PublisherError
from contracts.outcome import CommandRejected
from contracts.partitioner import partition_of
from contracts.sealing import SealKey
from contracts.signature import RefreshSignature, RevealSignature
from contracts.sms import ToggleSms
from tests.faults.decider.testbed import DeciderProcess, Testbed
from tests.integration.publisher.commands import publisher_of


def _rejection(outcome: Outcome) -> str | None:
    return outcome.body.rejection if isinstance(outcome.body, CommandRejected) else None


async def test_two_accounts_with_the_same_id(publisher: Publisher, channel: str) -> None:
    ours, theirs = await asyncio.gather(
        publisher.send(ToggleSms(enabled=True), channel=channel, command_id="same"),
        publisher.send(ToggleSms(enabled=True), channel=channel, command_id="same", account="other"),
    )

    assert ours.accepted
    assert _rejection(theirs) == "ChannelUnknown"


async def test_an_id_reused_for_another_command_at_the_same_time(publisher: Publisher, channel: str) -> None:
    first, other, again = await asyncio.gather(
        publisher.send(ToggleSms(enabled=True), channel=channel, command_id="same"),
        publisher.send(ToggleSms(enabled=False), channel=channel, command_id="same"),
        publisher.send(ToggleSms(enabled=True), channel=channel, command_id="same"),
    )

    assert first.version == 2
    assert _rejection(other) == "CommandIdReused"
    assert again.body == first.body


async def test_a_cancelled_or_timed_out_caller_does_not_affect_others(
    decider: DeciderProcess, publisher: Publisher, channel: str
) -> None:
    decider.send(signal.SIGSTOP)
    try:
        patient = asyncio.create_task(publisher.send(ToggleSms(enabled=True), channel=channel, command_id="same"))
        cancelled = asyncio.create_task(publisher.send(ToggleSms(enabled=True), channel=channel, command_id="same"))
        with pytest.raises(OutcomeTimeout, match=r"No outcome within 0.5 s. Command same may yet be decided"):
            await publisher.send(ToggleSms(enabled=True), channel=channel, command_id="same", timeout=0.5)
        cancelled.cancel()
    finally:
        decider.resume()

    assert (await patient).version == 2
    assert (await asyncio.gather(cancelled, return_exceptions=True))[0].__class__ is asyncio.CancelledError


async def test_closing_fails_pending_and_later_calls(testbed: Testbed, decider: DeciderProcess, channel: str) -> None:
    decider.send(signal.SIGSTOP)
    try:
        async with publisher_of(testbed) as publisher:
            waiting = asyncio.create_task(publisher.send(ToggleSms(enabled=True), channel=channel))
            await asyncio.sleep(0.2)
    finally:
        decider.resume()

    with pytest.raises(PublisherError, match="closed before the answer came; send again with the same id"):
        await waiting
    with pytest.raises(PublisherError, match="closed"):
        await publisher.send(ToggleSms(enabled=True), channel=channel)
    with pytest.raises(PublisherError, match=r"The publisher is closed; nothing was published\.$"):
        await publisher.publish(ToggleSms(enabled=True), channel=channel)


async def test_a_missed_outcome_is_requested_again(
    publisher: Publisher, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when retention deleted the outcome before the reader came to it."""
    monkeypatch.setattr(client, "_RESEND_AFTER_S", 0.3)
    reader = publisher._outcomes
    match, missed = reader._match, list[object]()

    def miss_one(record: object) -> None:
        if missed:
            match(record)
        missed.append(record)

    monkeypatch.setattr(reader, "_match", miss_one)
    outcome = await publisher.send(ToggleSms(enabled=True), channel=channel)

    assert (outcome.version, outcome.repeated) == (2, True)


async def test_invalid_records_on_the_outcomes_topic_resolve_no_call(
    testbed: Testbed, publisher: Publisher, channel: str
) -> None:
    headers = [("causationid", b"same"), ("accountid", b"acme")]
    home = partition_of(channel, testbed.partitions)
    async with AIOKafkaProducer(bootstrap_servers=testbed.kafka.bootstrap_servers) as producer:
        waiting = asyncio.create_task(
            publisher.send(ToggleSms(enabled=True), channel=channel, command_id="same", timeout=20)
        )
        for key, value in ((channel.encode(), b"{}"), (channel.encode(), None), (b"\xff", b"{}"), (None, b"x")):
            await producer.send_and_wait(topics.OUTCOMES.name, value, key=key, partition=home, headers=headers)
        await waiting
        after = await publisher.send(ToggleSms(enabled=False), channel=channel)

    assert after.version == 3


async def test_a_sealed_secret_is_opened(testbed: Testbed, publisher: Publisher, channel: str) -> None:
    crm = OpenBusinessSystem(system="crm", name="CRM", api_request_url="https://crm.example/")
    assert (await publisher.send(crm, channel=channel)).secret is None
    revealed = await publisher.send(RevealSignature(system="crm", seal_to=publisher.seal_to), channel=channel)
    key = SealKey()
    refresh = RefreshSignature(system="crm", seal_to=key.seal_to)
    for_another = await publisher.send(refresh, channel=channel, command_id="refresh")
    async with publisher_of(testbed, seal_key=key) as other:
        again = await other.send(refresh, channel=channel, command_id="refresh")

    assert (revealed.secret or "").startswith("whsec_")
    assert (revealed.secret or "") not in repr(revealed)
    assert for_another.accepted
    assert for_another.secret is None
    assert again.repeated
    assert (again.secret or "").startswith("whsec_")
    assert again.secret != revealed.secret


async def test_invalid_commands_are_refused_before_they_are_published(publisher: Publisher) -> None:
    with pytest.raises(ValueError, match="channel is 'no channel'; it must be 1 to 128 characters"):
        await publisher.send(ToggleSms(enabled=True), channel="no channel")
    with pytest.raises(ValueError, match="command_id is '~ours'"):
        await publisher.publish(ToggleSms(enabled=True), channel="ch", command_id="~ours")
    with pytest.raises(ValueError, match="needs an account"):
        await Publisher("nowhere", source="tests").send(ToggleSms(enabled=True), channel="ch")
    with pytest.raises(ValueError, match="InvokeIntent is a request, which has no outcome: publish it"):
        await publisher.send(InvokeIntent(system="crm", code="ORDER"), channel="ch")
    with pytest.raises(ValueError, match="NaN or an infinity, which JSON does not have"):
        await publisher.send_raw("ToggleSms", {"enabled": float("nan")}, channel="ch")
    outcome = await publisher.send_raw("ToggleSms", {"enabled": "NaN and Infinity"}, channel="ch")
    assert _rejection(outcome) == "InvalidCommand"
