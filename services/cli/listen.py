"""``switchboard listen``: calls that are made as tests arrive at a receiver on this machine."""

from __future__ import annotations

import asyncio
import json
import signal
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.errors import CliError, require_id
from services.cli.output import Format, Output, format_of, printable
from services.cli.standard_output import ReaderLeft
from services.cli.wording import examples

if TYPE_CHECKING:
    from services.cli.listener import Forwarded, Listener

app = typer.Typer()

_FATES = {
    "counts": "",
    "answered": "; another listener answered first",
    "late": "; too late, the call was over",
    "unsent": "; the answer could not be sent in time",
    "refused": "",
}
_FAILURES = {"refused": "connection refused", "timeout": "no whole answer in time", "broken": "the connection broke"}


@app.command(
    epilog=examples(
        "switchboard listen --channel demo-whatsapp --forward-to http://localhost:3000",
        "switchboard listen --channel demo-whatsapp --system crm --forward-to http://localhost:3000/hook -o json",
    )
)
def listen(
    channel: Annotated[str, typer.Option(help="the channel's id")],
    forward_to: Annotated[str, typer.Option(help="your receiver, such as http://localhost:3000/hook")],
    system: Annotated[
        str | None, typer.Option(help="only the calls of this business system; default: of every one")
    ] = None,
    output: Output = None,
) -> None:
    """Forwards the test calls of a channel to a receiver on this machine, until Ctrl-C.

    They are those of `switchboard trigger`. Each is signed with a secret of this machine, which stays the same; the
    receiver's answer becomes the call's result. Nothing connects to this machine. SWITCHBOARD_API_URL and
    SWITCHBOARD_API_KEY say where the API is, and who asks; beside a running `up` they are found.
    """
    require_id("--channel", channel)
    if system is not None:
        require_id("--system", system)
    from services.cli.development_secret import development_secret
    from services.cli.http_api import ApiUnavailable, HttpApi
    from services.cli.listener import Listener
    from services.cli.local_receiver import LocalReceiver

    api, secret = HttpApi.from_environment(), development_secret()
    receiver = LocalReceiver(forward_to, secret.secret)

    def on_ready() -> None:
        _say(f"Listening for calls of {channel}; forwarding to {forward_to}. Ctrl-C ends it.")
        shown = f" is {receiver.secret}, which is shown this once and" if secret.is_new else ""
        _say(f"The secret for your receiver{shown} is in {secret.path}.")

    async def run() -> None:
        async with api, receiver:
            listener = Listener(api, receiver, channel, system, lambda call: _print_call(call, output), _say)
            await _until_signal(listener, on_ready)

    try:
        asyncio.run(run())
    except ApiUnavailable as error:
        raise CliError(str(error)) from None


async def _until_signal(listener: Listener, on_ready: Any) -> None:
    """Runs the listener until SIGINT or SIGTERM, and lets it leave."""
    work = asyncio.ensure_future(listener.run(on_ready))
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        return
    except ExceptionGroup as group:  # of the calls' tasks
        left, rest = group.split(ReaderLeft)
        raise (left or rest or group).exceptions[0] from None


def _print_call(found: Forwarded, output: Format | None) -> None:
    call, answer = found.call, found.answer
    now = datetime.now(UTC)
    if format_of(output) is Format.TABLE:
        said = str(answer.get("status")) if "status" in answer else _FAILURES[answer["failure"]]
        said = f"not forwarded: {found.note}" if found.note else f"{said} in {found.duration_ms} ms"
        words = (f"{now.astimezone():%H:%M:%S}", call["code"], call["system"], call["delivery"])
        typer.echo(printable(f"{'  '.join(words)}  → {said}{_FATES[found.fate]}"))
    else:
        line = {
            "at": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            **{name: call[name] for name in ("delivery", "system", "code")},
            "status": answer.get("status"),
            "failure": answer.get("failure"),
            "duration_ms": found.duration_ms,
            "answer": found.fate,
        }
        typer.echo(json.dumps(line, ensure_ascii=False))


def _say(sentence: str) -> None:
    """On standard error, so that standard output has a line per call and nothing else."""
    typer.echo(printable(sentence), err=True)
