"""``switchboard messages``: routes messages and reports statuses through Kafka, and shows what became of them."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from pydantic import ValidationError

from contracts.envelope import validation_message
from contracts.ids import new_id
from contracts.message import rfc3339
from contracts.message_routing import Category, MessageRouted, Route, RouteMessage, RoutingRefused
from contracts.message_status import ReportStatus
from services.cli.connections import Result, bootstrap_servers, run_with_pool
from services.cli.errors import CliError, require_id
from services.cli.local_user import local_user
from services.cli.output import Format, Output, print_document, print_rows
from services.cli.times import parse_time
from services.cli.what_if import what_if
from services.cli.wording import examples

if TYPE_CHECKING:
    from services.infrastructure.postgres import Pool

app = typer.Typer(help="Messages: where each is routed and why, and what became of it.", no_args_is_help=True)

_Channel = Annotated[str, typer.Option(help="the channel's id")]
_Account = Annotated[str, typer.Option(envvar="SWITCHBOARD_ACCOUNT", help="the account's id")]
_AnyAccount = Annotated[
    str | None, typer.Option(envvar="SWITCHBOARD_ACCOUNT", help="the account's id; default: all accounts")
]


@app.command(
    epilog=examples(
        "switchboard messages route --channel demo-whatsapp --category authentication --recipient +919812345678"
    )
)
def route(
    channel: _Channel,
    recipient: Annotated[
        str,
        typer.Option(help="an E.164 number, or user: and a business-scoped user id; - reads it from standard input"),
    ],
    category: Annotated[str, typer.Option(help=", ".join(get_args(Category)))],
    account: _Account = "",
    message: Annotated[
        str | None, typer.Option(help="the message's id: the same again gets the same decision; default: a new one")
    ] = None,
    sms_to: Annotated[str | None, typer.Option(help="the number of an SMS that may follow")] = None,
    sms_on: Annotated[
        list[str] | None, typer.Option(help="what lets it follow: failed, undelivered or unread; may be repeated")
    ] = None,
    sms_wait: Annotated[int | None, typer.Option(help="seconds to wait for a receipt, 60 to 43200")] = None,
    settings_version: Annotated[int | None, typer.Option(help="wait until this version is known")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="decide, reserve nothing and keep nothing")] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="seconds to wait for the decision")] = 30.0,
    output: Output = None,
) -> None:
    """Decides where a message is sent, and prints why. Exit code 0: decided; 1: refused; 2: not sent."""
    for option, value in (("--channel", channel), ("--account", account), ("--message", message)):
        require_id(option, value)
    data: dict[str, Any] = {
        "recipient": sys.stdin.readline().strip() if recipient == "-" else recipient,
        "category": category,
    }
    if sms_to is not None:
        data["sms_fallback"] = {"to": sms_to, "on": sms_on or ["failed"]}
        if sms_wait is not None:
            data["sms_fallback"]["wait_seconds"] = sms_wait
    elif sms_on or sms_wait is not None:
        raise CliError("--sms-on and --sms-wait need the number of the SMS: --sms-to.")
    if settings_version is not None:
        data["settings_version"] = settings_version
    request = _validated(RouteMessage, data)
    message_id = message or new_id()
    if dry_run:
        decision = _with_pool(lambda pool: _would_route(pool, account, channel, message_id, request, timeout))
    else:
        decision = asyncio.run(_route(account, channel, message_id, request, timeout))
    _print(decision, output)
    if isinstance(decision, RoutingRefused):
        raise typer.Exit(1)


@app.command()
def status(
    message: Annotated[str, typer.Argument(metavar="MESSAGE", help="the message's id")],
    channel: _Channel,
    status: Annotated[str, typer.Option(help="sent, delivered, read or failed")],
    account: _Account = "",
    via: Annotated[str, typer.Option(help="how it was sent: chat or sms")] = "chat",
    at: Annotated[str | None, typer.Option(metavar="TIME", help="when it happened; default: now")] = None,
    error: Annotated[str | None, typer.Option(help="why it failed")] = None,
    output: Output = None,
) -> None:
    """Reports what became of a message. Each status counts once, however often it is reported."""
    for option, value in (("--channel", channel), ("--account", account)):
        require_id(option, value)
    data = {"message": message, "status": status, "via": via, "at": at or rfc3339(_now()), "error": error}
    report = _validated(ReportStatus, {name: value for name, value in data.items() if value is not None})
    print_document({"message": message, "report_id": asyncio.run(_report(account, channel, report))}, output)


@app.command("list")
def list_(
    channel: _Channel,
    account: _AnyAccount = None,
    route: Annotated[str | None, typer.Option(help=", ".join(get_args(Route)))] = None,
    country: Annotated[str | None, typer.Option(help="two letters, such as IN")] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="requested from then on")] = None,
    before: Annotated[str | None, typer.Option(help="resume after the previous page, at what it printed")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="at most this many")] = 100,
    output: Output = None,
) -> None:
    """Lists the channel's messages, newest first."""
    from services.message_router import message_log

    if route not in (None, *get_args(Route)):
        raise CliError(f"--route is {route!r}; it must be one of {', '.join(get_args(Route))}.")
    try:
        page = None if before is None else message_log.parse_page(before)
    except ValueError:
        raise CliError("--before must be what the previous page printed after `More:`.") from None
    start = parse_time("--since", since)
    chosen = message_log.MessageFilter(channel, account, None, route, None, None, country, start, None, page)  # type: ignore[arg-type]
    messages, following = _with_pool(lambda pool: message_log.list_messages(pool, chosen, limit))
    print_rows(
        messages, output, ("message", "state", "statuses", "category", "country", "route", "rule", "requested_at")
    )
    if following is not None:
        typer.echo(f"More: --before {following}", err=True)


