"""Three brokers of Apache Kafka, each also a controller, as guarded child processes.

Topics have three replicas, of which two must have a record before it counts. All connections, also those between the
brokers, are TLS with a login: SCRAM for clients and brokers, PLAIN between the controllers, whose log has the
credentials of SCRAM. `deploy/acls.yaml` says what each client may do.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from services.infrastructure.acls import ADMIN, BROKER, SUPER_USERS
from services.infrastructure.broker_rights import apply_rights
from services.infrastructure.embedded import credentials
from services.infrastructure.embedded.broker_jvm import java, use_startup_cache
from services.infrastructure.embedded.broker_log import answers, common_properties, format_log, new_cluster_id
from services.infrastructure.embedded.certificates import write_certificates
from services.infrastructure.embedded.process import Server, free_port, listens, require_writable
from services.infrastructure.embedded.server import EmbeddedServer
from services.infrastructure.kafka import security_options
from services.infrastructure.transactions import TRANSACTION_TIMEOUT_MS

SIZE = 3
_HEAP = ("-Xms64m", "-Xmx256m")


@dataclass(frozen=True, slots=True)
class Ports:
    """Where a broker is reached: by clients and brokers with TLS and a login, by controllers, and, in the tests alone,
    by clients without either, who may do everything."""

    clients: int
    controllers: int
    open: int | None = None


class ClusterBroker(EmbeddedServer):
    """One of them. It answers only while most of the controllers run."""

    name = "Apache Kafka"
    _what = "Kafka broker of a cluster"
    _port_variable = "SWITCHBOARD_KAFKA_PORT"

    def __init__(self, cluster: EmbeddedCluster, number: int) -> None:
        super().__init__(cluster.directory / f"broker-{number}", cluster.listening[number].clients)
        self.number, self._cluster = number, cluster

    @property
    def log(self) -> Path:
        return self._directory / "kafka.log"

    @property
    def files(self) -> Path:
        """Where it keeps its replicas."""
        return self._directory / "logs"

    def empty_disk(self) -> None:
        """Forgets all that the broker has stored, as a new disk would. It must not run."""
        shutil.rmtree(self.files)

    def _prepared(self) -> Server:
        formatted = (self.files / "meta.properties").exists()
        properties = self._directory / "server.properties"
        credentials.write_private(properties, self._cluster.properties(self.number, self.files))
        command = java(*_HEAP, *use_startup_cache())
        if not formatted:
            format_log(command, properties, self._cluster.cluster_id, self._cluster.passwords, self.log)
        return Server("kafka", (*command, "kafka.Kafka", str(properties)), self._directory)

    def _answers(self) -> bool:
        if not listens(self.port):
            return False
        return asyncio.run(answers(f"127.0.0.1:{self.port}", security_options(self._cluster.environment(ADMIN))))

    def _damage(self) -> str:
        return f"{self.log} says what it found."


class EmbeddedCluster:
    """A context manager. Blocking; use it from a thread where there is an event loop. Raises `EmbeddedServerError`.

    ``advertised`` are the ports under which clients and brokers look for each broker, where it is not reached directly.
    """

    name = "a cluster of three Kafka brokers"

    def __init__(
        self,
        directory: Path,
        port: int | None = None,
        *,
        listening: Mapping[int, Ports] | None = None,
        advertised: Mapping[int, Ports] | None = None,
        abort_scan_ms: int = 1000,
    ) -> None:
        self.directory = directory
        self.listening = listening or {
            number: Ports(free_port() if port is None else port + number - 1, free_port())
            for number in range(1, SIZE + 1)
        }
        self._advertised = advertised or self.listening
        self._abort_scan_ms = abort_scan_ms
        self._authority = directory / "authority.pem"
        self.passwords: dict[str, str] = {}
        self.cluster_id = ""
        self.brokers = {number: ClusterBroker(self, number) for number in self.listening}

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(f"127.0.0.1:{ports.clients}" for ports in self._advertised.values())

    @property
    def open_bootstrap_servers(self) -> str:
        """Without TLS and login, for the tests' own clients."""
        return ",".join(f"127.0.0.1:{ports.open}" for ports in self._advertised.values())

    @property
    def log(self) -> Path:
        return self.directory

    def environment(self, principal: str) -> dict[str, str]:
        """The variables with which a process reaches it as the principal, once it was started."""
        password = self.passwords[principal]
        return credentials.client_environment(self.bootstrap_servers, principal, password, self._authority)

    def start(self) -> Self:
        """Returns when all brokers answer."""
        require_writable(self.directory)
        self._prepare()
        with ThreadPoolExecutor(SIZE) as pool:
            for start in [pool.submit(broker.start) for broker in self.brokers.values()]:
                start.result()
        asyncio.run(apply_rights(self.bootstrap_servers, security_options(self.environment(ADMIN))))
        return self

    def stop(self) -> None:
        """All at once: who is left alone waits in vain for the others."""
        with ThreadPoolExecutor(SIZE) as pool:
            list(pool.map(EmbeddedServer.stop, self.brokers.values()))

    def revive(self) -> bool:
        revived = [broker.revive() for broker in self.brokers.values()]
        return any(revived)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _prepare(self) -> None:
        """What all brokers share, made once; the id of the cluster last, because it says that the rest is there."""
        file = self.directory / "cluster-id"
        formatted = file.exists()
        self.passwords = credentials.broker_passwords(self.directory / "passwords.json", formatted=formatted)
        if not formatted:
            for broker in self.brokers.values():
                broker.files.parent.mkdir(exist_ok=True)
            write_certificates(self._authority, [_key_store(self.directory, number) for number in self.brokers])
            credentials.write_private(file, new_cluster_id())
        self.cluster_id = file.read_text()

    def properties(self, number: int, logs: Path) -> str:
        ports, advertised = self.listening[number], self._advertised[number]
        password = self.passwords[BROKER]
        login = credentials.jaas("scram.ScramLoginModule", BROKER, password)
        controller_login = credentials.jaas("plain.PlainLoginModule", BROKER, password, **{BROKER: password})
        is_open = ports.open is not None
        return f"""
process.roles=broker,controller
node.id={number}
controller.quorum.voters={",".join(f"{one}@127.0.0.1:{at.controllers}" for one, at in self._advertised.items())}
controller.listener.names=CONTROLLER
listeners={_addresses(ports)},CONTROLLER://127.0.0.1:{ports.controllers}
advertised.listeners={_addresses(advertised)}
listener.security.protocol.map=SASL_SSL:SASL_SSL,CONTROLLER:SASL_SSL{",PLAINTEXT:PLAINTEXT" if is_open else ""}
security.inter.broker.protocol=SASL_SSL
ssl.keystore.type=PEM
ssl.keystore.location={_key_store(self.directory, number)}
ssl.truststore.type=PEM
ssl.truststore.location={self._authority}
sasl.enabled.mechanisms={credentials.MECHANISM}
sasl.mechanism.inter.broker.protocol={credentials.MECHANISM}
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={login}
sasl.mechanism.controller.protocol=PLAIN
listener.name.controller.sasl.enabled.mechanisms=PLAIN
listener.name.controller.plain.sasl.jaas.config={controller_login}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users={";".join(f"User:{one}" for one in (*SUPER_USERS, *(("ANONYMOUS",) if is_open else ())))}
transaction.max.timeout.ms={TRANSACTION_TIMEOUT_MS}
default.replication.factor={SIZE}
min.insync.replicas=2
offsets.topic.replication.factor={SIZE}
transaction.state.log.replication.factor={SIZE}
transaction.state.log.min.isr=2
# A broker that is away loses its leaderships when its session ends, and its place among the replicas in sync.
broker.session.timeout.ms=3000
replica.lag.time.max.ms=5000
request.timeout.ms=5000
{common_properties(logs, self._abort_scan_ms)}"""


def _addresses(ports: Ports) -> str:
    addresses = [f"SASL_SSL://127.0.0.1:{ports.clients}"]
    if ports.open is not None:
        addresses.append(f"PLAINTEXT://127.0.0.1:{ports.open}")
    return ",".join(addresses)


def _key_store(directory: Path, number: int) -> Path:
    return directory / f"broker-{number}" / "key.pem"
