"""``switchboard projections``: how far the read models are, building one anew beside the live one, and going back."""

from __future__ import annotations

import typer

app = typer.Typer(help="The read models.", no_args_is_help=True)
