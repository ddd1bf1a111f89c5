"""``switchboard up``: the embedded broker and database, every service as a child process, and the demo."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from projections.settings import queries as settings_queries
from services.cli.connection_file import write_connection
from services.cli.demo import CHANNEL, DEMO_ACCOUNT, Demo
from services.cli.demo_messages import route_messages
from services.cli.service_child import READY_TIMEOUT_S, Child, say
from services.cli.service_settings import SERVICES
from services.decider.grow_partitions import finish_growth
from services.gateway.authentication import api_keys
from services.gateway.authentication.authenticator import authenticate
from services.gateway.authentication.roles import PLATFORM, Scope
from services.gateway.database_schemas import apply_database
from services.infrastructure.acls import ADMIN, CUSTOMER
from services.infrastructure.config import Settings
from services.infrastructure.embedded.cluster import EmbeddedCluster
from services.infrastructure.embedded.credentials import client_properties, kcat_conf, write_private
from services.infrastructure.embedded.kafka import EmbeddedKafka
from services.infrastructure.embedded.postgres import EmbeddedPostgres
from services.infrastructure.embedded.private_files import keep_private
from services.infrastructure.embedded.process import (
    EmbeddedServerError,
    raise_open_file_limit,
    require_free,
    require_writable,
)
from services.infrastructure.kafka import security_options
from services.infrastructure.library_internals.asyncpg import database_addresses
from services.infrastructure.postgres import pool_of
from services.infrastructure.topics import apply_topics
from services.infrastructure.unfinished_restore import require_whole_log
from services.infrastructure.vault import KeyRing


def _stopwatch() -> Callable[[str], None]:
    """Says what is done, with the seconds since now."""
    begun = time.monotonic()
    return lambda done: say(f"{time.monotonic() - begun:5.1f} s  {done}")


def stored_secret(path: Path, new: str) -> str:
    """Returns the secret in the file. A missing file is created with ``new``, readable by its owner only."""
    if not path.exists():
        write_private(path, new)
    return path.read_text()


def run_everything(settings: Settings, *, demo: bool, cluster: bool = False) -> None:
    """Returns after SIGTERM or Ctrl-C, everything stopped. Raises `EmbeddedServerError` and `SettingsError`."""
    step = _stopwatch()
    stopping = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stopping.set())
    data = settings.data_dir
    raise_open_file_limit()
    require_writable(data)
    keep_private(data)
    require_free(settings.http_port, "the API", "SWITCHBOARD_HTTP_PORT", host=settings.http_host)
    (data / "logs").mkdir(exist_ok=True)
    with ExitStack() as stack:
        servers: list[EmbeddedKafka | EmbeddedCluster | EmbeddedPostgres] = []
        environment, logins = _with_servers(settings, stack, servers, step, cluster=cluster)
        receiver = stack.enter_context(Demo(data, say)) if demo else None
        if receiver is not None:
            allowed = [*settings.invoker_allow, receiver.address]
            environment["SWITCHBOARD_INVOKER_ALLOW"] = ",".join(allowed)
        given = Settings.from_environment(environment)
        as_admin, as_customer = environment | logins(ADMIN), environment | logins(CUSTOMER)
        asyncio.run(require_whole_log(given.kafka_bootstrap_servers or "", security_options(as_admin)))
        asyncio.run(apply_topics(given.kafka_bootstrap_servers or "", given.partitions, security_options(as_admin)))
        if asyncio.run(finish_growth(given.kafka_bootstrap_servers or "", security_options(as_admin))) is not None:
            step("The partitions have grown, which was interrupted.")
        asyncio.run(_apply_database(given))
        step("The topics and the tables are there.")
        children = [
            Child(service, environment_of(service, environment | logins(service)), data / "logs" / f"{service}.log")
            for service in SERVICES
        ]
        stack.callback(_stop_all, children)
        for child in children:
            child.start()
        for child in children:
            child.wait_until_ready()
        step(f"The services run: {', '.join(SERVICES)}.")
        keys = asyncio.run(_api_keys(given))
        host = f"[{given.http_host}]" if ":" in given.http_host else given.http_host
        scheme = "http" if given.http_tls_certificate is None else "https"
        address = f"{scheme}://{host}:{given.http_port}"
        api = {"SWITCHBOARD_API_URL": address, "SWITCHBOARD_API_KEY": keys[0]}
        stack.callback(write_connection(data, as_admin | api).unlink, missing_ok=True)
        _write_client_files(data, logins(CUSTOMER))
        if receiver is not None:
            customer = given.kafka_bootstrap_servers or "", security_options(as_customer)
            version = asyncio.run(receiver.walk(*customer))
            asyncio.run(_wait_for_read_model(given, version))
            if version:
                asyncio.run(route_messages(given, security_options(as_admin), security_options(as_customer), say))
                receiver.finish()
            receiver.follow_rotations(*customer)
        say("")
        say(f"Console            {address}/")
        say(f"API                {address}/v1  (described at {address}/docs)")
        say(f"Kafka bootstrap    {given.kafka_bootstrap_servers}")
        say(f"PostgreSQL         {', '.join(given.database_servers())}  (its DSN is in {data / 'connection.json'})")
        say(f"Kafka clients      {data / 'kcat.conf'} and client.properties have a login")
        say(f"API key            {keys[0]}  (account {DEMO_ACCOUNT})")
        say(f"Platform API key   {keys[1]}  (registers channels, for the account in Switchboard-Account)")
        say(f"Data and logs      {data}")
        say("Switchboard is ready")
        while not stopping.wait(0.5):
            for server in servers:
                if server.revive():
                    say(f"{server.name} had ended and is restarted; see {server.log}")
            for child in children:
                child.revive()


def environment_of(service: str, environment: Mapping[str, str]) -> dict[str, str]:
    """What the service is told: no keyring and no login to the database where it needs none. Each has a port of its own
    for its metrics, counted from the one that is given.

    Every service knows the database's address, which no call may reach.
    """
    given = dict(environment)
    if port := given.get("SWITCHBOARD_METRICS_PORT"):
        given["SWITCHBOARD_METRICS_PORT"] = str(int(port) + list(SERVICES).index(service))
    if "keyring" not in SERVICES[service]:
        given.pop("SWITCHBOARD_KEYRING", None)
    if "database_url" not in SERVICES[service] and (url := given.get("SWITCHBOARD_DATABASE_URL")):
        addresses = database_addresses(url)
        hosts = ",".join(f"[{host}]" if ":" in host else host for host, _ in addresses)
        query = urlencode({"host": hosts, "port": ",".join(str(port) for _, port in addresses)})
        given["SWITCHBOARD_DATABASE_URL"] = f"postgresql:///?{query}"
    return given


def _with_servers(
    settings: Settings,
    stack: ExitStack,
    servers: list[EmbeddedKafka | EmbeddedCluster | EmbeddedPostgres],
    step: Callable[[str], None],
    *,
    cluster: bool,
) -> tuple[dict[str, str], Callable[[str], dict[str, str]]]:
    """Starts in parallel what the environment does not name.

    Returns the environment with all addresses, and what a principal adds to it; nothing on servers of one's own.
    """
    logins: list[Callable[[str], dict[str, str]]] = []
    environment = dict(os.environ) | {"SWITCHBOARD_DATA_DIR": str(settings.data_dir)}
    if settings.kafka_bootstrap_servers is None:
        kafka = (
            EmbeddedCluster(settings.data_dir / "kafka-cluster", settings.kafka_port)
            if cluster
            else EmbeddedKafka(settings.data_dir / "kafka", settings.kafka_port, secured=True)
        )
        logins.append(kafka.environment)
        environment["SWITCHBOARD_KAFKA_BOOTSTRAP_SERVERS"] = kafka.bootstrap_servers
        servers.append(kafka)
    if settings.database_url is None:
        postgres = EmbeddedPostgres(settings.data_dir / "postgres", settings.postgres_port)
        servers.append(postgres)
    with ThreadPoolExecutor(2) as pool:
        starts: dict[Future[Any], str] = {}
        if servers:
            say(f"Starting {' and '.join(server.name for server in servers)} …")
        for server in servers:
            stack.callback(server.stop)
            starts[pool.submit(server.start)] = server.name
        for start in as_completed(starts):
            start.result()
            step(f"{starts[start]} runs.")
    if settings.database_url is None:
        environment["SWITCHBOARD_DATABASE_URL"] = postgres.dsn
        logins.append(postgres.environment)
    if settings.keyring is None:
        environment["SWITCHBOARD_KEYRING"] = stored_secret(settings.data_dir / "keyring", KeyRing.make())
    return environment, lambda principal: {name: value for login in logins for name, value in login(principal).items()}


def _write_client_files(data: Path, login: dict[str, str]) -> None:
    """For customers' clients; without a login, on a broker of one's own, there is nothing to write."""
    if login:
        given = Settings.from_environment(login)
        user, password = given.kafka_sasl_username or "", given.kafka_sasl_password or ""
        access = (given.kafka_bootstrap_servers or "", user, password, given.kafka_ssl_cafile)
        write_private(data / "kcat.conf", kcat_conf(*access))
        write_private(data / "client.properties", client_properties(*access))


def _stop_all(children: list[Child]) -> None:
    say("Stopping …")
    for child in children:
        child.stop()
    for child in children:
        child.wait()


async def _wait_for_read_model(settings: Settings, version: int) -> None:
    """Waits until the read model shows the demo's last version, so that a reader finds it after "ready"."""
    pool = await pool_of(settings, size=1)
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            while version > await settings_queries.channel_version(pool, DEMO_ACCOUNT, CHANNEL):  # noqa: ASYNC110
                await asyncio.sleep(0.05)  # it moves in another process
    except TimeoutError:
        raise EmbeddedServerError(
            "The read model did not catch up; see logs/projector.log in the data directory."
        ) from None
    finally:
        await pool.close()


async def _apply_database(settings: Settings) -> None:
    pool = await pool_of(settings, size=1)
    try:
        await apply_database(pool)
    finally:
        await pool.close()


async def _api_keys(settings: Settings) -> tuple[str, str]:
    """The account's and the platform's API key, created once per data directory."""
    pool = await pool_of(settings, size=1)
    try:

        async def key(name: str, scope: Scope) -> str:
            path = settings.data_dir / name
            if path.exists() and await authenticate(pool, path.read_text()) is not None:
                return path.read_text()
            path.unlink(missing_ok=True)
            return stored_secret(path, await api_keys.create(pool, scope=scope, label="made by up"))

        return await key("api-key", Scope(DEMO_ACCOUNT)), await key("platform-api-key", PLATFORM)
    finally:
        await pool.close()
