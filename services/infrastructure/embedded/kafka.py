"""Apache Kafka itself, in KRaft mode on one node, as a guarded child process.

Clients log in with SCRAM, and `deploy/acls.yaml` says what each may do. The controller's listener takes the broker
alone, by PLAIN: the credentials of SCRAM are in the log that the controller has yet to read when the broker registers
with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from services.infrastructure.acls import ADMIN, BROKER, SUPER_USERS
from services.infrastructure.broker_rights import apply_rights
from services.infrastructure.embedded import credentials
from services.infrastructure.embedded.broker_jvm import java, use_startup_cache
from services.infrastructure.embedded.broker_log import answers, common_properties, format_log, new_cluster_id
from services.infrastructure.embedded.process import Server, free_port, listens
from services.infrastructure.embedded.server import EmbeddedServer
from services.infrastructure.kafka import security_options
from services.infrastructure.transactions import TRANSACTION_TIMEOUT_MS


def _listeners(port: int, controller_port: int, open_port: int | None, passwords: Mapping[str, str] | None) -> str:
    """``passwords`` None: everybody may do everything. ``open_port``: there too, beside the listener with SCRAM."""
    clients = {} if passwords is None else {credentials.PROTOCOL: port}
    open_to_all = open_port if passwords is not None else port
    if open_to_all is not None:
        clients["PLAINTEXT"] = open_to_all
    addresses = ",".join(f"{name}://127.0.0.1:{number}" for name, number in clients.items())
    protocols = ",".join(f"{name}:{name}" for name in clients)
    controller = "PLAINTEXT" if passwords is None else credentials.PROTOCOL
    return f"""
listeners={addresses},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners={addresses}
listener.security.protocol.map={protocols},CONTROLLER:{controller}
security.inter.broker.protocol={controller}
{"" if passwords is None else _restrictions(passwords[BROKER], open_port)}"""


def _restrictions(password: str, open_port: int | None) -> str:
    login = credentials.jaas("scram.ScramLoginModule", BROKER, password)
    controller_login = credentials.jaas("plain.PlainLoginModule", BROKER, password, **{BROKER: password})
    super_users = [*SUPER_USERS, *(() if open_port is None else ("ANONYMOUS",))]
    return f"""
sasl.enabled.mechanisms={credentials.MECHANISM}
sasl.mechanism.inter.broker.protocol={credentials.MECHANISM}
listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config={login}
sasl.mechanism.controller.protocol=PLAIN
listener.name.controller.sasl.enabled.mechanisms=PLAIN
listener.name.controller.plain.sasl.jaas.config={controller_login}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users={";".join(f"User:{one}" for one in super_users)}
# An open transaction hides what follows it: nobody may ask for longer than the decider does.
transaction.max.timeout.ms={TRANSACTION_TIMEOUT_MS}
"""


def _properties(logs: Path, listeners: str, controller_port: int, abort_scan_ms: int) -> str:
    return f"""
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
controller.listener.names=CONTROLLER
{listeners}
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
# After a crash the broker may register again only when its old session is over.
broker.session.timeout.ms=2000
{common_properties(logs, abort_scan_ms)}"""


class EmbeddedKafka(EmbeddedServer):
    """A broker. ``abort_scan_ms`` is how often it looks for transactions that have timed out.

    With ``secured`` clients log in; `up` asks for nothing else. ``open_port`` is a second port without a login, for
    tests that have clients of their own beside services that log in. ``jvm_options`` replace the startup cache.
    """

    name = "Apache Kafka"
    _what = "Kafka broker"
    _port_variable = "SWITCHBOARD_KAFKA_PORT"

    def __init__(
        self,
        directory: Path,
        port: int | None = None,
        *,
        abort_scan_ms: int = 1000,
        secured: bool = False,
        open_port: int | None = None,
        jvm_options: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__(directory, port)
        self._jvm_options = jvm_options
        self._abort_scan_ms = abort_scan_ms
        self._secured = secured
        self._open_port = open_port
        self._passwords: dict[str, str] | None = None

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    def environment(self, principal: str) -> dict[str, str]:
        """The variables with which a process reaches it as the principal, once it was started."""
        if self._passwords is None:
            return {"SWITCHBOARD_KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers}
        return credentials.client_environment(self.bootstrap_servers, principal, self._passwords[principal])

    @property
    def log(self) -> Path:
        return self._directory / "kafka.log"

    def start(self) -> Self:
        super().start()
        if self._passwords is not None:
            asyncio.run(apply_rights(self.bootstrap_servers, security_options(self.environment(ADMIN))))
        return self

    def _prepared(self) -> Server:
        formatted = (self._directory / "logs" / "meta.properties").exists()
        if self._secured:
            self._passwords = credentials.broker_passwords(self._directory / "passwords.json", formatted=formatted)
        controller_port = free_port()
        listeners = _listeners(self.port, controller_port, self._open_port, self._passwords)
        properties = self._directory / "server.properties"
        text = _properties(self._directory / "logs", listeners, controller_port, self._abort_scan_ms)
        credentials.write_private(properties, text)
        command = java(*(use_startup_cache() if self._jvm_options is None else self._jvm_options))
        if not formatted:
            format_log(
                java() if self._jvm_options else command, properties, new_cluster_id(), self._passwords, self.log
            )
        return Server("kafka", (*command, "kafka.Kafka", str(properties)), self._directory)

    def _answers(self) -> bool:
        if not listens(self.port):
            return False
        return asyncio.run(answers(self.bootstrap_servers, security_options(self.environment(ADMIN))))

    def _damage(self) -> str:
        return (
            f"its log directory {self._directory / 'logs'} is damaged or cannot be used. {self.log} says what it "
            "found; a copy of the directory, or an empty one, would work."
        )
