"""The history read model: every event and every rejection, with the actor, the source, and what changed."""

from pathlib import Path

NAME = "switchboard.projector-history"
"""Consumer group, and the name of its checkpoints."""

MODEL = "history"
"""The read model in ``switchboard.read_models``; its versions are built in schemas ``history_vN``."""

TABLES = Path(__file__).with_name("tables.sql")
"""The tables of one version."""
