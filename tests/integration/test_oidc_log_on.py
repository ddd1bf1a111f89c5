"""Logging on to the console at a real issuer: there and back, once, by the browser that asked; and off everywhere."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from services.gateway.authentication.oidc.log_on import code_challenge
from services.infrastructure.postgres import pool_of
from tests.console_browser import CALLBACK, Browser, Console, console_of
from tests.installation import Installation, fresh
from tests.local_issuer import LocalIssuer, rsa_key
from tests.oidc_provider import OidcProvider, trusting
from tests.patience import PATIENCE_S

REFUSED = "This did not log you on."


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OidcProvider]:
    with OidcProvider(tmp_path_factory.mktemp("oidc")) as provider:
        yield provider


@pytest.fixture
async def console(installation: Installation, provider: OidcProvider) -> AsyncIterator[Console]:
    async with console_of(installation, trusting(provider.issuer, min_interval_s=0.2), provider.issuer) as console:
        yield console


async def known(provider: OidcProvider, subject: str, account: str, **claims: Any) -> str:
    await provider.set_claims(subject, name=f"Ms {subject}", groups=["tenants"], tenant=account, **claims)
    return subject


async def test_somebody_logs_on_and_is_named(
    installation: Installation, console: Console, provider: OidcProvider
) -> None:
    account, channel = fresh("acct"), fresh("ch")
    shop = {"channel_type": "whatsapp", "name": "Shop", "enterprise_authenticated": True}
    async with installation.api(None, **{"Switchboard-Account": account}) as platform:
        assert (await platform("PUT", f"channels/{channel}", shop)).status == 201
        assert (await platform("GET", f"channels/{channel}?min_version=1")).status == 200
    subject = await known(provider, fresh("alice"), account)
    async with console.browser() as browser:
        assert "Log on with Example" in (await browser.get("/console/log-on")).text
        asked = await browser.ask()
        assert {name: asked[name] for name in ("response_type", "client_id", "redirect_uri", "scope")} == {
            "response_type": "code",
            "client_id": "console",
            "redirect_uri": f"http://127.0.0.1{CALLBACK}",
            "scope": "openid profile",
        }
        assert asked["code_challenge_method"] == "S256"
        came_back = await browser.get(CALLBACK, **await browser.consent(asked, subject))
        assert came_back.status == 200
        assert 'content="0; url=/console/history"' in came_back.text
        session = came_back.cookies["switchboard-session"]
        assert (session["httponly"], session["samesite"], session["max-age"]) == (True, "strict", "")
        assert came_back.cookies["switchboard-log-on"]["max-age"] == "0"
        assert f"Ms {subject}" in (await browser.get("/console/channels")).text
        sms = {"form_token": await browser.form_token(), "enabled": "true"}
        assert await browser.post(f"/console/channels/{channel}/service-settings/sms", **sms) == 303
    async with installation.api(account) as api:
        entry = (await api("GET", f"audit/log?channel={channel}")).body["entries"][-1]
    assert (entry["type"], entry["actor"]) == ("SmsActivated", f"{provider.issuer}#{subject}")
    assert entry["origin"]["actorname"] == f"Ms {subject}"


async def test_the_state_is_kept_by_one_browser_for_one_answer(console: Console, provider: OidcProvider) -> None:
    subject = await known(provider, fresh("bob"), fresh("acct"))
    async with console.browser() as browser, console.browser() as another:
        sent = await browser.get("/console/log-on/issuer", issuer=provider.issuer)
        kept = sent.cookies["switchboard-log-on"]
        assert (kept["httponly"], kept["samesite"], kept["max-age"]) == (True, "lax", "600")
        asked = dict(parse_qsl(urlsplit(sent.headers["Location"]).query))
        answer = await browser.consent(asked, subject)
        await another.ask()
        assert (await another.get(CALLBACK, **answer)).status == 422  # somebody is not to be logged on as another
        assert not await another.is_logged_on()
        assert (await browser.get(CALLBACK, **answer)).status == 200
        browser.session.cookie_jar.clear()
        browser.session.cookie_jar.update_cookies({"switchboard-log-on": kept["value"]})
        again = await browser.get(CALLBACK, **answer)
        assert (again.status, REFUSED in again.text) == (422, True)
        assert not await browser.is_logged_on()


WRONG_ANSWERS: tuple[dict[str, str | None], ...] = (
    {"state": "another"},
    {"state": ""},
    {"code": "another"},
    {"code": None, "error": "access_denied"},
    {"iss": "https://another.example"},
    {},
)
"""With nothing changed it comes too late."""


async def test_an_answer_that_is_not_to_the_question_is_refused(
    installation: Installation, console: Console, provider: OidcProvider, subtests: pytest.Subtests
) -> None:
    for changed in WRONG_ANSWERS:
        subject = await known(provider, fresh("carol"), fresh("acct"))
        with subtests.test(str(changed)):
            async with console.browser() as browser:
                answer = await browser.consent(await browser.ask(), subject)
                if not changed:
                    pool = await pool_of(installation.settings, size=1)
                    await pool.execute("UPDATE console.log_ons SET created_at = created_at - interval '11 minutes'")
                    await pool.close()
                answer = {name: value for name, value in (answer | changed).items() if value is not None}
                refused = await browser.get(CALLBACK, **answer)
                assert (refused.status, REFUSED in refused.text) == (422, True)
                assert "switchboard-session" not in refused.cookies
                assert not await browser.is_logged_on()


WRONG_CLAIMS: tuple[dict[str, Any], ...] = (
    {"groups": ["strangers"]},
    {"nonce": "another"},
    {"aud": "switchboard"},
    {"azp": "another"},
    {"exp": 5},
    {"iss": "x"},
)
"""The issuer itself signs these."""


async def test_an_id_token_that_is_not_for_this_log_on_is_refused(
    console: Console, provider: OidcProvider, subtests: pytest.Subtests
) -> None:
    for claims in WRONG_CLAIMS:
        subject = fresh("dave")
        right: dict[str, Any] = {"groups": ["tenants"], "tenant": fresh("acct")}
        with subtests.test(str(claims)):
            await provider.set_claims(subject, **(right | claims))
            async with console.browser() as browser:
                refused = await browser.log_on(subject)
                assert (refused.status, REFUSED in refused.text) == (422, True)
                assert not await browser.is_logged_on()
                await provider.set_claims(subject, **right)
                assert (await browser.log_on(subject)).status == 200


async def test_only_an_issuer_of_the_configuration_is_gone_to(console: Console) -> None:
    queries: tuple[dict[str, str], ...] = ({"issuer": "https://another.example"}, {"issuer": ""}, {})
    async with console.browser() as browser:
        answers = [(await browser.get("/console/log-on/issuer", **query)).status for query in queries]
    assert answers == [404, 404, 404]


async def test_no_log_on_leads_elsewhere(console: Console, provider: OidcProvider) -> None:
    for page in ("https://evil.example/", "//evil.example/", "/console/\\evil.example"):
        subject = await known(provider, fresh("erin"), fresh("acct"))
        async with console.browser() as browser:
            came_back = await browser.get(CALLBACK, **await browser.consent(await browser.ask(page), subject))
            assert 'content="0; url=/console/channels"' in came_back.text
            assert "evil" not in came_back.text


async def test_logging_off_everywhere_ends_all_sessions_of_the_person(console: Console, provider: OidcProvider) -> None:
    account = fresh("acct")
    person, other = await known(provider, fresh("fay"), account), await known(provider, fresh("gus"), account)
    async with console.browser() as here, console.browser() as there, console.browser() as others:
        for browser, subject in ((here, person), (there, person), (others, other)):
            assert (await browser.log_on(subject)).status == 200
        live = asyncio.create_task(read_to_end(there))
        lasting = asyncio.create_task(read_to_end(others))
        await asyncio.sleep(1)
        assert not live.done()
        assert await here.post("/console/log-off-everywhere", form_token=await here.form_token()) == 303
        async with asyncio.timeout(PATIENCE_S):
            await live
        assert [await one.is_logged_on() for one in (here, there, others)] == [False, False, True]
        assert not lasting.done()
        lasting.cancel()


async def read_to_end(browser: Browser) -> None:
    async with browser.session.get("/console/events") as response:
        assert response.status == 200
        await response.content.read()


async def test_a_session_may_do_what_the_configuration_says_now(
    installation: Installation, console: Console, provider: OidcProvider
) -> None:
    """Another gateway has the configuration of tomorrow."""
    subject = await known(provider, fresh("hal"), fresh("acct"))
    other = [{"claims": {"groups": "others"}, "roles": ["viewer"], "scope": "platform"}]
    async with console.browser() as browser:
        assert (await browser.log_on(subject)).status == 200
        cookies = {one.key: one.value for one in browser.session.cookie_jar}
        for issuers, logged_on in ((trusting(provider.issuer), True), (trusting(provider.issuer, grants=other), False)):
            async with console_of(installation, issuers, provider.issuer) as tomorrow, tomorrow.browser() as there:
                there.session.cookie_jar.update_cookies(cookies)
                assert await there.is_logged_on() is logged_on


async def test_while_the_issuer_is_away_a_page_says_so(installation: Installation) -> None:
    issuer = LocalIssuer(rsa_key("one")).issuer
    async with console_of(installation, trusting(issuer), issuer) as console, console.browser() as browser:
        away = await browser.get("/console/log-on/issuer", issuer=issuer)
        assert (away.status, "its issuer does not answer at the moment" in away.text) == (503, True)


async def test_the_code_is_redeemed_with_its_verifier_and_the_secret(installation: Installation) -> None:
    key = rsa_key("one")
    async with (
        LocalIssuer(key) as issuer,
        console_of(installation, trusting(issuer.issuer), issuer.issuer) as console,
        console.browser() as browser,
    ):
        asked = await browser.ask()
        issuer.id_token = issuer.token(key, aud=["console", "another"], azp="console", nonce=asked["nonce"])
        came_back = await browser.get(CALLBACK, state=asked["state"], code="c-1", iss=issuer.issuer)
        assert came_back.status == 200
        browser.session.cookie_jar.update_cookies({"switchboard-log-on": asked["state"]})
        again = await browser.get(CALLBACK, state=asked["state"], code="c-2", iss=issuer.issuer)
        assert again.status == 422  # before the issuer is asked
    [(form, authorization)] = issuer.redeemed
    assert code_challenge(form.pop("code_verifier")) == asked["code_challenge"]
    assert form == {
        "grant_type": "authorization_code",
        "code": "c-1",
        "redirect_uri": f"http://127.0.0.1{CALLBACK}",
        "client_id": "console",
    }
    assert b64decode(authorization.removeprefix("Basic ")) == b"console:s3cret%2F%2B"
