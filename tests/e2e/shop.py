"""Channels for the tests of the console."""

from __future__ import annotations

from collections.abc import Sequence

from contracts.channel import RegisterChannel
from contracts.message import CommandData
from tests.installation import Installation, fresh, run_apart


def register(installation: Installation, account: str, channel_type: str, name: str = "Shop") -> str:
    """A new channel of the account, which the console shows already."""
    channel = fresh(channel_type)
    command = RegisterChannel.model_validate(
        {"channel_type": channel_type, "name": name, "enterprise_authenticated": True}
    )
    send(installation, account, channel, [command])
    return channel


def send(installation: Installation, account: str, channel: str, commands: Sequence[CommandData]) -> int:
    """Sends commands past the console, all of which must be accepted. Returns the version, which is read already."""

    async def make() -> int:
        version = 0
        async with installation.publisher(account) as publisher:
            for command in commands:
                outcome = await publisher.send(command, channel=channel)
                assert outcome.accepted, outcome
                version = outcome.version or version
        async with installation.api(account) as api:
            assert (await api("GET", f"channels/{channel}/settings?min_version={version}")).status == 200
        return version

    return run_apart(make())
