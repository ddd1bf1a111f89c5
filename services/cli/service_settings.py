"""A service's settings, checked as a whole before anything starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from services.domain.url_policy import Allowlist
from services.gateway.authentication.oidc.configuration import load as load_oidc
from services.infrastructure.config import Settings

SERVICES = {
    "decider": ("kafka_bootstrap_servers", "keyring"),
    "projector": ("kafka_bootstrap_servers", "database_url"),
    "invoker": ("kafka_bootstrap_servers", "database_url", "keyring"),
    "message-router": ("kafka_bootstrap_servers", "database_url", "keyring"),
    "gateway": ("kafka_bootstrap_servers", "database_url"),
}
"""The services, each with the settings that it cannot do without."""


def settings_of_service(service: str) -> Settings:
    """Reads the environment; raises `SettingsError` with all problems at once."""
    return Settings.from_environment(required=SERVICES[service], checks=_CHECKS)


def settings_of_all() -> Settings:
    """The same for ``up``, which starts what the environment does not name."""
    return Settings.from_environment(checks=_CHECKS)


_CHECKS: dict[str, Callable[[Any], object]] = {"invoker_allow": Allowlist.parse, "oidc_file": load_oidc}
