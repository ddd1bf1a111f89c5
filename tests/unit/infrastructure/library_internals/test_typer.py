"""typer still raises the errors that `library_internals/typer.py` names."""

from __future__ import annotations

import pytest
import typer

from services.infrastructure.library_internals.typer import NoArgsIsHelpError, UsageError

app = typer.Typer(no_args_is_help=True)


@app.command()
def one(count: int) -> None:
    """A command."""


@app.command()
def two() -> None:
    """Another one."""


@pytest.mark.parametrize("arguments", [["three"], ["one"], ["one", "x"], ["one", "1", "--zz"]])
def test_what_cannot_be_parsed(arguments: list[str]) -> None:
    with pytest.raises(UsageError) as refused:
        app(arguments, standalone_mode=False)
    assert refused.value.format_message()
    assert refused.value.ctx is not None
    assert refused.value.ctx.command_path


def test_no_arguments() -> None:
    with pytest.raises(NoArgsIsHelpError):
        app([], standalone_mode=False)
