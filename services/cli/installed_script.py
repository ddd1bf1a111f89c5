#!python
"""The ``switchboard`` command as it is installed: pip puts the interpreter's path into the first line.

Folders on ``PYTHONPATH`` come before ours, and may have a module ``services`` or ``json`` of their own. So the command
starts over without it, before it imports anything else. What Python itself imports at its start (``sitecustomize``) has
run by then.
"""

import os
import sys

if os.environ.pop("PYTHONPATH", None) is not None:
    os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606 -- ourselves

from services.cli.main import run

if __name__ == "__main__":
    run()
