"""The ``switchboard`` command. Every error that input or surroundings can cause is one line, and exit code 2."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from typing import Annotated, Any

import typer
from aiokafka.errors import KafkaError
from typer._click.exceptions import NoArgsIsHelpError, UsageError  # typer has no public names for them

from services.cli.audit import app as audit_app
from services.cli.deliveries import app as deliveries_app
from services.cli.follow import app as follow_app
from services.cli.projections import app as projections_app
from services.cli.settings import app as settings_app
from services.cli.state import app as state_app
from services.infrastructure.embedded.process import EmbeddedServerError
from services.infrastructure.settings import Settings, SettingsError

app = typer.Typer(
    name="switchboard",
    help="The service settings of chat message channels.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
topics_app = typer.Typer(help="The Kafka topics.", no_args_is_help=True)
api_keys_app = typer.Typer(help="Access to the HTTP API.", no_args_is_help=True)
app.add_typer(topics_app, name="topics")
app.add_typer(api_keys_app, name="api-keys")
app.add_typer(audit_app, name="audit")
app.add_typer(settings_app, name="settings")
app.add_typer(deliveries_app, name="deliveries")
app.add_typer(projections_app, name="projections")
app.add_typer(follow_app)
app.add_typer(state_app, name="state")

UNUSABLE = 2


class Unusable(Exception):
    """What was asked for cannot be done; the sentence says why."""


def run() -> None:
    """The console script."""
    import asyncpg

    from contracts.publisher import OutcomeTimeout, PublisherBroken
    from services.infrastructure.postgres import OUTAGES

    logging.lastResort = (
        logging.NullHandler()
    )  # what libraries log is not what was asked; services set up logs of their own
    try:
        sys.exit(app(prog_name="switchboard", standalone_mode=False) or 0)
    except NoArgsIsHelpError as error:
        error.show()
    except UsageError as error:
        command = "switchboard" if error.ctx is None else error.ctx.command_path
        message = " ".join(error.format_message().split()).rstrip(".")
        typer.echo(f"switchboard: {message}; see `{command} --help`.", err=True)
    except (SettingsError, EmbeddedServerError, Unusable, PublisherBroken, OutcomeTimeout) as error:
        typer.echo(f"switchboard: {error}", err=True)
    except KafkaError as error:
        typer.echo(f"switchboard: the broker cannot be used: {error}", err=True)
    except (*OUTAGES, asyncpg.PostgresError) as error:
        typer.echo(f"switchboard: {error}", err=True)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    sys.exit(UNUSABLE)


@app.command()
def up(
    demo: Annotated[bool, typer.Option(help="Walk through the settings once, with a receiver of our own.")] = False,
) -> None:
    """Runs everything: broker, database and all services; what is given by the environment is used instead."""
    from services.cli.up import run_everything

    run_everything(Settings.from_environment(), demo=demo)


@app.command(name="run")
def run_one(
    service: Annotated[str, typer.Argument(help="decider, projector, invoker or gateway")],
    with_parent: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Runs one service until SIGTERM; several copies share the partitions."""
    from services.cli.running import SERVICES, run_service

    if service not in SERVICES:
        raise Unusable(f"There is no service {service!r}; choose one of {', '.join(SERVICES)}.")
    run_service(service, with_parent=with_parent)


@topics_app.command("apply")
def topics_apply() -> None:
    """Makes the topics that are missing, and checks the others."""
    from services.infrastructure.kafka import security_options
    from services.infrastructure.topics import apply_topics

    settings = Settings.from_environment()
    for line in asyncio.run(apply_topics(_broker(settings), settings.partitions, security_options())):
        typer.echo(line)


