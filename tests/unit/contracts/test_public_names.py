"""The package's public names, which it imports when they are asked for."""

from __future__ import annotations

import subprocess
import sys

import contracts
from contracts.message_types import COMMANDS, EVENTS
from contracts.rejections import REJECTIONS


def test_every_public_name_is_there() -> None:
    for name in dir(contracts):
        assert getattr(contracts, name).__class__ is not type(contracts), name


def test_every_message_is_public() -> None:
    assert {*COMMANDS, *EVENTS, *REJECTIONS} <= set(dir(contracts))
    assert not [name for name in dir(contracts) if name.startswith("_")]


def test_a_message_imports_no_client() -> None:
    code = "import sys; from contracts import ToggleSms; print({'aiokafka', 'nacl'} & set(sys.modules))"
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=False)
    assert done.stdout == "set()\n", done.stderr
