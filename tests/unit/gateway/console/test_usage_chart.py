"""The chart of the usage: how high its bars are, and what the table beside it sums."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta
from decimal import Decimal

from services.gateway.console.usage_chart import HEIGHT, SHOWN_COUNTRIES, WIDTH, usage_chart
from services.message_router.usage_report import CountryUsage

FIRST, LAST = date(2026, 11, 1), date(2026, 11, 3)


def test_the_bars_of_a_day_are_as_high_as_its_messages() -> None:
    usage = [
        CountryUsage(FIRST, "ID", "USD", 30, Decimal("0.90")),
        CountryUsage(FIRST, "SG", None, 10, Decimal(0)),
        CountryUsage(LAST, "ID", "USD", 20, Decimal("0.60")),
        CountryUsage(LAST, "ID", "EUR", 0, Decimal("0.10")),
    ]
    chart = usage_chart(usage, FIRST, LAST)
    heights: dict[date, float] = defaultdict(float)
    for bar in chart.bars:
        heights[bar.day] += bar.height
        assert 0 <= bar.y <= bar.y + bar.height <= HEIGHT
        assert 0 <= bar.x <= bar.x + bar.width <= WIDTH
    assert heights == {FIRST: HEIGHT, LAST: HEIGHT / 2}
    assert [(bar.day, bar.country, bar.messages) for bar in chart.bars] == [
        (FIRST, "ID", 30),
        (FIRST, "SG", 10),
        (LAST, "ID", 20),
    ]
    assert chart.bars[1].y + chart.bars[1].height == chart.bars[0].y, "one stands on the other"
    assert (chart.highest, chart.messages) == (40, 60)
    assert chart.amounts == {"EUR": Decimal("0.10"), "USD": Decimal("1.50")}
    indonesia, singapore = chart.totals
    assert (indonesia.country, indonesia.messages, indonesia.unpriced) == ("ID", 50, 0)
    assert (singapore.country, singapore.messages, singapore.amounts, singapore.unpriced) == ("SG", 10, {}, 10)


def test_countries_with_few_messages_are_one_part() -> None:
    names = [f"A{number}" for number in range(SHOWN_COUNTRIES + 2)]
    usage = [CountryUsage(FIRST, name, "USD", 10 - number, Decimal(1)) for number, name in enumerate(names)]
    chart = usage_chart(usage, FIRST, FIRST)
    assert [bar.country for bar in chart.bars] == [*names[:SHOWN_COUNTRIES], None]
    assert chart.bars[-1].messages == usage[-1].messages + usage[-2].messages
    assert [one.rank for one in chart.totals] == [*range(SHOWN_COUNTRIES), None, None]


def test_no_usage_is_no_bar() -> None:
    chart = usage_chart([], FIRST, FIRST + timedelta(30))
    assert (chart.bars, chart.totals, chart.highest) == ([], [], 0)
