"""The access log: what nobody else tells of secrets, credentials and refusals, on a topic of its own.

No record has a secret, a whole token, or more of a refused credential than the id of a key that exists.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict

from .envelope import Origin
from .message import EventData


class SecretShown(EventData):
    """The signature ``key_id`` was shown. ``command`` is the type of the command that did it, ``command_id`` its id in
    the log."""

    system: str
    key_id: str | None = None
    command: str
    command_id: str


class LogOnFailed(EventData):
    """Credentials that were not valid, from one address within a minute. ``means`` is what they were sent to.

    ``key_id`` is the key that they named, if there is one of that id. The envelope's origin is the first attempt's.
    """

    means: Literal["api", "console"]
    key_id: str | None = None
    attempts: int


class OperationDenied(EventData):
    """A caller that is known was refused with 403, so many times within a minute.

    ``operation`` is method and path of the route; the envelope's origin and subject are the first attempt's.
    """

    operation: str
    attempts: int


class ApiKeyCreated(EventData):
    """An API key was made. ``account``, ``channel`` and ``provider`` are those of its scope, ``owner`` its person."""

    key_id: str
    label: str
    roles: tuple[str, ...]
    scope: str
    account: str | None = None
    channel: str | None = None
    provider: str | None = None
    networks: tuple[str, ...] = ()
    expires_at: str | None = None
    owner: str | None = None


class ApiKeyRotated(ApiKeyCreated):
    """A key was made that may do what the key ``replaces`` may, which is valid until ``replaced_until``."""

    replaces: str
    replaced_until: str


class ApiKeyRevoked(EventData):
    """An API key was revoked."""

    key_id: str
    label: str


ACCESS_RECORDS: dict[str, type[EventData]] = {
    kind.__name__: kind
    for kind in (SecretShown, LogOnFailed, OperationDenied, ApiKeyCreated, ApiKeyRotated, ApiKeyRevoked)
}


class AccessEnvelope(Origin):
    """A record of the access log. ``subject`` is a channel.

    ``accountid`` is missing where no account is concerned or known; ``actor`` where nobody is known, or on the command
    line. ``data`` is the raw data; `body` returns it as a model.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    specversion: Literal["1.0"] = "1.0"
    id: str
    type: str
    source: str
    subject: str | None = None
    time: str
    accountid: str | None = None
    actor: str | None = None
    datacontenttype: Literal["application/json"] = "application/json"
    data: dict[str, Any]

    def body(self) -> EventData | None:
        """The data as a model of its type; None for a type that is newer than this reader."""
        kind = ACCESS_RECORDS.get(self.type)
        return None if kind is None else kind.model_validate(self.data)
