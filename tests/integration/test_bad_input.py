"""Bad input over Kafka, HTTP and the command line: a clear answer, and nothing changes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from contracts.channel import RegisterChannel
from contracts.kafka.publisher import Publisher
from contracts.outcome import CommandRejected
from contracts.partitioner import partition_of
from contracts.sms import ToggleSms
from tests.commands import run_here
from tests.installation import Installation, fresh
from tests.servers import PARTITIONS

PRIVATE = "https://10.0.0.1/hook"


@pytest.fixture
async def publisher(installation: Installation) -> AsyncIterator[Publisher]:
    async with installation.publisher("acme") as publisher:
        yield publisher


@pytest.fixture
async def channel(publisher: Publisher) -> str:
    """A channel of acme, at version 1."""
    name = fresh("bad")
    registered = RegisterChannel(channel_type="telegram", name="Shop", enterprise_authenticated=True)
    assert (await publisher.send(registered, channel=name)).accepted
    return name


async def _version(publisher: Publisher, channel: str) -> int:
    """The channel's version now, by a dry run, which changes nothing."""
    outcome = await publisher.send(ToggleSms(enabled=False), channel=channel, dry_run=True)
    assert outcome.body.version is not None
    return outcome.body.version


@pytest.mark.parametrize(
    ("kind", "data", "account", "rejection", "says"),
    [
        ("MakeCoffee", {}, "acme", "InvalidCommand", "MakeCoffee"),
        ("ToggleSms", {"enabled": True, "colour": "red"}, "acme", "InvalidCommand", "'data.colour'"),
        ("ToggleSms", {"enabled": "yes"}, "acme", "InvalidCommand", "'data.enabled'"),
        ("ToggleSms", {}, "acme", "InvalidCommand", "'data.enabled' is missing"),
        ("ToggleSms", {"enabled": True}, "other", "ChannelUnknown", "has no channel"),
        (
            "OpenBusinessSystem",
            {"system": "crm", "name": "x" * 256, "api_request_url": "https://crm.example/"},
            "acme",
            "InvalidCommand",
            "at most 255 characters",
        ),
        (
            "OpenBusinessSystem",
            {"system": "crm", "name": "CRM", "api_request_url": PRIVATE},
            "acme",
            "ApiRequestUrlRefused",
            "no public address",
        ),
        (
            "AddIntent",
            {"system": "crm", "code": "A", "name": "A", "default_data": {"a": "x" * 4096}},
            "acme",
            "InvalidCommand",
            "at most 4,096 are allowed",
        ),
        (
            "SaveOtpScheduling",
            {"enabled": True, "countries": ["ID"], "use_own_numbers": False},
            "acme",
            "OtpSchedulingNeedsWhatsApp",
            "whatsapp",
        ),
    ],
)
async def test_over_kafka(
    publisher: Publisher,
    channel: str,
    kind: str,
    data: dict[str, Any],
    account: str,
    rejection: str,
    says: str,
) -> None:
    outcome = await publisher.send_raw(kind, data, channel=channel, account=account)

    assert isinstance(outcome.body, CommandRejected)
    assert outcome.body.rejection == rejection
    assert says.lower() in outcome.body.message.lower()
    assert await _version(publisher, channel) == 1


