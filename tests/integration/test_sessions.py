"""Sessions of the console in the database."""

from __future__ import annotations

import pytest

from services.gateway.authentication import sessions
from services.gateway.authentication.oidc.tokens import TrustedIssuers
from services.gateway.authentication.sessions import MIGRATIONS
from services.infrastructure.config import Settings
from services.infrastructure.postgres import migrate, pool_of
from tests.migrations import migrate_down
from tests.oidc_provider import EDITOR, trusting

ISSUER = "https://login.example"


async def test_an_earlier_release_has_no_sessions_of_issuers(database_url: str) -> None:
    issuers: TrustedIssuers = trusting(ISSUER)
    claims = {"iss": ISSUER, "sub": "alice", **EDITOR}
    pool = await pool_of(Settings(database_url=database_url), size=1)
    try:
        await migrate(pool, "console", MIGRATIONS)
        person = issuers.principal(claims)
        assert person is not None
        session = await sessions.start_for_person(pool, person, claims | {"name": "a\x00\ud800"})
        assert await sessions.use(pool, issuers, session.token, None) is not None
        await pool.execute("INSERT INTO console.sessions (token_sha256, key_id) VALUES ('a', 'abcd1234')")
        await migrate_down(pool, "console", MIGRATIONS, to="0001_sessions")
        assert [row["key_id"] for row in await pool.fetch("SELECT key_id FROM console.sessions")] == ["abcd1234"]
        await migrate(pool, "console", MIGRATIONS)
        assert await sessions.use(pool, issuers, session.token, None) is None
    finally:
        await pool.close()


async def test_an_owner_has_so_many_sessions_and_a_new_one_ends_the_one_that_was_used_the_longest_ago(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "PER_OWNER", 3)
    issuers = trusting(ISSUER)
    pool = await pool_of(Settings(database_url=database_url), size=1)
    try:
        await migrate(pool, "console", MIGRATIONS)
        people = [{"iss": ISSUER, "sub": subject, **EDITOR} for subject in ("alice", "bob")]
        alice, bob = (issuers.principal(claims) for claims in people)
        assert alice is not None
        assert bob is not None
        other = await sessions.start_for_person(pool, bob, people[1])
        own = [await sessions.start_for_person(pool, alice, people[0]) for _ in range(3)]
        assert await sessions.use(pool, issuers, own[0].token, None) is not None
        own.append(await sessions.start_for_person(pool, alice, people[0]))
        open_ones = [await sessions.use(pool, issuers, one.token, None) is not None for one in (*own, other)]
        assert open_ones == [True, False, True, True, True]
    finally:
        await pool.close()
