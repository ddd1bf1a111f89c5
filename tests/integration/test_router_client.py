"""The SDK's router on a running Switchboard: each caller gets the answer to its own request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from contracts.kafka import client
from contracts.kafka.errors import SubscriberError
from contracts.kafka.notices import Notices
from contracts.kafka.router import OutcomeTimeout, PublisherError, Router
from contracts.message_routing import MessageRouted, RouteMessage, RoutingRefused
from contracts.message_status import ReportStatus
from contracts.scheduling_resource import ReportSchedulingResource
from services.infrastructure.embedded.process import free_port
from tests.installation import Installation, fresh, run_apart
from tests.messages import SINGAPOREAN, now, scheduled_channel

OTP = RouteMessage(recipient=SINGAPOREAN, category="authentication")
MARKETING = RouteMessage(recipient=SINGAPOREAN, category="marketing")


@pytest.fixture(scope="module")
def account() -> str:
    return fresh("acct")


@pytest.fixture(scope="module")
def channel(installation: Installation, account: str) -> str:
    return run_apart(scheduled_channel(installation, account))[0]


@pytest.fixture
async def router(installation: Installation, account: str) -> AsyncIterator[Router]:
    async with Router(installation.bootstrap_servers, source="tests", account=account) as router:
        yield router


async def test_a_message_is_routed_and_asked_for_again(router: Router, channel: str) -> None:
    first = await router.route(MARKETING, channel=channel, message_id="m1")
    again = await router.route(MARKETING, channel=channel, message_id="m1")

    assert isinstance(first.decision, MessageRouted)
    assert (first.decision.route, first.decision.rule) == ("not_applicable", "CategoryNotAuthentication")
    assert (first.repeated, again.repeated) == (False, True)
    assert again.decision == first.decision


async def test_an_id_reused_for_another_message_at_the_same_time(router: Router, channel: str) -> None:
    name = fresh("m")
    first, other, again, theirs = await asyncio.gather(
        router.route(MARKETING, channel=channel, message_id=name),
        router.route(OTP, channel=channel, message_id=name),
        router.route(MARKETING, channel=channel, message_id=name),
        router.route(MARKETING, channel=channel, message_id=name, account=fresh("other")),
    )

    assert isinstance(first.decision, MessageRouted)
    assert again.decision == first.decision
    assert isinstance(other.decision, RoutingRefused)
    assert other.decision.reason == "MessageIdReused"
    assert isinstance(theirs.decision, RoutingRefused)
    assert theirs.decision.reason == "ChannelUnknown"


async def test_the_same_message_while_it_waits_for_its_settings(
    router: Router, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second request came while the first waited, so nothing answers it until it is sent again."""
    monkeypatch.setattr(client, "_RESEND_AFTER_S", 1)
    waiting = MARKETING.model_copy(update={"settings_version": 4})
    waiting = RouteMessage.model_validate(waiting.model_dump(exclude_none=True))
    both = asyncio.gather(*(router.route(waiting, channel=channel, message_id="early") for _ in range(2)))
    with pytest.raises(OutcomeTimeout, match="may yet be decided"):
        await router.route(waiting, channel=channel, message_id="early", timeout=1)
    first, second = await both

    assert isinstance(first.decision, RoutingRefused)
    assert first.decision.reason == "SettingsNotKnown"
    assert second.decision == first.decision


async def test_an_envelope_that_breaks_the_contract_is_answered(router: Router, channel: str) -> None:
    routing = await router.route(OTP, channel=channel, actor="x" * 300)
    assert isinstance(routing.decision, RoutingRefused)
    assert routing.decision.reason == "InvalidRequest"
    assert "'actor'" in routing.decision.sentence


async def test_values_that_cannot_be_published(installation: Installation, router: Router, channel: str) -> None:
    with pytest.raises(ValueError, match="channel is 'no channel'; it must be 1 to 128 characters"):
        await router.route(OTP, channel="no channel")
    with pytest.raises(ValueError, match="a command needs an account: give one to the Router or to the call"):
        await Router(installation.bootstrap_servers, source="tests").route(OTP, channel=channel)
    async with Router(installation.bootstrap_servers, source="tests", account="a") as closed:
        pass
    with pytest.raises(PublisherError, match="closed before the answer came"):
        await closed.route(OTP, channel=channel)
    with pytest.raises(PublisherError, match=r"The router is closed; nothing was published\.$"):
        await closed.report_status(ReportStatus(message="m", status="sent", via="chat", at=now()), channel=channel)


async def test_a_resource_is_reported_used_and_withdrawn(router: Router, channel: str) -> None:
    resource = fresh("pool")
    report = ReportSchedulingResource(
        resource=resource, country="SG", sender="+6580000000", units=1_000, as_of=now(), valid_seconds=600
    )

    async def until(route: str) -> None:
        async with asyncio.timeout(30):
            while True:
                decision = (await router.route(OTP, channel=channel)).decision
                assert isinstance(decision, MessageRouted)
                if decision.route == route:
                    return

    await router.report_resource(report)
    await until("scheduled")
    await router.withdraw_resource(resource)
    await until("failed")


async def test_notices_are_shared_by_a_group_and_resumed_after_what_was_processed(
    installation: Installation, router: Router, account: str, channel: str
) -> None:
    names = [fresh("m") for _ in range(6)]
    for name in names:
        await router.route(MARKETING, channel=channel, message_id=name)
    group = fresh("demo")

    async def read(count: int) -> list[str]:
        found: list[str] = []
        async with (
            asyncio.timeout(60),
            Notices(installation.bootstrap_servers, group=group, account=account) as notices,
        ):
            async for notice in notices:
                if isinstance(notice.body, MessageRouted) and notice.body.message in names:
                    found.append(notice.body.message)
                    if len(found) == count:
                        break
        return found

    first, second = await read(4), await read(3)

    assert first == names[:4]
    assert second == names[3:], "the last was not processed: the next was never requested"


async def test_notices_of_a_broker_that_is_away() -> None:
    with pytest.raises(SubscriberError, match=r"^No broker answers at 127.0.0.1:\d+\.$"):
        await Notices(f"127.0.0.1:{free_port()}", group="demo").__aenter__()
    with pytest.raises(ValueError, match="a group needs a name"):
        Notices("127.0.0.1:9092", group="")
