"""The environment: every ``SWITCHBOARD_…`` variable is declared here, once, and all its problems are found at once."""

from __future__ import annotations

import base64
import binascii
import difflib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from services.infrastructure.library_internals.asyncpg import database_addresses

_PREFIX = "SWITCHBOARD_"
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+")
_KEYRING_FORM = "it must be id:base64 of 32 bytes, several separated by commas, the newest first"


class SettingsError(Exception):
    """Variables hold what cannot be used; each sentence names one and says what would be right."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _whole_number(low: int, high: int) -> BeforeValidator:
    def parse(value: Any) -> int:
        text = str(value)
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise ValueError(f"it must be a whole number from {low} to {high}")
        return int(text)

    return BeforeValidator(parse)


def _one_of(*choices: str, upper: bool = False) -> BeforeValidator:
    def parse(value: Any) -> str:
        text = str(value).upper() if upper else str(value)
        if text not in choices:
            raise ValueError(f"it must be one of {', '.join(choices)}")
        return text

    return BeforeValidator(parse)


def _retry_seconds(value: Any) -> tuple[float, ...]:
    try:
        waits = tuple(float(part) for part in (value.split(",") if isinstance(value, str) else value))
    except ValueError:
        waits = ()
    if not waits or not all(0 < wait < 1e6 for wait in waits):
        raise ValueError("it must be waits between attempts, like 5,30,120")
    return waits


def _list(value: Any) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    return tuple(part.strip() for part in parts if part.strip())


def _networks(value: Any) -> tuple[str, ...]:
    networks = _list(value)
    for network in networks:
        try:
            ip_network(network)
        except ValueError:
            raise ValueError(
                "it must be IP addresses or networks, separated by commas, such as 10.0.0.7,10.1.0.0/16"
            ) from None
    return networks


def _origins(value: Any) -> tuple[str, ...]:
    origins = _list(value)
    if not all(origin == "*" or _ORIGIN.fullmatch(origin) for origin in origins):
        raise ValueError("it must be origins separated by commas, such as https://app.example, or * for all")
    return origins


def _database_url(value: Any) -> str:
    database_addresses(str(value))
    return str(value)


def _readable_file(value: Any) -> str:
    try:
        Path(str(value)).open("rb").close()
    except OSError as error:
        raise ValueError(f"it must be a file that can be read ({(error.strerror or 'error').lower()})") from None
    return str(value)


def parse_keyring(text: str) -> dict[str, bytes]:
    """The key-encryption keys by id, newest first. Raises ValueError, with a clause that holds no key."""
    keys: dict[str, bytes] = {}
    for number, entry in enumerate(text.split(","), start=1):
        key_id, _, encoded = entry.strip().partition(":")
        try:
            key = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not key_id or key_id in keys or len(key) != 32:
            raise ValueError(f"{_KEYRING_FORM}; entry {number} is not")
        keys[key_id] = key
    return keys


def _keyring(value: Any) -> str:
    parse_keyring(str(value))
    return str(value)


_ENDS_IN_PORT = re.compile(r"^[^:]+:[0-9]+$|\]:[0-9]+$")
_KAFKA_PORT = 9092  # where an entry of the brokers has no port
_Port = Annotated[int, _whole_number(1, 65535)]
_File = Annotated[str, BeforeValidator(_readable_file)]
_SECRETS = frozenset({"database_url", "keyring", "kafka_sasl_password", "api_key"})
"""Their values stay out of error messages and of `repr`."""
_REQUIRED_FORMS = {
    "kafka_bootstrap_servers": "it must be host:port of the broker",
    "database_url": "it must be postgresql://user:password@host/database",
    "keyring": _KEYRING_FORM,
}


def _web_address(value: object) -> object:
    if isinstance(value, str) and not value.startswith(("https://", "http://")):
        raise ValueError("it must begin with https://")
    return value


class Settings(BaseSettings):
    """The product's settings, read once at start. A blank variable counts as absent.

    ``kafka_bootstrap_servers`` and ``database_url`` are None where nothing is given; ``switchboard up`` then starts the
    embedded broker and database. ``account``, ``api_url`` and ``api_key`` are read by the command line alone.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, validate_default=False)

    kafka_bootstrap_servers: str | None = None
    kafka_security_protocol: Annotated[str, _one_of("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")] = "PLAINTEXT"
    kafka_ssl_cafile: _File | None = None
    kafka_ssl_certfile: _File | None = None
    kafka_ssl_keyfile: _File | None = None
    kafka_sasl_mechanism: Annotated[str, _one_of("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")] = "PLAIN"
    kafka_sasl_username: str | None = None
    kafka_sasl_password: str | None = Field(default=None, repr=False)
    kafka_port: _Port = 9092
    database_url: Annotated[str, BeforeValidator(_database_url)] | None = Field(default=None, repr=False)
    postgres_port: _Port | None = None
    data_dir: Annotated[Path, AfterValidator(Path.absolute)] = Field(default_factory=lambda: Path(".data").absolute())
    http_host: str = "127.0.0.1"
    http_port: _Port = 8080
    http_tls_certificate: _File | None = None
    http_tls_key: _File | None = None
    http_trusted_proxies: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_networks)] = ()
    http_cors_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_origins)] = ()
    http_connections: Annotated[int, _whole_number(10, 60_000)] = 8_000
    http_requests_per_key: Annotated[int, _whole_number(1, 1_000_000)] = 200
    http_requests_per_account: Annotated[int, _whole_number(1, 1_000_000)] = 400
    http_requests_per_address: Annotated[int, _whole_number(1, 1_000_000)] = 100
    http_streams_per_account: Annotated[int, _whole_number(1, 60_000)] = 2_000
    http_long_polls_per_account: Annotated[int, _whole_number(1, 60_000)] = 200
    metrics_host: str = "127.0.0.1"
    metrics_port: _Port | None = None
    sms_product_url: Annotated[str, BeforeValidator(_web_address)] | None = None
    """The page that the console names as the SMS product page."""
    http_channels_per_account: Annotated[int, _whole_number(1, 100_000_000)] = 10_000
    http_test_calls_per_account: Annotated[int, _whole_number(1, 60_000)] = 5
    http_replays_per_account: Annotated[int, _whole_number(1, 100_000_000)] = 10_000
    oidc_file: _File | None = None
    partitions: Annotated[int, _whole_number(1, 1024)] = 8
    keyring: Annotated[str, BeforeValidator(_keyring)] | None = Field(default=None, repr=False)
    invoker_allow: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_list)] = ()
    invoker_retry_seconds: Annotated[tuple[float, ...] | None, NoDecode, BeforeValidator(_retry_seconds)] = None
    invoker_calls_per_host: Annotated[int, _whole_number(1, 1_000_000)] = 200
    invoker_unverified_calls_per_minute: Annotated[int, _whole_number(1, 1_000_000)] = 10
    delivery_log_days: Annotated[int, _whole_number(1, 3650)] = 30
    message_log_days: Annotated[int, _whole_number(8, 3650)] = 90
    """A request may come again, and statuses may wait for it, for 7 days."""

    delivery_megabytes_per_account: Annotated[int, _whole_number(1, 100_000_000)] = 10_000
    commands_per_account: Annotated[int, _whole_number(1, 100_000_000)] = 100_000
    log_level: Annotated[str, _one_of("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", upper=True)] = "INFO"
    log_format: Annotated[Literal["console", "json"], _one_of("console", "json")] = "console"
    account: str | None = None
    api_url: str | None = None
    api_key: str | None = Field(default=None, repr=False)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 -- pydantic-settings' signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only `from_environment` reads the environment; the constructor takes what it is given."""
        return (init_settings,)

    @classmethod
    def from_environment(
        cls,
        environment: Mapping[str, str] | None = None,
        *,
        required: Iterable[str] = (),
        checks: Mapping[str, Callable[[Any], object]] | None = None,
    ) -> Self:
        """Reads ``os.environ`` or the mapping given. Raises `SettingsError` with a sentence for each problem.

        ``required`` are fields that must not be None. ``checks`` are functions by field, which raise ValueError.
        """
        source = _Environment(cls, os.environ if environment is None else environment)
        given = source()
        try:
            settings, problems = cls(**given), []
        except ValidationError as error:
            problems = [_sentence(found, given) for found in error.errors(include_url=False)]
            wrong = {found["loc"][0] for found in error.errors(include_url=False)}
            settings = cls(**{name: value for name, value in given.items() if name not in wrong})
        problems += [not_set(name) for name in required if name not in given]
        for name, check in (checks or {}).items():
            try:
                check(getattr(settings, name))
            except ValueError as error:
                problems.append(f"{variable(name)} cannot be used: {error}")
        if problems:
            raise SettingsError(*problems)
        return settings

    def own_addresses(self) -> tuple[str, ...]:
        """``host:port`` of our own broker, database and API, which signed calls must never reach."""
        brokers = (part.strip() for part in (self.kafka_bootstrap_servers or "").split(",") if part.strip())
        return (
            *(broker if _ENDS_IN_PORT.search(broker) else f"{broker}:{_KAFKA_PORT}" for broker in brokers),
            *self.database_servers(),
            _host_and_port(self.http_host, self.http_port),
        )

    def database_servers(self) -> tuple[str, ...]:
        """``host:port`` of each of the database's servers. A server with a Unix socket may also listen on localhost."""
        addresses = database_addresses(self.database_url) if self.database_url else []
        return tuple(_host_and_port("localhost" if "/" in host else host, port) for host, port in addresses)


