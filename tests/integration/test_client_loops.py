"""Loops over changes close by themselves, however they end; clients outside of their block say so."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import psutil
import pytest

from contracts import Notices, NotOpen, Publisher, RegisterChannel, Router, Subscriber, SyncPublisher, ToggleSms
from contracts.kafka.errors import SubscriberError
from contracts.message_routing import RouteMessage
from tests.installation import Installation, fresh

_REGISTER = RegisterChannel(channel_type="viber", name="Shop", enterprise_authenticated=True)

_LEFT_AS_THE_LAST_STATEMENT = """
import asyncio, signal, sys
from contracts import Subscriber

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start out ignoring it

async def main():
    async for change in Subscriber(sys.argv[1]).changes("beginning", account=sys.argv[2]):
        print(change.event.type, flush=True)
        {then}

asyncio.run(main())
"""


def _connections(installation: Installation) -> int:
    """Ours to the broker."""
    port = int(installation.bootstrap_servers.rpartition(":")[2])
    return sum(bool(one.raddr) and one.raddr.port == port for one in psutil.Process().net_connections("tcp"))


def _registered(installation: Installation, account: str) -> str:
    channel = fresh("ch")
    with SyncPublisher(installation.bootstrap_servers, source="test", account=account) as publisher:
        assert publisher.send(_REGISTER, channel=channel).version == 1
        assert [one.version for one in publisher.send_many([(channel, ToggleSms(enabled=True))])] == [2]
    return channel


def test_a_publisher_without_await(installation: Installation) -> None:
    before = _connections(installation)

    _registered(installation, fresh("acct"))

    assert _connections(installation) == before
    publisher = SyncPublisher(installation.bootstrap_servers, source="test", account="acme")
    with pytest.raises(NotOpen, match="`with SyncPublisher"):
        publisher.send(ToggleSms(enabled=True), channel="ch-1")


@pytest.mark.parametrize("then", ["break", "return", "error"])
async def test_a_loop_that_is_left_closes(installation: Installation, then: str) -> None:
    account = fresh("acct")
    await asyncio.to_thread(_registered, installation, account)
    before = _connections(installation)
    changes = Subscriber(installation.bootstrap_servers).changes("beginning", account=account)

    async def leave() -> None:
        async for _ in changes:
            assert _connections(installation) > before
            if then == "break":
                break
            if then == "return":
                return
            raise LookupError

    if then == "error":
        with pytest.raises(LookupError):
            await leave()
    else:
        await leave()
    await asyncio.sleep(0)  # Python starts to close it
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)
    while _connections(installation) != before:  # noqa: ASYNC110 -- the test's timeout ends it
        await asyncio.sleep(0.02)

    with pytest.raises(SubscriberError, match="closed; ask the subscriber"):
        await anext(aiter(changes))


async def test_a_block_holds_it_open_for_several_loops(installation: Installation) -> None:
    account = fresh("acct")
    await asyncio.to_thread(_registered, installation, account)
    seen = []
    async with Subscriber(installation.bootstrap_servers).changes("beginning", account=account) as changes:
        for _ in range(2):
            async for change in changes:
                seen.append(change.event.sequence)
                break
            await asyncio.sleep(0)

    assert seen == [1, 2]


@pytest.mark.parametrize("then", ["break", "await asyncio.sleep(60)"])
def test_the_end_of_a_program_and_ctrl_c(installation: Installation, then: str) -> None:
    account = fresh("acct")
    _registered(installation, account)
    code = _LEFT_AS_THE_LAST_STATEMENT.format(then=then)
    with subprocess.Popen(
        (sys.executable, "-W", "error", "-c", code, installation.bootstrap_servers, account),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == "ChannelRegistered\n"
            if then != "break":
                process.send_signal(signal.SIGINT)
            said = process.stderr.read()
        except BaseException:
            process.kill()  # the end of the block waits for it, for ever where it hangs
            raise

    if then == "break":
        assert (process.returncode, said) == (0, "")
    else:
        assert said.endswith("\nKeyboardInterrupt\n")
        assert "Unclosed" not in said
        assert "ResourceWarning" not in said


async def test_clients_outside_of_their_block(installation: Installation) -> None:
    address = installation.bootstrap_servers
    publisher = Publisher(address, source="test", account="acme")
    with pytest.raises(NotOpen, match="`async with Publisher"):
        await publisher.send(ToggleSms(enabled=True), channel="ch-1")
    with pytest.raises(NotOpen, match="`async with Publisher"):
        await publisher.publish(ToggleSms(enabled=True), channel="ch-1")
    message = RouteMessage(recipient="+6580000000", category="authentication")
    with pytest.raises(NotOpen, match="`async with Router"):
        await Router(address, source="test", account="acme").route(message, channel="ch-1")
    with pytest.raises(NotOpen, match="`async with Notices"):
        await anext(Notices(address, group="g"))


def test_types_and_resources_that_do_not_exist() -> None:
    subscriber = Subscriber("127.0.0.1:1")
    with pytest.raises(ValueError, match=r"'SmsActivate'; did you mean SmsActivated\?"):
        subscriber.changes(types=["SmsActivate"])
    with pytest.raises(ValueError, match="a resource is one of"):
        subscriber.changes(resources=["smss"])
