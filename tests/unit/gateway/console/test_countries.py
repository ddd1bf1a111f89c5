"""The console's regions hold every country, each once."""

from __future__ import annotations

from contracts.countries import COUNTRIES
from services.gateway.console.countries import name, regions


def test_every_country_is_in_one_region() -> None:
    codes = [code for members in regions().values() for code, _ in members]
    assert sorted(codes) == sorted(COUNTRIES)


def test_every_country_has_a_name() -> None:
    assert [code for code in COUNTRIES if name(code) == code] == []
