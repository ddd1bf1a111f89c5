"""A sound log in memory, as deciders write it, for the tests of the checker."""

from __future__ import annotations

from typing import Any

from contracts import topics
from contracts.business_system import OpenBusinessSystem
from contracts.channel import EditChannel, RegisterChannel
from contracts.sms import ToggleSms
from tests.faults.decider.log_reader import Log, LogPosition, LogRecord, Writer
from tests.unit.decider.partition import ELSEWHERE, PARTITIONS, Incoming, Partition, Stored, envelope


def _records(topic: topics.Topic, partition: int, stored: list[Stored] | list[Incoming]) -> list[LogRecord]:
    return [
        LogRecord(LogPosition(topic.name, partition, one.offset), one.key, one.value, dict(one.headers))
        for one in stored
    ]


def sound_log() -> Log:
    """What a decider leaves behind: accepted, rejected, repeated, reused, invalid, unreadable, misrouted, dry."""
    partition = Partition()
    crm = OpenBusinessSystem(system="crm", name="CRM", api_request_url="https://crm.example/")
    registration = RegisterChannel(channel_type="viber", name="Shop", enterprise_authenticated=True)
    values: list[dict[str, Any] | bytes] = [
        envelope(registration, "register"),
        envelope(crm, "open"),
        envelope(ToggleSms(enabled=True), "on"),
        envelope(ToggleSms(enabled=True), "on"),
        envelope(ToggleSms(enabled=False), "on"),
        b"no command",
        envelope("MakeCoffee", "coffee"),
        envelope(crm, "again"),
        envelope(ToggleSms(enabled=False), "off", expectedversion=4),
        envelope(ToggleSms(enabled=True), "dry", dryrun=True),
        envelope(ToggleSms(enabled=True), "astray", subject=ELSEWHERE),
        envelope(ToggleSms(enabled=True), "on"),
        envelope(ToggleSms(enabled=True), "stale", expectedversion=4),
        envelope(EditChannel(name="Kiosk"), "edit"),
    ]
    incoming = [partition.incoming(value) for value in values]
    for number in range(0, len(incoming), 3):
        partition.commit(incoming[number : number + 3])
    log = Log(PARTITIONS)
    _add(log, partition, incoming)
    [forwarded] = partition.forwarded
    other = Partition(number=forwarded.partition)
    came = [Incoming(0, forwarded.key, forwarded.value, forwarded.headers)]
    other.commit(came)
    _add(log, other, came)
    return log


def _add(log: Log, partition: Partition, incoming: list[Incoming]) -> None:
    log.records[topics.COMMANDS.name, partition.number] = _records(topics.COMMANDS, partition.number, incoming)
    for topic in (topics.EVENTS, topics.OUTCOMES, topics.CHANNEL_STATE, topics.SIGNATURES, topics.DEAD_LETTERS):
        stored = partition.read(topic.name)
        log.records[topic.name, partition.number] = _records(topic, partition.number, stored)
        log.writers[topic.name, partition.number] = [(0, Writer(1, 1)), (3, Writer(1, 1)), (6, Writer(1, 2))]
