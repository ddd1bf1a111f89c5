"""Read models: one folder each, with its fold, its queries and their SQL."""

from pathlib import Path

MIGRATIONS = Path(__file__).with_name("migrations")
