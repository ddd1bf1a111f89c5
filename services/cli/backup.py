"""``switchboard backup`` and ``switchboard restore``: the log to files, and back to an empty broker."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from services.cli.wording import count

app = typer.Typer()

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="the directory of the backup")]


@app.command("backup")
def backup(directory: Directory) -> None:
    """Copies every topic to a new directory while everything runs, at one cut, with checksums.

    Deciders and message routers are fenced for a moment per partition, and start over by themselves. Secrets stay
    encrypted. Not in it: the key ring and the database. If it is interrupted, the same command begins anew.
    """
    from services.cli.log_access import run_audit

    run_audit(write(directory))


@app.command("restore")
def restore(directory: Directory) -> None:
    """Writes a backup to a broker without Switchboard's topics, every record at its old offset, and compares it all.

    Stop every service first. If it is interrupted, no service starts, and the same command begins anew.

    Then `switchboard topics apply` gives the services their rights, and `switchboard audit
    verify --anchor` proves that nothing is missing.
    """
    from services.cli.log_access import run_audit

    run_audit(read_back(directory))


async def write(directory: Path) -> None:
    from contracts.message import rfc3339
    from services.audit.log.backup import new_directory, write_backup
    from services.audit.log.kafka_log import KafkaLog
    from services.cli.connections import bootstrap_servers
    from services.cli.consistent_cut import consistent_cut, uncompacted_s
    from services.cli.log_access import now_ms, progress_bar
    from services.infrastructure.kafka import security_options
    from services.infrastructure.unfinished_restore import require_whole_log

    servers, security = bootstrap_servers(), security_options()
    await require_whole_log(servers, security)
    made_at = rfc3339(now_ms())
    async with AsyncExitStack() as stack:
        stack.enter_context(new_directory(directory))
        log = await stack.enter_async_context(KafkaLog(servers, security))
        read_compacted_by = time.monotonic() + await uncompacted_s(servers, security)
        ranges = await consistent_cut(log, servers, security)
        with progress_bar("copying", sum(offsets.end - offsets.first for offsets in ranges.values())) as moved:
            manifest = await write_backup(
                directory,
                log,
                ranges,
                made_at=made_at,
                release=version("switchboard"),
                read_compacted_by=read_compacted_by,
                progress=moved,
            )
    typer.echo(
        f"{directory}: {count(manifest.records, 'record')} of {count(manifest.partitions, 'partition')}. Not in it: "
        f"the database, and the key ring ({_keys(manifest.keys)})."
    )


async def read_back(directory: Path) -> None:
    from services.audit.log.backup import open_backup
    from services.audit.log.restore import restore as restore_backup
    from services.cli.connections import bootstrap_servers
    from services.cli.log_access import progress_bar
    from services.infrastructure.kafka import security_options

    found = open_backup(directory)
    manifest = found.manifest
    with progress_bar("restoring", sum(one.end - one.first for one in manifest.ranges().values())) as moved:
        await restore_backup(found, bootstrap_servers(), security_options(), moved)
    typer.echo(
        f"{directory}: {count(manifest.records, 'record')} of {count(manifest.partitions, 'partition')} restored and "
        f"compared, as of {manifest.made_at}. The secrets need SWITCHBOARD_KEYRING with {_keys(manifest.keys)}."
    )


def _keys(keys: tuple[str, ...]) -> str:
    return ", ".join(keys) or "no key"