async def test_a_channel_that_nobody_registered(publisher: Publisher) -> None:
    outcome = await publisher.send(ToggleSms(enabled=True), channel=fresh("nobody"))

    assert isinstance(outcome.body, CommandRejected)
    assert (outcome.body.rejection, outcome.body.version) == ("ChannelUnknown", 0)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"not json", "not JSON"),
        (b"[1]", "not an object"),
        (b'{"enabled": true}', "'id' is missing"),
        (None, "no value"),
        (b"\xff\xfe\x00", "not JSON"),
    ],
)
async def test_what_has_no_envelope_is_kept_as_a_dead_letter(
    installation: Installation, publisher: Publisher, channel: str, value: bytes | None, reason: str
) -> None:
    home = partition_of(channel, PARTITIONS)
    async with AIOKafkaProducer(bootstrap_servers=installation.bootstrap_servers) as producer:
        sent = await producer.send_and_wait("switchboard.commands", value, key=channel.encode(), partition=home)
    async with AIOKafkaConsumer(
        bootstrap_servers=installation.bootstrap_servers,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    ) as consumer:
        consumer.assign([TopicPartition("switchboard.dead-letters", home)])
        async for letter in consumer:
            headers = dict(letter.headers)
            if headers["offset"] == str(sent.offset).encode():
                break

    assert letter.value == value
    assert letter.key == channel.encode()
    assert reason in headers["reason"].decode()
    assert (headers["topic"], headers["partition"]) == (b"switchboard.commands", str(home).encode())
    assert await _version(publisher, channel) == 1


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "name", "says"),
    [
        ("PUT", "{c}/sms", {"data": b"{"}, 400, "BodyUnreadable", "not JSON"),
        ("PUT", "{c}/sms", {"json": [1]}, 400, "BodyUnreadable", "must be a JSON object"),
        ("PUT", "{c}/sms", {"json": {"enabled": 1}}, 422, "InvalidCommand", "'data.enabled'"),
        ("PUT", "{c}/sms", {"json": {"enabled": True, "x": 1}}, 422, "InvalidCommand", "'data.x'"),
        (
            "PUT",
            "{c}/sms",
            {"data": b"a=1", "headers": {"Content-Type": "text/x"}},
            415,
            "MediaTypeUnsupported",
            "json",
        ),
        ("PUT", "{c}/sms", {"json": {"enabled": True}, "headers": {"If-Match": '"7"'}}, 412, "VersionYetToCome", "7"),
        ("PUT", "{c}/sms", {"json": {"enabled": True}, "headers": {"If-Match": "x"}}, 400, "ParameterInvalid", "ETag"),
        ("PUT", "nobody/sms", {"json": {"enabled": True}}, 404, "ChannelUnknown", "nobody"),
        ("PUT", "a%20b/sms", {"json": {"enabled": True}}, 404, "ChannelUnknown", "a b"),
        ("GET", "{c}/nothing", {}, 404, "RouteUnknown", "/docs"),
        ("POST", "{c}/sms", {"json": {}}, 405, "MethodNotAllowed", "POST"),
        ("PUT", "{c}", {"json": {}}, 403, "Forbidden", "platform"),
        (
            "PUT",
            "{c}/business-systems/crm",
            {"json": {"name": "CRM", "api_request_url": PRIVATE}},
            422,
            "ApiRequestUrlRefused",
            "no public address",
        ),
        (
            "PUT",
            "{c}/business-systems/crm",
            {"json": {"system": "other", "name": "CRM", "api_request_url": "https://crm.example/"}},
            422,
            "PathContradicted",
            "'system'",
        ),
        ("PUT", "{c}/business-systems/crm", {"data": b" " * 600_000}, 413, "BodyTooLarge", "524,288"),
        ("DELETE", "{c}/business-systems/crm", {}, 404, "BusinessSystemUnknown", "crm"),
        ("GET", "{c}/settings?min_version=x", {}, 400, "ParameterInvalid", "min_version"),
    ],
)
async def test_over_http(
    installation: Installation,
    publisher: Publisher,
    channel: str,
    method: str,
    path: str,
    options: dict[str, Any],
    status: int,
    name: str,
    says: str,
) -> None:
    if "data" in options:
        options = {"headers": {"Content-Type": "application/json"}, **options}
    async with installation.api("acme") as api:
        answer = await api(method, "channels/" + path.format(c=channel), **options)

    assert (answer.status, answer.body["type"]) == (status, f"urn:switchboard:problem:{name}")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert says in answer.body["detail"]
    assert await _version(publisher, channel) == 1


async def test_over_http_another_account_and_nobody(installation: Installation, channel: str) -> None:
    async with installation.api("other") as api:
        theirs = [
            await api("GET", f"channels/{channel}/settings"),
            await api("PUT", f"channels/{channel}/sms", {"enabled": True}),
            await api("POST", f"channels/{channel}/invocations", {"system": "crm", "code": "A"}),
        ]
        listed = await api("GET", "channels?limit=1000")
        api.session.headers["Authorization"] = "Bearer sb_00000000_" + "x" * 43
        nobody = await api("GET", "channels")

    assert [answer.status for answer in theirs] == [404, 404, 404]
    assert channel not in json.dumps(listed.body)
    assert nobody.status == 401
    assert nobody.headers["WWW-Authenticate"] == "Bearer"


async def test_a_refused_api_key_is_shown_nothing_of_an_account(installation: Installation) -> None:
    async with installation.api("acme") as api:
        answer = await api("GET", "channels", headers={"Switchboard-Account": "other"})

    assert (answer.status, answer.body["title"]) == (403, "Forbidden")


def _cli(installation: Installation, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_here(installation.environment | {"SWITCHBOARD_ACCOUNT": "acme"}, *arguments)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("ToggleSms", "--channel", "a b"), "--channel is 'a b'"),
        (("ToggleSms", "--channel", "c", "--data", "{"), "--data is not JSON"),
        (("ToggleSms", "--channel", "c", "--data", "[]"), "--data must be a JSON object"),
        (("ToggleSms", "--channel", "c", "--account", "~ours"), "--account is '~ours'"),
    ],
)
def test_over_the_command_line(installation: Installation, arguments: tuple[str, ...], says: str) -> None:
    done = _cli(installation, "send", *arguments)

    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert says in done.stderr


def test_a_rejection_over_the_command_line(installation: Installation) -> None:
    done = _cli(installation, "send", "ToggleSms", "--channel", fresh("nobody"), "--data", '{"enabled": true}')

    assert done.returncode == 1
    assert json.loads(done.stdout)["rejection"] == "ChannelUnknown"
    assert done.stderr == ""