@app.command()
def show(
    message: Annotated[str, typer.Argument(metavar="MESSAGE", help="the message's id")],
    channel: _Channel,
    account: _AnyAccount = None,
    output: Output = None,
) -> None:
    """Shows a message with its timeline: decision, reservation, statuses, SMS fallback, charge."""
    from services.message_router import message_log

    found = _with_pool(lambda pool: message_log.get_message(pool, account, channel, message))
    if found is None:
        raise CliError(f"Channel {channel!r} has no message {message!r}; `switchboard messages list` lists them.")
    print_document(found, output)


app.command("what-if")(what_if)


def _validated(kind: Any, data: dict[str, Any]) -> Any:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise CliError(f"The request cannot be sent: {validation_message(error)}") from None


async def _route(account: str, channel: str, message_id: str, request: RouteMessage, timeout: float) -> Any:
    from contracts.kafka.router import Router
    from services.infrastructure.kafka import security_options

    async with Router(bootstrap_servers(), source="switchboard-cli", account=account, **security_options()) as router:
        routing = await router.route(
            request, channel=channel, message_id=message_id, actor=local_user(), timeout=timeout
        )
        return routing.decision


async def _report(account: str, channel: str, report: ReportStatus) -> str:
    from contracts.kafka.router import Router
    from services.infrastructure.kafka import security_options

    async with Router(bootstrap_servers(), source="switchboard-cli", account=account, **security_options()) as router:
        return await router.report_status(report, channel=channel, actor=local_user())


async def _would_route(
    pool: Pool, account: str, channel: str, message_id: str, request: RouteMessage, timeout: float
) -> MessageRouted | RoutingRefused:
    from services.message_router.dry_run import would_route
    from services.message_router.rate_book import CurrentRates
    from services.message_router.settings_replica import versions

    version, deadline = request.settings_version or 1, time.monotonic() + timeout
    known_as = (account, channel)
    while (await versions(pool, [known_as])).get(known_as, 0) < version:
        if request.settings_version is None:
            raise CliError(f"The account has no channel {channel!r}, as far as the message router knows.")
        if time.monotonic() > deadline:
            raise CliError(f"The message router did not learn version {version} within {timeout:g} s.")
        await asyncio.sleep(0.05)
    return await would_route(pool, CurrentRates(), account, channel, message_id, request, _now())


def _print(decision: MessageRouted | RoutingRefused, output: Format | None) -> None:
    from services.message_router.message_log import shown_decision

    shown = decision.model_dump(mode="json")
    if isinstance(decision, MessageRouted):
        shown = shown_decision(shown)
    print_document(shown, output)


def _now() -> int:
    return time.time_ns() // 1_000_000


def _with_pool(use: Callable[[Pool], Awaitable[Result]]) -> Result:
    from services.message_router.service import MIGRATIONS

    return run_with_pool("message_router", MIGRATIONS, use)
