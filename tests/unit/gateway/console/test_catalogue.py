"""The checked-in catalogue has the console's text as it is."""

from __future__ import annotations

from services.gateway.console.catalogue import CATALOGUE, catalogue


def test_the_catalogue_is_up_to_date() -> None:
    assert CATALOGUE.read_text() == catalogue(), "run python -m services.gateway.console.catalogue"


def test_it_has_text_of_templates_and_of_views() -> None:
    text = CATALOGUE.read_text()
    assert 'msgid "Countries Using Scheduling"' in text
    assert 'msgid "The intent is added."' in text
