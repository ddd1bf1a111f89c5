"""Why a subscriber cannot begin, in words."""

from __future__ import annotations

from aiokafka.errors import KafkaConnectionError, KafkaError

from .errors import SubscriberError


def subscriber_failure(error: KafkaError | OSError, bootstrap_servers: str) -> SubscriberError:
    """Returns what to raise."""
    if isinstance(error, (KafkaConnectionError, OSError)):
        return SubscriberError(f"No broker answers at {bootstrap_servers}.")
    return SubscriberError(f"The broker cannot be used: {str(error) or type(error).__name__}.")
