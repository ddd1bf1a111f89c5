"""``python -m services.cli`` is ``switchboard``."""

from services.cli.main import run

run()
