"""The error that every command raises when it cannot do what was asked, and the check of ids that most of them need."""

from __future__ import annotations

from contracts.ids import is_id

EXIT_UNUSABLE = 2
"""The exit code for input or surroundings that cannot be used."""

EXIT_FAULT = 70
"""The exit code for a fault of ours, with a traceback: never 1, which is an answer. The EX_SOFTWARE of sysexits.h."""


class CliError(Exception):
    """The command cannot do what was asked; the sentence says why. It is printed as one line."""


def require_id(option: str, value: str | None) -> None:
    """Raises `CliError` where the option's value is given and no id."""
    if value == "" and option == "--account":
        raise CliError("--account is missing; name the account there, or in SWITCHBOARD_ACCOUNT.")
    if value is not None and not is_id(value):
        raise CliError(f"{option} is {value!r}; it must be 1 to 128 characters of A-Z a-z 0-9 . _ : -")
