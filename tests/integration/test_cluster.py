"""Three brokers with replicas, TLS and rights: every service works there, and none can do another's work."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import permutations

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import NotLeaderForPartitionError, TopicAuthorizationFailedError
from aiokafka.protocol.fetch import FetchRequest
from typer.testing import CliRunner

from contracts import topics
from services.cli.main import app
from services.infrastructure.acls import ACLS, ADMIN, ALLOW, LITERAL, AclEntry, Operation, Resource
from services.infrastructure.embedded.cluster import EmbeddedCluster, Ports
from services.infrastructure.embedded.process import free_port
from services.infrastructure.kafka import security_options
from services.infrastructure.library_internals.aiokafka_admin import create_acls, delete_acls, set_quotas
from tests.broker_rights import LOGINS, MAY, client, rights
from tests.customer import customer
from tests.installation import SERVICES, Installation, fresh_database
from tests.receivers import Receiver, ok
from tests.servers import PARTITIONS, Servers


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    listening = {number: Ports(free_port(), free_port(), free_port()) for number in (1, 2, 3)}
    with EmbeddedCluster(tmp_path_factory.mktemp("cluster"), listening=listening) as running:
        yield running


@pytest.fixture
def with_topics(cluster: EmbeddedCluster) -> EmbeddedCluster:
    topics_apply(cluster)
    return cluster


def topics_apply(cluster: EmbeddedCluster, *options: str) -> tuple[int, list[str]]:
    """The exit code of the command as the operator gives it, and its lines."""
    environment = cluster.environment(ADMIN) | {"SWITCHBOARD_PARTITIONS": str(PARTITIONS)}
    done = CliRunner().invoke(app, ["topics", "apply", *options], env=environment)
    return done.exit_code, done.output.splitlines()


@pytest.mark.timeout(240)
def test_topics_apply_says_what_differs_and_mends_it(cluster: EmbeddedCluster) -> None:
    # Before the first time, nothing is there but the rights.
    code, lines = topics_apply(cluster, "--check")
    assert (code, lines) == (1, [f"Topic {topic.name} does not exist." for topic in topics.TOPICS])
    assert topics_apply(cluster)[0] == 0
    assert topics_apply(cluster, "--check") == (0, ["Nothing differs."])

    # Somebody changes a setting, a right, a quota, and gives a right that nobody should have.
    mine = next(acl for acl in sorted(ACLS) if acl.principal == "User:gateway")
    others = AclEntry(Resource.TOPIC, topics.SIGNATURES.name, LITERAL, "User:demo", "*", Operation.READ, ALLOW)

    async def meddle() -> None:
        async with client(cluster.environment(ADMIN)) as admin:
            settings = topics.USAGE.settings | {"min.insync.replicas": "2", "retention.ms": "5"}
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topics.USAGE.name, settings)])
            await delete_acls(admin, [mine])
            await create_acls(admin, [others])
            await set_quotas(admin, {"demo": {"request_percentage": None}, "decider": {"producer_byte_rate": 1.0}})

    asyncio.run(meddle())
    differences = [
        f"Topic switchboard.usage: retention.ms is 5, it should be {topics.USAGE.settings['retention.ms']}.",
        f"Missing: {mine}.",
        "Too much: User:demo may READ topic switchboard.signatures from *.",
        "Quota of User:decider: producer_byte_rate is 1.0, it should be not set.",
        "Quota of User:demo: request_percentage is not set, it should be 50.0.",
    ]
    assert topics_apply(cluster, "--check") == (1, differences)
    assert topics_apply(cluster) == (0, differences)
    assert topics_apply(cluster, "--check") == (0, ["Nothing differs."])


@pytest.mark.timeout(120)
def test_no_service_can_do_anothers_work(with_topics: EmbeddedCluster) -> None:
    """For each pair: with the other's login, the service lacks something that it needs."""
    found = {login: asyncio.run(rights(with_topics.environment(login))) for login in LOGINS}
    rows = [line.rsplit(None, len(LOGINS)) for line in MAY.splitlines() if line.strip()]
    for place, login in enumerate(LOGINS, start=1):
        assert (login, found[login]) == (login, {row[0].strip(): row[place] for row in rows})
    for service, other in permutations(LOGINS, 2):
        lacks = [what for what, may in found[service].items() if set(may.strip("-")) - set(found[other][what])]
        assert lacks, f"{service} can work with the login of {other}"


@pytest.mark.timeout(60)
async def test_a_refused_login_appends_nothing(with_topics: EmbeddedCluster) -> None:
    environment = with_topics.environment("projector")
    async with AIOKafkaProducer(
        bootstrap_servers=with_topics.bootstrap_servers, **security_options(environment)
    ) as producer:
        with pytest.raises(TopicAuthorizationFailedError):
            await producer.send_and_wait(topics.COMMANDS.name, b"x", partition=0)


@pytest.mark.timeout(60)
async def test_a_follower_answers_no_consumer(with_topics: EmbeddedCluster) -> None:
    """So a consumer learns at once that its leader is another now: from a follower it would read half a second late."""
    async with client(with_topics.environment(ADMIN)) as admin:
        [described] = await admin.describe_topics([topics.EVENTS.name])
        [(leader, replicas)] = [
            (one["leader"], one["replicas"]) for one in described["partitions"] if not one["partition"]
        ]
        follower = next(number for number in replicas if number != leader)
        asked = FetchRequest(0, 0, 1000, 1, [(topics.EVENTS.name, [(0, 0, 1000)])])
        answers = [await admin._send_request(asked, number) for number in (leader, follower)]
    codes = [answer.topics[0][1][0][1] for answer in answers]
    assert codes == [0, NotLeaderForPartitionError.errno]


@pytest.mark.timeout(240)
def test_every_service_works(
    cluster: EmbeddedCluster, shared_servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """With its own login, by TLS, on topics with three replicas: a command, its reading, a signed call, a message."""
    servers, dsn = cluster.open_bootstrap_servers, fresh_database(shared_servers.dsn)

    async def use(installation: Installation) -> None:
        async with Receiver(installation.receiver_port()) as receiver, customer(installation) as shop:
            await shop.open("crm", receiver.on("orders", ok))
            assert (await shop.invoke("crm"))["delivery"]["state"] == "delivered"
            message = {"recipient": "+6591234567", "category": "authentication"}
            decided = await shop.api("POST", f"channels/{shop.channel}/message-decisions", message)
            assert decided.status == 200, decided.body

    with Installation(servers, dsn, tmp_path_factory.mktemp("services"), logins=cluster.environment) as installation:
        assert {*installation.services} == {*SERVICES}
        asyncio.run(use(installation))
    assert "AuthorizationFailed" not in installation.output()
    assert "cannot be read" not in installation.output()

    async def replicas() -> set[int]:
        async with client(cluster.environment(ADMIN)) as admin:
            described = await admin.describe_topics([topic.name for topic in topics.TOPICS])
            return {len(one["replicas"]) for topic in described for one in topic["partitions"]}

    assert asyncio.run(replicas()) == {3}
