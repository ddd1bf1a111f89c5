"""The settings read model: what each channel is set to now, as the gateway and the console show it."""

from pathlib import Path

NAME = "switchboard.projector"
"""Consumer group, and the name of its checkpoints."""

MODEL = "settings"
"""The read model in ``switchboard.read_models``; its versions are built in schemas ``settings_vN``."""

TABLES = Path(__file__).with_name("tables.sql")
"""The tables of one version."""
