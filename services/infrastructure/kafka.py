"""How every service reaches Kafka: one place for addresses and security."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Mapping
from typing import Any

from aiokafka.consumer.fetcher import Fetcher
from aiokafka.protocol.metadata import MetadataRequest
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from services.infrastructure import header_names  # noqa: F401 -- every consumer reads as it says
from services.infrastructure.settings import SettingsError

GROUP_METADATA_MAX_AGE_MS = 5_000
"""For consumers in a group: after a broker restart aiokafka's assignor can leave a whole group without partitions
until its metadata refreshes, by default 5 minutes."""

# aiokafka lets a broker make every topic that it asks about. Ours are made by `topics apply`, with their settings.
MetadataRequest.__init__.__defaults__ = (None, False)

_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


async def _close_fetcher(self: Any) -> None:
    """aiokafka's own lets out the CancelledError of a fetch that it cancels while it backs off from a broker that is
    away: `stop` then looks as if we ourselves were cancelled, and leaves the connections open."""
    self._closed = True
    tasks = [self._fetch_task, *self._pending_tasks]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for waiter in list(self._fetch_waiters):
        self._notify(waiter)


Fetcher.close = _close_fetcher
"""For every consumer, FastStream's too. ``tests/integration/test_transactions.py`` fails without it."""


def security_options(environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """The keyword arguments for an aiokafka client's security, from ``SWITCHBOARD_KAFKA_…``.

    ``SECURITY_PROTOCOL`` (PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL), ``SSL_CAFILE``, ``SSL_CERTFILE``, ``SSL_KEYFILE``,
    ``SASL_MECHANISM``, ``SASL_USERNAME``, ``SASL_PASSWORD``. Raises `SettingsError`.
    """

    def text(name: str) -> str | None:
        return environment.get(f"SWITCHBOARD_KAFKA_{name}") or None

    protocol = text("SECURITY_PROTOCOL") or "PLAINTEXT"
    if protocol not in _PROTOCOLS:
        raise SettingsError(f"SWITCHBOARD_KAFKA_SECURITY_PROTOCOL is {protocol!r}; it must be one of {_PROTOCOLS}.")
    options: dict[str, Any] = {"security_protocol": protocol}
    if protocol.endswith("SSL"):
        try:
            context = ssl.create_default_context(cafile=text("SSL_CAFILE"))
            if certificate := text("SSL_CERTFILE"):
                context.load_cert_chain(certificate, text("SSL_KEYFILE"))
        except OSError as error:
            raise SettingsError(f"The files in SWITCHBOARD_KAFKA_SSL_… cannot be used: {error}.") from None
        options["ssl_context"] = context
    if protocol.startswith("SASL"):
        mechanism = text("SASL_MECHANISM") or "PLAIN"
        if mechanism not in _MECHANISMS:
            raise SettingsError(f"SWITCHBOARD_KAFKA_SASL_MECHANISM is {mechanism!r}; it must be one of {_MECHANISMS}.")
        options |= {
            "sasl_mechanism": mechanism,
            "sasl_plain_username": text("SASL_USERNAME"),
            "sasl_plain_password": text("SASL_PASSWORD"),
        }
    return options


def faststream_security(options: Mapping[str, Any]) -> BaseSecurity:
    """The same security in FastStream's terms."""
    context = options.get("ssl_context")
    mechanism = options.get("sasl_mechanism")
    if mechanism is None:
        return BaseSecurity(ssl_context=context, use_ssl=context is not None)
    kind = {"PLAIN": SASLPlaintext, "SCRAM-SHA-256": SASLScram256, "SCRAM-SHA-512": SASLScram512}[mechanism]
    return kind(
        username=options["sasl_plain_username"] or "",
        password=options["sasl_plain_password"] or "",
        ssl_context=context,
        use_ssl=context is not None,
    )
