"""What commands there are and what they take, from the contract: for `explain`, and to check one before it is sent."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from contracts.envelope import validation_message
from contracts.message import CommandData
from contracts.message_types import COMMANDS
from contracts.proposed_change import ApplyChange, ProposeChange
from services.cli.errors import CliError
from services.cli.wording import examples

app = typer.Typer()

DATA_HELP = "the command's data as JSON; @FILE reads it from a file, - from standard input"
SENT_BY_PEOPLE = {name: kind for name, kind in COMMANDS.items() if kind is not ApplyChange}
_EXAMPLES: dict[str, Any] = {
    "name": "Example",
    "api_request_url": "https://crm.example/hook",
    "system": "crm",
    "code": "ORDER_STATUS",
    "key_id": "KEY_ID",
    "seal_to": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "template": "order-shipped",
    "countries": ["ID"],
    "required_for": ["otp-scheduling"],
    "change": "c-1",
    "command": {"type": "SaveOtpScheduling", "data": {"enabled": True, "countries": ["ID"], "use_own_numbers": False}},
}


def complete_command(incomplete: str) -> list[tuple[str, str]]:
    """(name, what it does), for the shell."""
    return [(name, _described(kind)[0]) for name, kind in SENT_BY_PEOPLE.items() if name.startswith(incomplete)]


@app.command(epilog=examples("switchboard explain SaveOtpScheduling"))
def explain(
    command: Annotated[
        str | None,
        typer.Argument(
            metavar="COMMAND", help="its type, such as ToggleSms; default: list all", autocompletion=complete_command
        ),
    ] = None,
) -> None:
    """Shows what a command does and what it takes; without one, lists all commands."""
    if command is None:
        width = max(map(len, SENT_BY_PEOPLE))
        for name in SENT_BY_PEOPLE:
            typer.echo(f"{name:{width}}  {_described(COMMANDS[name])[0]}")
        return
    kind = _command_type(command)
    typer.echo(command)
    for line in _described(kind):
        typer.echo(f"  {line}" if line else "")
    rows = [(name, _shape(field, schema), need) for name, field, need, schema in _fields(kind)]
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    typer.echo("")
    for name, shape, need in rows or [("It takes no data.", "", "")]:
        typer.echo(f"  {name:{widths[0]}}  {shape:{widths[1]}}  {need}".rstrip())
    typer.echo("")
    data = example_of(kind)
    given = f" --data '{json.dumps(data)}'" if data else ""
    typer.echo(f"  switchboard send {command} --channel CHANNEL{given}")


def read_data(text: str) -> dict[str, Any]:
    """The JSON object in an option ``--data``. Raises `CliError`."""
    if text in ("-", "@-"):
        text = sys.stdin.read()
    elif text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8-sig")
        except (OSError, ValueError) as error:
            raise CliError(f"--data: {text[1:]} cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CliError(f"--data is not JSON: {error}.") from None
    if not isinstance(data, dict):
        raise CliError("--data must be a JSON object, like '{\"enabled\": true}'.")
    return data


def check_command(command: str, data: dict[str, Any]) -> None:
    """Raises `CliError` where the decider would refuse it as no command of the contract."""
    kind, proposed = _command_type(command), data.get("command")
    if kind is ProposeChange and isinstance(proposed, dict) and isinstance(proposed.get("data"), dict):
        check_command(str(proposed.get("type")), proposed["data"])
    try:
        kind.model_validate_json(json.dumps(data))
    except ValidationError as error:
        known = [name for name, _, _, _ in _fields(kind)]
        unknown = [one["loc"][0] for one in error.errors() if one["type"] == "extra_forbidden" and len(one["loc"]) == 1]
        hints = "".join(_suggestion(str(name), known) for name in unknown[:1])
        sentence = validation_message(error)
        raise CliError(f"{command}: {sentence}{hints} `switchboard explain {command}` shows its fields.") from None


def _command_type(command: str) -> type[CommandData]:
    """Raises `CliError` with the command that may have been meant."""
    if command not in COMMANDS:
        hint = _suggestion(command, SENT_BY_PEOPLE)
        raise CliError(f"There is no command {command[:128]!r}.{hint} `switchboard explain` lists them all.")
    return COMMANDS[command]


def _suggestion(word: str, known: Iterable[str]) -> str:
    """`` Did you mean …?``, or nothing."""

    def plain(text: str) -> str:
        return text.lower().replace("-", "").replace("_", "")

    names = {plain(name): name for name in known}
    close = get_close_matches(plain(word), names, n=1, cutoff=0.6)
    return f" Did you mean {names[close[0]]!r}?" if close else ""


def _described(kind: type[CommandData]) -> list[str]:
    return inspect.cleandoc(kind.__dict__["__doc__"]).replace("``", "'").split("\n")


def _fields(kind: type[CommandData]) -> Iterator[tuple[str, dict[str, Any], str, dict[str, Any]]]:
    """(name, JSON Schema, whether it is needed, the whole schema)."""
    schema = kind.model_json_schema(by_alias=True)
    for name, field in schema.get("properties", {}).items():
        needed = "required" if name in schema.get("required", ()) else f"default: {json.dumps(field.get('default'))}"
        yield name, field, needed, schema


def example_of(kind: type[CommandData]) -> dict[str, Any]:
    """Data with the required fields; for an edit, also its first field that is not its id."""
    fields = list(_fields(kind))
    shown = [(name, field) for name, field, needed, _ in fields if needed == "required"]
    if kind.__name__.startswith("Edit"):
        shown.append(next((name, field) for name, field, needed, _ in fields if needed != "required"))
    return {name: _EXAMPLES[name] if name in _EXAMPLES else _sample(field) for name, field in shown}


def _sample(field: dict[str, Any]) -> Any:
    if "enum" in field:
        return field["enum"][0]
    return {"boolean": True, "object": {}, "integer": 1}[field["type"]]


def _shape(field: dict[str, Any], schema: dict[str, Any]) -> str:
    """A JSON Schema in words."""
    if "anyOf" in field:
        return " or ".join(_shape(one, schema) for one in field["anyOf"])
    if "$ref" in field:
        return _shape(schema["$defs"][field["$ref"].rpartition("/")[2]], schema)
    if "oneOf" in field:
        return "one of the commands that can be proposed: {type, data}"
    if "enum" in field:
        return " | ".join(field["enum"])
    match field.get("type"):
        case "boolean":
            return "true or false"
        case "array":
            return f"list of {_shape(field['items'], schema)}"
        case "object" if "properties" in field:
            return f"object: {', '.join(field['properties'])}"
        case "string" if "maxLength" in field:
            return f"text of at most {field['maxLength']} characters"
        case "string" if "pattern" in field:
            return f"text like {field['pattern']}"
        case "string":
            return "text"
        case "integer":
            return f"whole number{_bounds(field)}"
        case kind:
            return str(kind)


def _bounds(field: dict[str, Any]) -> str:
    return f", {field['minimum']} to {field['maximum']}" if {"minimum", "maximum"} <= field.keys() else ""
