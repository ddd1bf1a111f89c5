"""``switchboard messages what-if``: recorded decisions under proposed settings and rates."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.connections import run_with_pool
from services.cli.errors import CliError, require_id
from services.cli.output import Output, print_rows
from services.cli.rate_files import read_rates, read_text

if TYPE_CHECKING:
    from services.message_router.what_if import Proposal

NOTES = (
    "unknown: the recorded decision did not ask the pool for a unit, so it is not known whether it would have had one.",
    "unpriced: the rate book has no rate for the message, before or after; the costs are without it and the unknown.",
    "The pool is taken as each decision saw it; that other decisions would have left other units is not considered.",
)


def what_if(
    settings: Annotated[Path, typer.Option(help="a file as `switchboard settings export` writes it")],
    first: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], metavar="DAY", help="a UTC day")],
    last: Annotated[
        datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], metavar="DAY", help="included; default: today")
    ] = None,
    rates: Annotated[Path | None, typer.Option(help="a rate book's file; default: the newest book")] = None,
    channel: Annotated[str | None, typer.Option(help="default: the file's own")] = None,
    output: Output = None,
) -> None:
    """Says how other settings or rates would have routed and charged the channel's messages of some days.

    Counts, by country, the routes that change and the expected costs. What cannot be known is counted as unknown.
    """
    from services.message_router.service import MIGRATIONS
    from services.message_router.what_if import UnknownChannel
    from services.message_router.what_if import what_if as replay

    require_id("--channel", channel)
    named, proposal = _proposal(settings, rates)
    about = channel or named
    if about is None:
        raise CliError("The settings file names no channel; name it with --channel.")
    begin, end = first.date(), last.date() if last else datetime.now(UTC).date()
    if begin > end:
        raise CliError(f"--from {begin} is after --to {end}.")
    since, until = _midnight(begin), _midnight(end + timedelta(days=1))
    try:
        countries = run_with_pool(
            "message_router", MIGRATIONS, lambda pool: replay(pool, about, proposal, since, until, _progress)
        )
    except UnknownChannel:
        raise CliError(f"The message router does not know channel {about!r}.") from None
    print_rows(countries, output, tuple(countries[0]) if countries else ())
    for note in NOTES if countries else ("There are no decisions of these days.",):
        typer.echo(note, err=True)


def _proposal(settings: Path, rates: Path | None) -> tuple[str | None, Proposal]:
    """The channel that the file names, and what it proposes. Raises `CliError`."""
    from contracts.settings import SECTIONS
    from services.audit.log.errors import AuditError
    from services.audit.settings_files.settings_file import parse
    from services.domain.message_routing.rates import Rates
    from services.message_router.what_if import Proposal

    try:
        file = parse(read_text(settings))
    except AuditError as error:
        raise CliError(str(error)) from None
    sections: dict[str, Any] = {
        name: SECTIONS[name].model_validate(part.model_dump()).canonical() for name, part in file.sections().items()
    }
    states_business = {"home_country", "international_rates_from"} & file.model_fields_set
    business = (file.home_country, file.international_rates_from or {}) if states_business else None
    book = None if rates is None else Rates.of(read_rates(rates))
    return file.channel, Proposal(sections.get("otp_scheduling"), sections.get("spend_guard"), business, book)


def _midnight(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)


def _progress(decisions: int) -> None:
    if sys.stderr.isatty():
        typer.echo(f"\r{decisions:,} decisions", err=True, nl=False)
