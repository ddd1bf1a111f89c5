"""The country of a recipient, from the whole number by libphonenumber: a calling code belongs to several countries."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import phonenumbers

from contracts.message_routing import USER_ID_PREFIX

_NO_COUNTRY = "001"
"""libphonenumber's region of numbers that belong to no country, such as satellite phones."""


class Country(NamedTuple):
    """``code`` is ISO 3166-1 alpha-2 or XK; ``source`` is a stable name that says how it was found."""

    code: str | None
    source: str


USER_ID = Country(None, "business-scoped-user-id")
NOT_GEOGRAPHIC = Country(None, "non-geographic-number")
NOT_ASSIGNED = Country(None, "no-such-number")


def country_of(recipient: str) -> Country:
    """The country of an E.164 number or a business-scoped user id, which has none. Raises nothing.

    Pure, but for libphonenumber's tables: another release of them may know a number better.
    """
    return USER_ID if recipient.startswith(USER_ID_PREFIX) else _country_of_number(recipient)


@lru_cache(4_096)
def _country_of_number(number: str) -> Country:
    try:
        region = phonenumbers.region_code_for_number(phonenumbers.parse(number))
    except phonenumbers.NumberParseException:
        return NOT_ASSIGNED
    if region is None:
        return NOT_ASSIGNED
    return NOT_GEOGRAPHIC if region == _NO_COUNTRY else Country(region, "phone-number")
