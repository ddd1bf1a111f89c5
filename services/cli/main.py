"""The ``switchboard`` command. Errors of the input or the surroundings are a line each, and exit code 2."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import traceback
from importlib.metadata import version
from typing import Annotated, NoReturn

import typer

from services.cli.access_log import app as access_log_app
from services.cli.api_keys import app as api_keys_app
from services.cli.audit import app as audit_app
from services.cli.backup import app as backup_app
from services.cli.changes import app as changes_app
from services.cli.command_reference import app as explain_app
from services.cli.connection_file import adopt_connection
from services.cli.connections import with_broker
from services.cli.deliveries import app as deliveries_app
from services.cli.errors import EXIT_FAULT, EXIT_UNUSABLE, CliError
from services.cli.follow import app as follow_app
from services.cli.invoke import app as invoke_app
from services.cli.listen import app as listen_app
from services.cli.messages import app as messages_app
from services.cli.projections import app as projections_app
from services.cli.rates import app as rates_app
from services.cli.resources import app as resources_app
from services.cli.send import app as send_app
from services.cli.settings import app as settings_app
from services.cli.standard_output import ReaderLeft, discard_output, flush_or_discard, prepare_streams
from services.cli.state import app as state_app
from services.cli.topics import app as topics_app
from services.cli.trigger import app as trigger_app
from services.cli.usage import app as usage_app
from services.cli.wording import examples
from services.infrastructure.config import Settings, SettingsError, unknown_variables
from services.infrastructure.embedded.process import EmbeddedServerError
from services.infrastructure.library_internals.typer import NoArgsIsHelpError, UsageError

app = typer.Typer(
    name="switchboard",
    help="The service settings of chat message channels.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
database_app = typer.Typer(help="The tables, and who may use them.", no_args_is_help=True)

_RUN, _SETTINGS, _CALLS = "Run it", "Change and follow settings", "Call business systems"
_MESSAGES, _PAST, _OPERATE = "Route messages", "Look back", "Operate"


def _add(panel: str, commands: typer.Typer, name: str | None = None) -> None:
    """Adds a group, or without a name its commands, to a panel of the help."""
    for command in commands.registered_commands if name is None else ():
        command.rich_help_panel = panel
    app.add_typer(commands, name=name, rich_help_panel=panel)


_add(_SETTINGS, send_app)
_add(_SETTINGS, explain_app)
_add(_SETTINGS, settings_app, "settings")
_add(_SETTINGS, changes_app, "changes")
_add(_SETTINGS, follow_app)
_add(_CALLS, invoke_app)
_add(_CALLS, trigger_app)
_add(_CALLS, listen_app)
_add(_CALLS, deliveries_app, "deliveries")
_add(_MESSAGES, messages_app, "messages")
_add(_MESSAGES, usage_app, "usage")
_add(_MESSAGES, rates_app, "rates")
_add(_MESSAGES, resources_app, "resources")
_add(_PAST, audit_app, "audit")
_add(_PAST, access_log_app)
_add(_OPERATE, api_keys_app, "api-keys")
_add(_OPERATE, projections_app, "projections")
_add(_OPERATE, state_app, "state")
_add(_OPERATE, backup_app)
_add(_OPERATE, topics_app, "topics")
_add(_OPERATE, database_app, "database")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"switchboard {version('switchboard')}")
        raise typer.Exit


@app.callback()
def prepare(
    context: typer.Context,
    _: Annotated[
        bool, typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """The service settings of chat message channels."""
    from services.infrastructure.logging_setup import configure_structlog

    configure_structlog()  # without handlers: a command prints its answer and no log lines
    if context.invoked_subcommand != "run":  # a service logs them
        for sentence in unknown_variables(os.environ):
            typer.echo(f"switchboard: warning: {sentence}", err=True)
    if context.invoked_subcommand not in ("run", "up"):  # a service is told what it may use
        adopt_connection(os.environ)


def run() -> None:
    """The console script."""
    prepare_streams()
    logging.lastResort = logging.NullHandler()  # of libraries; a service sets up its own logging
    try:
        code = app(prog_name="switchboard", standalone_mode=False) or 0
        sys.stdout.flush()
        sys.exit(code)
    except ReaderLeft:
        discard_output()
        sys.exit(0)
    except NoArgsIsHelpError as error:
        error.show()
    except UsageError as error:
        command = "switchboard" if error.ctx is None else error.ctx.command_path
        message = " ".join(error.format_message().split()).rstrip(".")
        typer.echo(f"switchboard: {message}; see `{command} --help`.", err=True)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 -- each has its exit code
        sentence = _sentence(error)
        if sentence is None:
            _report_fault()
        for line in sentence.splitlines():
            typer.echo(f"switchboard: {line}", err=True)
        flush_or_discard()
    sys.exit(EXIT_UNUSABLE)


def _report_fault() -> NoReturn:
    """Of the exception that is handled: a fault of ours, whose place somebody wants to see."""
    traceback.print_exc()
    sys.exit(EXIT_FAULT)


def _sentence(error: Exception) -> str | None:
    """What the surroundings or the input caused, in words, a line per problem; None for a fault of ours."""
    if isinstance(error, (SettingsError, EmbeddedServerError, CliError)):
        return str(error)
    # Slow to import, and needed only here.
    import asyncpg
    from aiokafka.errors import KafkaConnectionError, KafkaError

    from contracts.kafka.publisher import OutcomeTimeout, PublisherError
    from services.infrastructure.postgres import OUTAGES

    if isinstance(error, (PublisherError, OutcomeTimeout, *OUTAGES, asyncpg.PostgresError)):
        return str(error)
    if isinstance(error, KafkaConnectionError):
        return f"No broker answers at {with_broker(Settings.from_environment())[1]}."
    if isinstance(error, KafkaError):
        return f"the broker cannot be used: {error}"
    return None


@app.command(
    rich_help_panel=_RUN, epilog=examples("switchboard up --demo", "SWITCHBOARD_HTTP_PORT=8090 switchboard up")
)
def up(
    demo: Annotated[
        bool, typer.Option("--demo", help="play a short demo the first time, with a receiver of its own")
    ] = False,
    cluster: Annotated[bool, typer.Option("--cluster", help="run three brokers instead of one, with TLS")] = False,
) -> None:
    """Runs everything: broker, database and all services, until Ctrl-C.

    A broker or a database that the environment names is used instead of starting one.
    """
    from services.cli.service_settings import settings_of_all

    settings = settings_of_all()
    from services.cli.up import run_everything

    run_everything(settings, demo=demo, cluster=cluster)


@app.command(name="run", rich_help_panel=_RUN)
def run_one(
    service: Annotated[
        str, typer.Argument(metavar="SERVICE", help="decider, projector, invoker, message-router or gateway")
    ],
    with_parent: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Runs one service until SIGTERM; several copies share the partitions."""
    from services.cli.run_service import run_service
    from services.cli.service_settings import SERVICES

    if service not in SERVICES:
        raise CliError(f"There is no service {service!r}; choose one of {', '.join(SERVICES)}.")
    run_service(service, with_parent=with_parent)


@database_app.callback()
def _database() -> None:
    """Makes typer keep the name `apply`, although it is the only command."""


@database_app.command("apply")
def database_apply() -> None:
    """Makes the missing tables, and gives each service's role its rights, as the role that owns the database.

    A service has a role of its own if there is one of its name, such as switchboard_projector.
    """
    from services.gateway.database_schemas import apply_database
    from services.infrastructure.database_rights import RIGHTS, role_of
    from services.infrastructure.postgres import pool_of

    async def apply() -> list[str]:
        pool = await pool_of(Settings.from_environment(), size=1, waits=False)
        try:
            return await apply_database(pool)
        finally:
            await pool.close()

    with_role = asyncio.run(apply())
    typer.echo("The tables are there.")
    for service in RIGHTS:
        if service in with_role:
            typer.echo(f"{role_of(service)} has the rights of the {service}.")
        else:
            typer.echo(f"There is no role {role_of(service)}, so the {service} has to log in as the owner.")
