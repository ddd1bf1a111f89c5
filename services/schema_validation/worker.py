"""The process that checks data against schemas: a JSON line ``[schema, data]`` in, a line ``[outcome, reason]`` out.

A timer ends the process when a check takes too much processor time. It is the kernel's, and it needs neither the
interpreter nor the service: a check ends although the service was killed meanwhile.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys

from services.domain.json_schema import CHECK_DEADLINE_MS, check_data

READY = b"ready\n"
NICENESS = 5
"""Where processors are short, a service's own work comes before the checks, which its accounts choose."""
MEMORY_LIMIT = 1024 * 1024 * 1024
"""Of address space. A check that needs more ends the process."""


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the service's, which closes the pipe
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    os.nice(NICENESS)
    out = sys.stdout.buffer
    out.write(READY)
    out.flush()
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_PROF, CHECK_DEADLINE_MS / 1000)
        schema, data = json.loads(line)
        answer = json.dumps(check_data(schema, data)).encode() + b"\n"
        signal.setitimer(signal.ITIMER_PROF, 0)
        out.write(answer)
        out.flush()


if __name__ == "__main__":
    main()
