"""What each login may do on the embedded broker, and how much: as the broker itself tells it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from aiokafka.protocol.admin import DescribeClientQuotasRequest

from services.infrastructure.acls import ADMIN, PRINCIPALS, SUPER_USERS
from services.infrastructure.topics import apply_topics
from tests.broker_rights import LOGINS, MAY, client, rights
from tests.servers import PARTITIONS, Servers

Logins = Callable[[str], dict[str, str]]


@pytest.fixture
def logins(shared_servers: Servers) -> Logins:
    if not shared_servers.logins(ADMIN):
        pytest.skip("the broker of these tests is not the embedded one")
    asyncio.run(apply_topics(shared_servers.bootstrap_servers, PARTITIONS, {}))
    return shared_servers.logins


def test_each_login_may_what_the_table_says_and_no_more(logins: Logins) -> None:
    rows = [line.rsplit(None, len(LOGINS)) for line in MAY.splitlines() if line.strip()]
    for place, login in enumerate(LOGINS, start=1):
        expected = {row[0].strip(): row[place] for row in rows}
        assert (login, asyncio.run(rights(logins(login)))) == (login, expected)
    assert {*LOGINS, *SUPER_USERS} == {*PRINCIPALS}


def test_only_the_customers_login_has_quotas(logins: Logins) -> None:
    async def quotas() -> dict[str, list[str]]:
        async with client(logins(ADMIN)) as admin:
            answer = await admin._send_request(DescribeClientQuotasRequest([("user", 2, None)], strict=False))
        return {entity[0][1]: sorted(name for name, _ in values) for entity, values in answer.entries}

    limited = ["consumer_byte_rate", "producer_byte_rate", "request_percentage"]
    assert asyncio.run(quotas()) == {"demo": limited}
