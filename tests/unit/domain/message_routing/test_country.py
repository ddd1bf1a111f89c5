"""A recipient's country, held against libphonenumber's own example numbers of every region."""

from __future__ import annotations

import phonenumbers
import pytest
from phonenumbers import PhoneNumberFormat, PhoneNumberType

from services.domain.message_routing.country import NOT_ASSIGNED, NOT_GEOGRAPHIC, USER_ID, country_of
from services.domain.message_routing.shared_numbers import RESOLVES_TO, TOLL_FREE_RESOLVES_TO

MOBILE, FIXED = PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE
RESOLVES_ELSEWHERE = {(country, MOBILE): other for country, other in RESOLVES_TO.items()} | {
    ("EH", FIXED): "MA",
    ("MF", FIXED): "BL",
}
"""Numbers that several countries share: the library gives them to the largest."""


def _example(region: str, kind: int) -> str | None:
    number = phonenumbers.example_number_for_type(region, kind)
    return None if number is None else phonenumbers.format_number(number, PhoneNumberFormat.E164)


@pytest.mark.parametrize("kind", [MOBILE, FIXED], ids=["mobile", "fixed"])
@pytest.mark.parametrize("region", sorted(phonenumbers.SUPPORTED_REGIONS))
def test_each_regions_example_number_resolves_to_it_or_is_a_known_exception(region: str, kind: int) -> None:
    number = _example(region, kind)
    if number is None:
        pytest.skip("the library has no example of this kind")
    assert country_of(number).code == RESOLVES_ELSEWHERE.get((region, kind), region)


def test_shared_toll_free_numbers_belong_to_the_largest_country() -> None:
    toll_free = {region: _example(region, PhoneNumberType.TOLL_FREE) for region in ("KZ", "CA")}
    assert {region: country_of(str(number)).code for region, number in toll_free.items()} == TOLL_FREE_RESOLVES_TO


@pytest.mark.parametrize(
    ("recipient", "expected"),
    [
        ("user:US.13491208655302741918", USER_ID),
        ("+882161234567", NOT_GEOGRAPHIC),
        ("+999123456789", NOT_ASSIGNED),
        ("+1000", NOT_ASSIGNED),
    ],
)
def test_a_recipient_without_a_country_says_why(recipient: str, expected: object) -> None:
    assert country_of(recipient) == expected


def test_kosovo_is_xk() -> None:
    assert country_of("+38344123456").code == "XK"
