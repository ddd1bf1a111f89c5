"""Types the lines of ``docs/tour.md`` into a terminal, and compares what it shows with the page."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
from pathlib import Path
from types import TracebackType
from typing import Self

import contracts

HOME = Path(contracts.__file__).parent.parent
_BLOCK = re.compile(r"```(sh|python|text)\n(.*?)```", re.DOTALL)
_START = re.compile(r"((?:\w+=\S+ )*)make run\n")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
_END = "the block has ended"


class Tour:
    """``replaced`` are the page's addresses, and those to use for them."""

    def __init__(self, directory: Path, replaced: dict[str, str]) -> None:
        page = (HOME / "docs" / "tour.md").read_text()
        for address, other in replaced.items():
            assert address in page
            page = page.replace(address, other)
        self._blocks: list[tuple[str, str]] = _BLOCK.findall(page)
        self._directory = directory
        (directory / ".venv").symlink_to(HOME / ".venv")
        self._terminal, shown = pty.openpty()
        fcntl.ioctl(shown, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        ours = ("SWITCHBOARD_", "COLUMNS")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        self._shell = subprocess.Popen(
            ("bash", "--norc"),
            cwd=directory,
            env=environment | {"TERM": "xterm", "LC_ALL": "C.UTF-8"},
            stdin=subprocess.PIPE,
            stdout=shown,
            stderr=shown,
            start_new_session=True,
        )
        os.close(shown)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._shell.pid, signal.SIGKILL)
        self._shell.communicate()
        os.close(self._terminal)
        assert error is not None or not self._blocks, "the tour was not walked to its end"

    def start(self) -> dict[str, str]:
        """The variables with which the next block has Switchboard started."""
        kind, text = self._blocks.pop(0)
        line = _START.fullmatch(text)
        assert kind == "sh", text
        assert line, text
        return dict(one.split("=", 1) for one in line[1].split())

    def saw(self, lines: list[str]) -> None:
        """Compares what the start showed."""
        _compare("make run", self._shown(), "\n".join(lines))

    def play(self) -> None:
        """Everything up to the next start, or the end."""
        while self._blocks and not _START.fullmatch(self._blocks[0][1]):
            kind, text = self._blocks.pop(0)
            if kind == "python":
                (self._directory / "receiver.py").write_text(text)
                continue
            assert kind == "sh", text
            shown = self._type(text)
            if self._blocks and self._blocks[0][0] == "text":
                _compare(text, self._shown(), shown)

    def _shown(self) -> str:
        kind, text = self._blocks.pop(0)
        assert kind == "text", text
        return text

    def _type(self, block: str) -> str:
        assert self._shell.stdin is not None
        self._shell.stdin.write(f"{block}\necho {_END}\n".encode())
        self._shell.stdin.flush()
        shown = b""
        while not shown.replace(b"\r", b"").endswith(f"{_END}\n".encode()):
            shown += os.read(self._terminal, 65_536)
        return _ESCAPES.sub("", shown.decode()).removesuffix(f"{_END}\n")


def _compare(block: str, expected: str, shown: str) -> None:
    """``…`` stands for any lines where it is a line, and for any part of one elsewhere. Blank lines do not count."""
    pattern = ""
    shown = "".join(f"{line.rstrip()}\n" for line in shown.splitlines() if line.strip())
    for line in filter(str.strip, expected.splitlines()):
        if line == "…":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*".join(re.escape(part) for part in line.rstrip().split("…")) + "\n"
    assert re.fullmatch(pattern, shown), f"{block}\nThe tour says:\n{expected}\nIt was:\n{shown}"
