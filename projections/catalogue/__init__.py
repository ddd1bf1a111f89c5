"""The catalogue read model: the intents that a template's buttons can call, for people who design templates."""

from pathlib import Path

NAME = "switchboard.projector-catalogue"
"""Consumer group, and the name of its checkpoints."""

MODEL = "catalogue"
"""The read model in ``switchboard.read_models``; its versions are built in schemas ``catalogue_vN``."""

TABLES = Path(__file__).with_name("tables.sql")
"""The tables of one version."""
