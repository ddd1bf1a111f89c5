"""How every service reaches Kafka: one place for addresses and security."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from typing import Any

from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from services.infrastructure.config import Settings, SettingsError
from services.infrastructure.library_internals import aiokafka as _aiokafka  # noqa: F401 -- changes every client

GROUP_METADATA_MAX_AGE_MS = 5_000
"""For consumers in a group: after a broker restart aiokafka's assignor can leave a whole group without partitions
until its metadata refreshes, by default 5 minutes."""
GROUP_HEARTBEAT_INTERVAL_MS = 500
"""A member learns of a rebalance by its heartbeat: with aiokafka's 3 s, partitions stand still that long whenever a
copy of a service starts or stops."""


def security_options(environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """The keyword arguments for an aiokafka client's security, from ``SWITCHBOARD_KAFKA_…``; raises `SettingsError`."""

    settings = Settings.from_environment(environment)
    protocol = settings.kafka_security_protocol
    options: dict[str, Any] = {"security_protocol": protocol}
    if protocol.endswith("SSL"):
        try:
            context = ssl.create_default_context(cafile=settings.kafka_ssl_cafile)
            if settings.kafka_ssl_certfile:
                context.load_cert_chain(settings.kafka_ssl_certfile, settings.kafka_ssl_keyfile)
        except OSError as error:
            raise SettingsError(f"The files in SWITCHBOARD_KAFKA_SSL_… cannot be used: {error}.") from None
        options["ssl_context"] = context
    if protocol.startswith("SASL"):
        options |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_sasl_username,
            "sasl_plain_password": settings.kafka_sasl_password,
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
