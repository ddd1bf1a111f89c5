"""Where a business is based, and from when international rates apply to it: in settings, history and audit alike."""

from __future__ import annotations

from typing import Any

from tests.commands import command
from tests.installation import Installation, fresh

SHOP = {"channel_type": "whatsapp", "name": "Shop", "enterprise_authenticated": True}
FACTS = {"home_country": "AE", "international_rates_from": {"IN": "2026-12-01", "BD": "2026-10-01"}}
NEITHER = dict.fromkeys(FACTS)


def facts(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: settings[name] for name in FACTS}


async def test_what_the_platform_states_is_shown_everywhere_and_taken_back(installation: Installation) -> None:
    early, late, account = fresh("ch"), fresh("ch"), fresh("acct")
    async with installation.api(None, **{"Switchboard-Account": account}) as platform:
        assert (await platform("PUT", f"channels/{early}", SHOP | FACTS)).status == 201
        assert (await platform("PUT", f"channels/{late}", SHOP)).status == 201
        assert (await platform("PATCH", f"channels/{late}", FACTS)).body["version"] == 2
    async with installation.api(account) as api:
        assert facts((await api("GET", f"channels/{early}/settings?min_version=1")).body) == FACTS
        assert facts((await api("GET", f"channels/{late}/settings?min_version=2")).body) == FACTS
        edited = (await api("GET", f"channels/{late}/history?min_version=2&limit=1")).body["entries"][0]
        assert {name: edited["after"][f"channel/{name}"] for name in FACTS} == FACTS
        assert (await api("PATCH", f"channels/{late}", {"home_country": "IN"})).status == 403
    async with installation.api(None, **{"Switchboard-Account": account}) as platform:
        assert (await platform("PATCH", f"channels/{late}", {"international_rates_from": None})).body["version"] == 3
        shown = (await platform("GET", f"channels/{late}?min_version=3")).body
    assert facts(shown) == FACTS | {"international_rates_from": None}
    for moment, expected in (("1", NEITHER), ("2", FACTS), ("3", facts(shown))):
        at = await command(installation, "audit", "at", moment, "--channel", late)
        assert facts(at.json["settings"]) == expected