def _host_and_port(host: str, port: int) -> str:
    host = host.partition("%")[0]  # a zone says how to reach an address, not which it is
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Environment(EnvSettingsSource):
    """The variables of a mapping, each stripped, by field."""

    def __init__(self, settings_cls: type[BaseSettings], environment: Mapping[str, str]) -> None:
        super().__init__(settings_cls)
        self.env_vars = {
            name.lower(): value.strip()
            for name, value in environment.items()
            if name.startswith(_PREFIX) and value.strip()
        }


def variable(field: str) -> str:
    """The name of the field's environment variable."""
    return _PREFIX + field.upper()


def not_set(field: str) -> str:
    """The sentence for a required field that is absent."""
    return f"{variable(field)} is not set; {_REQUIRED_FORMS[field]}."


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """A sentence for each ``SWITCHBOARD_…`` name that is not declared, with the nearest one that is."""
    declared = {field.upper(): variable(field) for field in Settings.model_fields}
    sentences = []
    for name in sorted(environment):
        rest = name.removeprefix(_PREFIX)
        if rest != name and rest not in declared:
            nearest = difflib.get_close_matches(rest, declared, n=1, cutoff=0.8)
            hint = f"; did you mean {declared[nearest[0]]}?" if nearest else "."
            sentences.append(f"{name} is no variable of Switchboard and has no effect{hint}")
    return sentences


def _sentence(found: Any, given: Mapping[str, Any]) -> str:
    field = str(found["loc"][0])
    reason = found["ctx"]["error"] if found["type"] == "value_error" else found["msg"]
    if field in _SECRETS:
        return f"{variable(field)} cannot be used; {reason}."
    return f"{variable(field)} is {given[field]!r}; {reason}."
