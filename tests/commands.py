"""For tests of the command line: the command as a process or in this one, and the settings that they begin with."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from typer.testing import CliRunner

from contracts.business_system import (
    OpenBusinessSystem,
)
from contracts.channel import RegisterChannel
from contracts.intent import AddIntent
from contracts.kafka.publisher import Publisher
from contracts.message import CommandData
from contracts.otp_scheduling import SaveOtpScheduling
from contracts.outcome import CommandAccepted
from services.cli.errors import CliError
from services.cli.main import app, run
from services.infrastructure.config import SettingsError
from tests.installation import Installation

REGISTER = RegisterChannel(channel_type="whatsapp", name="Shop", enterprise_authenticated=True)
OPEN = OpenBusinessSystem(system="crm", name="CRM", api_request_url="https://crm.example/hook", remarks="ours")
INTENT = AddIntent(system="crm", code="ORDER", name="Order", default_data={"order": "1"})
FORM = SaveOtpScheduling(enabled=True, countries=["NO", "ID"], use_own_numbers=False)


_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


def process(installation: Installation, *arguments: object) -> subprocess.Popen[str]:
    """The command as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "services.cli", *map(str, arguments)],
        env=installation.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_here(environment: Mapping[str, str], *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """The whole console script in this process, which spares its start; ``text`` is its standard input."""
    # In a thread, as the test's own may have a running event loop; in turns, as the streams are the whole process's.
    with _one_at_a_time, ThreadPoolExecutor(1) as thread:
        return thread.submit(_run_here, environment, arguments, text).result()


def _run_here(
    environment: Mapping[str, str], arguments: tuple[str, ...], text: str
) -> subprocess.CompletedProcess[str]:
    last_resort, words = logging.lastResort, sys.argv
    with CliRunner().isolation(text, env=dict(environment)) as (out, err, _):
        sys.argv = ["switchboard", *arguments]
        try:
            run()
        except SystemExit as end:
            code = end.code
        finally:
            logging.lastResort, sys.argv = last_resort, words
        sys.stdout.flush()
        said = (out.getvalue().decode(), err.getvalue().decode())
    assert isinstance(code, int)
    return subprocess.CompletedProcess(arguments, code, *said)


async def command(installation: Installation, *arguments: object) -> Said:
    """The same in this process, which spares its start."""

    def invoke() -> Said:
        done = CliRunner(env=installation.environment).invoke(app, [str(one) for one in arguments])
        if isinstance(done.exception, Exception):
            assert isinstance(done.exception, (CliError, SettingsError)), done.exception
            return Said(2, done.stdout, f"switchboard: {done.exception}\n")
        return Said(done.exit_code, done.stdout, done.stderr)

    return await asyncio.to_thread(invoke)


async def happen(publisher: Publisher, channel: str, account: str, *commands: CommandData) -> list[int]:
    """Sends them one after the other, and returns the channel's version after each."""
    versions = []
    for one in commands:
        outcome = await publisher.send(one, channel=channel, account=account, actor="ops@acme.example")
        assert isinstance(outcome.body, CommandAccepted), outcome
        versions.append(outcome.body.version)
    return versions
