"""The generated passwords of the embedded broker's principals, and the files that hand them to clients."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path

from services.infrastructure.acls import PRINCIPALS
from services.infrastructure.embedded.process import DirectoryUnusable

PROTOCOL = "SASL_PLAINTEXT"
TLS_PROTOCOL = "SASL_SSL"
MECHANISM = "SCRAM-SHA-512"


def write_private(path: Path, text: str) -> None:
    """Replaces the file as a whole; at no moment can another user read it."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write(text)
    new.replace(path)


def broker_passwords(file: Path, *, formatted: bool) -> dict[str, str]:
    """The password of each principal, made where the broker's log is not ``formatted`` yet: formatting stores them.

    Raises `DirectoryUnusable` for a log that was formatted without them.
    """
    if not formatted:
        write_private(file, json.dumps({principal: secrets.token_urlsafe(24) for principal in PRINCIPALS}))
    try:
        passwords: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
        return {principal: passwords[principal] for principal in PRINCIPALS}
    except (OSError, ValueError, KeyError):
        raise DirectoryUnusable(
            f"{file.parent} holds the data of a broker without the passwords that {file.name} should have, so nobody "
            "could log in; set SWITCHBOARD_DATA_DIR to a fresh directory, or delete this one with all its data."
        ) from None


def client_environment(
    bootstrap_servers: str, principal: str, password: str, authority: Path | None = None
) -> dict[str, str]:
    """The variables with which a process reaches the broker as the principal; by TLS where there is an authority."""
    tls = {} if authority is None else {"SWITCHBOARD_KAFKA_SSL_CAFILE": str(authority)}
    return tls | {
        "SWITCHBOARD_KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "SWITCHBOARD_KAFKA_SECURITY_PROTOCOL": PROTOCOL if authority is None else TLS_PROTOCOL,
        "SWITCHBOARD_KAFKA_SASL_MECHANISM": MECHANISM,
        "SWITCHBOARD_KAFKA_SASL_USERNAME": principal,
        "SWITCHBOARD_KAFKA_SASL_PASSWORD": password,
    }


def kcat_conf(bootstrap_servers: str, principal: str, password: str, authority: str | None = None) -> str:
    """For ``kcat -F`` and every other client on librdkafka."""
    tls = "" if authority is None else f"ssl.ca.location={authority}\n"
    return (
        f"bootstrap.servers={bootstrap_servers}\nsecurity.protocol={_protocol(authority)}\n"
        f"{tls}sasl.mechanism={MECHANISM}\n"
        f"sasl.username={principal}\nsasl.password={password}\n"
    )


def client_properties(bootstrap_servers: str, principal: str, password: str, authority: str | None = None) -> str:
    """For Kafka's own clients and tools, such as ``--command-config``."""
    tls = "" if authority is None else f"ssl.truststore.type=PEM\nssl.truststore.location={authority}\n"
    return (
        f"bootstrap.servers={bootstrap_servers}\nsecurity.protocol={_protocol(authority)}\n"
        f"{tls}sasl.mechanism={MECHANISM}\n"
        f"sasl.jaas.config={jaas('scram.ScramLoginModule', principal, password)}\n"
    )


def _protocol(authority: str | None) -> str:
    return PROTOCOL if authority is None else TLS_PROTOCOL


def jaas(module: str, principal: str, password: str, **users: str) -> str:
    """A JAAS entry; ``users`` are those that a PLAIN listener lets in, with their passwords."""
    accepted = "".join(f' user_{user}="{word}"' for user, word in users.items())
    login = f'username="{principal}" password="{password}"'
    return f"org.apache.kafka.common.security.{module} required {login}{accepted};"
