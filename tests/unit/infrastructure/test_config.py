"""The environment: every variable read, and a sentence that names the one that cannot be used."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from services.infrastructure.config import Settings, SettingsError, unknown_variables
from services.infrastructure.kafka import security_options

_KEYRING = "k1:" + base64.b64encode(bytes(32)).decode()


def _from(**variables: str) -> Settings:
    return Settings.from_environment({f"SWITCHBOARD_{name}": value for name, value in variables.items()})


def test_what_holds_where_nothing_is_set() -> None:
    settings = _from()

    assert (settings.kafka_bootstrap_servers, settings.database_url, settings.keyring) == (None, None, None)
    assert (settings.http_host, settings.http_port, settings.kafka_port) == ("127.0.0.1", 8080, 9092)
    assert (settings.postgres_port, settings.partitions, settings.invoker_allow) == (None, 8, ())
    assert settings.data_dir.is_absolute()


def test_everything_set() -> None:
    settings = _from(
        KAFKA_BOOTSTRAP_SERVERS="k1:9092,k2:9092",
        DATABASE_URL="postgresql://u:p@db.example/switchboard",
        DATA_DIR="/var/lib/switchboard",
        HTTP_HOST="0.0.0.0",  # noqa: S104 -- a value to read
        HTTP_PORT="80",
        KAFKA_PORT="19092",
        POSTGRES_PORT="15432",
        PARTITIONS="48",
        KEYRING=_KEYRING,
        INVOKER_ALLOW=" crm.internal:8080, 10.0.0.0/8:443 ,",
        INVOKER_RETRY_SECONDS="0.5,2",
    )

    assert (settings.kafka_bootstrap_servers, settings.database_url) == (
        "k1:9092,k2:9092",
        "postgresql://u:p@db.example/switchboard",
    )
    assert (settings.data_dir, settings.http_port, settings.kafka_port) == (Path("/var/lib/switchboard"), 80, 19092)
    assert (settings.postgres_port, settings.partitions, settings.keyring) == (15432, 48, _KEYRING)
    assert settings.invoker_allow == ("crm.internal:8080", "10.0.0.0/8:443")
    assert settings.invoker_retry_seconds == (0.5, 2.0)
    assert settings.own_addresses() == ("k1:9092", "k2:9092", "db.example:5432", "0.0.0.0:80")


def test_blank_is_as_good_as_absent() -> None:
    assert _from(HTTP_PORT=" ", KAFKA_BOOTSTRAP_SERVERS="", DATABASE_URL=" ") == _from()


@pytest.mark.parametrize("name", ["HTTP_PORT", "KAFKA_PORT", "POSTGRES_PORT"])
@pytest.mark.parametrize("value", ["0", "65536", "-1", "http", "80.0", "8_0", "٨٠", "+80"])
def test_a_port_that_is_none(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^SWITCHBOARD_{name} is .* from 1 to 65535"):
        _from(**{name: value})


@pytest.mark.parametrize("value", ["0", "1025", "many"])
def test_a_number_of_partitions_that_is_none(value: str) -> None:
    with pytest.raises(SettingsError, match="SWITCHBOARD_PARTITIONS"):
        _from(PARTITIONS=value)


@pytest.mark.parametrize("value", ["x", "1,", "0", "-1", "nan", "inf", "1;2"])
def test_waits_that_are_none(value: str) -> None:
    with pytest.raises(SettingsError, match="SWITCHBOARD_INVOKER_RETRY_SECONDS"):
        _from(INVOKER_RETRY_SECONDS=value)


def test_kafka_without_security() -> None:
    assert security_options({}) == {"security_protocol": "PLAINTEXT"}


def test_kafka_with_a_password() -> None:
    options = security_options(
        {
            "SWITCHBOARD_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "SWITCHBOARD_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "SWITCHBOARD_KAFKA_SASL_USERNAME": "switchboard",
            "SWITCHBOARD_KAFKA_SASL_PASSWORD": "secret",
        }
    )

    assert options.pop("ssl_context").check_hostname
    assert options == {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "switchboard",
        "sasl_plain_password": "secret",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [("SECURITY_PROTOCOL", "TLS"), ("SASL_MECHANISM", "OAUTH"), ("SSL_CAFILE", "/nowhere/ca.pem")],
)
def test_kafka_security_that_cannot_be_used(name: str, value: str) -> None:
    environment = {"SWITCHBOARD_KAFKA_SECURITY_PROTOCOL": "SASL_SSL", f"SWITCHBOARD_KAFKA_{name}": value}

    with pytest.raises(SettingsError, match="SWITCHBOARD_KAFKA_S"):
        security_options(environment)


def test_all_problems_at_once() -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_environment(
            {"SWITCHBOARD_HTTP_PORT": "http", "SWITCHBOARD_LOG_LEVEL": "loud"},
            required=["kafka_bootstrap_servers"],
        )

    assert refused.value.problems == (
        "SWITCHBOARD_HTTP_PORT is 'http'; it must be a whole number from 1 to 65535.",
        "SWITCHBOARD_LOG_LEVEL is 'loud'; it must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL.",
        "SWITCHBOARD_KAFKA_BOOTSTRAP_SERVERS is not set; it must be host:port of the broker.",
    )


def test_no_secret_in_a_problem_or_in_the_settings_text() -> None:
    url = "postgresql://switchboard:pass-1@db/switchboard"

    with pytest.raises(SettingsError) as refused:
        _from(KEYRING="k1:AAAA", DATABASE_URL=url.replace("postgresql", "mysql"))

    assert len(refused.value.problems) == 2
    assert not any(part in str(refused.value) for part in ("AAAA", "pass-1"))
    shown = repr(_from(KEYRING=_KEYRING, DATABASE_URL=url, KAFKA_SASL_PASSWORD="pass-2"))
    assert not any(part in shown for part in (_KEYRING, "pass-1", "pass-2"))


def test_unknown_variables_are_pointed_out() -> None:
    environment = {"SWITCHBOARD_KEYRNG": "x", "SWITCHBOARD_SERVICE_HOST": "x", "SWITCHBOARD_ACCOUNT": "x", "PATH": "x"}

    assert unknown_variables(environment) == [
        "SWITCHBOARD_KEYRNG is no variable of Switchboard and has no effect; did you mean SWITCHBOARD_KEYRING?",
        "SWITCHBOARD_SERVICE_HOST is no variable of Switchboard and has no effect.",
    ]


def test_what_the_constructor_is_given_is_all_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWITCHBOARD_HTTP_PORT", "81")

    assert Settings(http_port=80).http_port == 80
    assert Settings().http_port == 8080


@pytest.mark.parametrize(
    ("given", "own"), [("k1", "k1:9092"), ("k1:9093", "k1:9093"), ("[::1]:9093", "[::1]:9093"), ("[::1]", "[::1]:9092")]
)
def test_a_broker_without_a_port_has_the_usual_one(given: str, own: str) -> None:
    assert own in _from(KAFKA_BOOTSTRAP_SERVERS=given).own_addresses()
