"""The errors of typer's own copy of click. Read in typer 0.29.

typer has no public names for what the parser raises; the command line turns it into one line.
"""

from __future__ import annotations

from typer._click.exceptions import NoArgsIsHelpError, UsageError

__all__ = ["NoArgsIsHelpError", "UsageError"]
