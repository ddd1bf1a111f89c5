"""A peer: the same commands on the `eventsourcing` library with PostgreSQL, called directly, without Kafka at all."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from pydantic_core import from_json


class PeerChannel(Aggregate):
    """A channel with the settings that the benchmark changes."""

    @event("Registered")
    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.name = channel
        self.sms = False
        self.otp: dict[str, Any] = {}

    @staticmethod
    def create_id(channel: str) -> UUID:
        return uuid5(NAMESPACE_URL, channel)

    @event("SmsToggled")
    def toggle_sms(self, enabled: bool) -> None:  # noqa: FBT001 -- the library makes an event of the arguments
        self.sms = enabled

    @event("OtpSchedulingSaved")
    def save_otp(self, form: dict[str, Any]) -> None:
        self.otp = form

    @event("Edited")
    def edit(self, name: str) -> None:
        self.name = name


class PeerSettings(Application[UUID]):
    def register(self, channel: str) -> None:
        self.save(PeerChannel(channel))

    def handle(self, command: dict[str, Any]) -> None:
        channel: PeerChannel = self.repository.get(PeerChannel.create_id(command["subject"]))
        data = command["data"]
        match command["type"]:
            case "ToggleSms":
                channel.toggle_sms(data["enabled"])
            case "SaveOtpScheduling":
                channel.save_otp(data)
            case _:
                channel.edit(data["name"])
        self.save(channel)


def application(dsn: str) -> PeerSettings:
    place = urlsplit(dsn)
    return PeerSettings(
        env={
            "PERSISTENCE_MODULE": "eventsourcing.postgres",
            "POSTGRES_DBNAME": place.path.lstrip("/"),
            "POSTGRES_HOST": place.hostname or "",
            "POSTGRES_PORT": str(place.port),
            "POSTGRES_USER": place.username or "",
            "POSTGRES_PASSWORD": place.password or "",
        }
    )


def rate(peer: PeerSettings, commands: Iterable[tuple[str, bytes]]) -> float:
    """Commands a second, one after the other, as their aggregate is read, changed and saved."""
    values = [value for _, value in commands]
    started = time.perf_counter()
    for value in values:
        peer.handle(from_json(value))
    return len(values) / (time.perf_counter() - started)