@app.command()
def send(
    command: Annotated[str, typer.Argument(help="the type, like ToggleSms")],
    channel: Annotated[str, typer.Option(help="the channel's id")],
    data: Annotated[str, typer.Option(help="the command's data, as JSON")] = "{}",
    account: Annotated[str, typer.Option(envvar="SWITCHBOARD_ACCOUNT", help="the account's id")] = "",
    actor: Annotated[str | None, typer.Option(help="who asks; default: the user of this machine")] = None,
    expected_version: Annotated[int | None, typer.Option(min=0, help="refuse if it changed after this version")] = None,
    command_id: Annotated[str | None, typer.Option(help="send again with the same id to get the same answer")] = None,
    dry_run: Annotated[bool, typer.Option(help="say what would happen, and change nothing")] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="seconds to wait for the outcome")] = 30.0,
) -> None:
    """Publishes a command, waits, and prints its outcome as JSON: exit code 0 accepted, 1 rejected, 2 unusable."""
    import getpass

    from contracts.ids import is_name

    for name, value in (("--channel", channel), ("--account", account), ("--command-id", command_id or "x")):
        if not is_name(value):
            raise Unusable(f"{name} is {value!r}; it must be 1 to 128 characters of A-Z a-z 0-9 . _ : -")
    try:
        parsed = json.loads(data)
    except ValueError as error:
        raise Unusable(f"--data is not JSON: {error}.") from None
    if not isinstance(parsed, dict):
        raise Unusable("--data must be a JSON object, like '{\"enabled\": true}'.")
    sending = _send(
        _broker(Settings.from_environment()),
        command,
        parsed,
        channel=channel,
        account=account,
        actor=actor or getpass.getuser(),
        expected_version=expected_version,
        command_id=command_id,
        dry_run=dry_run,
        timeout=timeout,
    )
    try:
        outcome = asyncio.run(sending)
    except ValueError as error:
        raise Unusable(f"The command cannot be sent: {error}.") from None
    body = {"command_id": outcome.command_id, "outcome": type(outcome.body).__name__}
    body |= outcome.body.model_dump(exclude_none=True)
    if outcome.repeated:
        body["repeated"] = True
    typer.echo(json.dumps(body, indent=2, ensure_ascii=False))
    if not outcome.accepted:
        raise typer.Exit(1)


async def _send(bootstrap_servers: str, command: str, data: dict[str, Any], **options: Any) -> Any:
    from contracts.publisher import Publisher
    from services.infrastructure.kafka import security_options

    async with Publisher(bootstrap_servers, source="switchboard-cli", **security_options()) as publisher:
        return await publisher.send_raw(command, data, **options)


@api_keys_app.command("create")
def api_keys_create(
    label: Annotated[str, typer.Option(help="what the key is for")],
    account: Annotated[str | None, typer.Option(help="the account it acts for; none: the platform")] = None,
) -> None:
    """Makes a key and prints its token, which nobody can show again."""
    from services.gateway import api_keys

    async def create(pool: Any) -> str:
        return await api_keys.create(pool, role="account" if account else "platform", account=account, label=label)

    typer.echo(asyncio.run(_with_pool(create)))


@api_keys_app.command("list")
def api_keys_list() -> None:
    """Lists the keys, a JSON line each."""
    from services.gateway import api_keys

    for key in asyncio.run(_with_pool(api_keys.list_keys)):
        revoked = None if key.revoked_at is None else key.revoked_at.isoformat(timespec="seconds")
        typer.echo(
            json.dumps(
                {
                    "key_id": key.access.key_id,
                    "role": key.access.role,
                    "account": key.access.account,
                    "label": key.access.label,
                    "created_at": key.created_at.isoformat(timespec="seconds"),
                    "revoked_at": revoked,
                }
            )
        )


@api_keys_app.command("revoke")
def api_keys_revoke(key_id: Annotated[str, typer.Argument(help="as `api-keys list` names it")]) -> None:
    """Revokes a key, at once."""
    from services.gateway import api_keys

    async def revoke(pool: Any) -> bool:
        return await api_keys.revoke(pool, key_id)

    if not asyncio.run(_with_pool(revoke)):
        raise Unusable(f"There is no API key {key_id!r} that is not revoked; `switchboard api-keys list` names them.")
    typer.echo(f"revoked {key_id}")


async def _with_pool(use: Any) -> Any:
    from services.gateway import api_keys
    from services.infrastructure.postgres import migrate, pool_of

    pool = await pool_of(Settings.from_environment(), size=1)
    try:
        await migrate(pool, "gateway", api_keys.MIGRATIONS)
        return await use(pool)
    finally:
        await pool.close()


def _broker(settings: Settings) -> str:
    if settings.kafka_bootstrap_servers is None:
        default = f"127.0.0.1:{settings.kafka_port}"
        os.environ.setdefault("SWITCHBOARD_KAFKA_BOOTSTRAP_SERVERS", default)
        return default
    return settings.kafka_bootstrap_servers
