"""Reads the text files and rate books that a person names on the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from services.cli.errors import CliError

if TYPE_CHECKING:
    from contracts.rates import ApplyRateBook


def read_text(file: Path) -> str:
    """The text of a file in UTF-8, or of standard input where it is ``-``. Raises `CliError`."""
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else (error.strerror or str(error))
        raise CliError(f"The file {str(file)!r} cannot be read: {reason}.") from None


def read_rates(file: Path) -> ApplyRateBook:
    """The rates of a file, as version 1. Raises `CliError` with a line per problem."""
    from services.message_router.rate_file import RateFileError, parse_rates

    try:
        return parse_rates(read_text(file), 1)
    except RateFileError as error:
        raise CliError(str(error)) from None
