"""Countries whose numbers are, wholly or in part, another country's to libphonenumber.

A message to such a number is not one to the chosen country. The tests hold the table against the library's own example
numbers.
"""

from __future__ import annotations

from collections.abc import Iterable

RESOLVES_TO = {
    "AX": "FI",
    "BL": "GP",
    "CC": "AU",
    "CX": "AU",
    "EH": "MA",
    "IM": "GB",
    "MF": "GP",
    "SJ": "NO",
    "VA": "IT",
}
"""By the mobile example number."""

TOLL_FREE_RESOLVES_TO = {"CA": "US", "KZ": "RU"}


def shared_number_notices(countries: Iterable[str]) -> tuple[str, ...]:
    """A sentence for each of the countries that shares numbers."""
    return tuple(
        f"{kind} of {country} may count as {other}: choose {other} too, if they are meant."
        for country in sorted(countries)
        for kind, other in (
            ("Mobile numbers", RESOLVES_TO.get(country)),
            ("Toll-free numbers", TOLL_FREE_RESOLVES_TO.get(country)),
        )
        if other is not None
    )
