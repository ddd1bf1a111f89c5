"""Runs one server and ends it when the parent process ends, even by SIGKILL.

Started as a script in a session of its own, so that Ctrl-C reaches only the parent. The parent holds the other end of
standard input: when it ends, this process reads an end of file. Standard library only, to start quickly.

Argument: a JSON object with ``command``, ``log``, ``lock``, ``stop_signal``, ``patience_s``. Prints the server's
process id, or ``locked`` where another guard's server still uses the same data after ``patience_s``.
"""

import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time

_PR_SET_PDEATHSIG = 1


def main() -> int:
    order = json.loads(sys.argv[1])
    lock = os.open(order["lock"], os.O_RDWR | os.O_CREAT, 0o600)
    if not _locked(lock, order["patience_s"]):
        print("locked", flush=True)  # noqa: T201 -- the parent reads it
        return 75
    with open(order["log"], "ab") as log:  # noqa: PTH123 -- pathlib would double the start-up time
        server = subprocess.Popen(
            order["command"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=_die_with_the_guard,
        )
    print(server.pid, flush=True)  # noqa: T201
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(name, lambda *_: server.send_signal(order["stop_signal"]))
    threading.Thread(target=_stop_when_alone, args=(server, order), daemon=True).start()
    return server.wait()


def _locked(lock: int, patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        else:
            return True


def _die_with_the_guard() -> None:
    """On Linux, the kernel ends the server if the guard itself is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _stop_when_alone(server: "subprocess.Popen[bytes]", order: "dict[str, object]") -> None:
    while os.read(0, 1024):
        pass
    server.send_signal(int(str(order["stop_signal"])))
    try:
        server.wait(float(str(order["patience_s"])))
    except subprocess.TimeoutExpired:
        server.kill()


if __name__ == "__main__":
    sys.exit(main())
