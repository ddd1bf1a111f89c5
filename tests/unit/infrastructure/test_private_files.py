"""The data directory's modes are repaired, and a directory that others share is refused untouched."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.infrastructure.embedded.private_files import keep_private
from services.infrastructure.embedded.process import DirectoryUnusable


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_what_an_earlier_run_left_open_is_closed(tmp_path: Path) -> None:
    (tmp_path / "kafka" / "logs").mkdir(parents=True)
    for file in (tmp_path / "keyring", tmp_path / "kafka" / "logs" / "segment"):
        file.touch(mode=0o644)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").touch(mode=0o644)
    tmp_path.chmod(0o755)

    keep_private(tmp_path)
    (tmp_path / "new").touch()

    modes = {str(path.relative_to(tmp_path)): path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes.pop("mine/notes") == 0o644, "what is not ours is left alone"
    assert {name for name, mode in modes.items() if mode & 0o077} == set()
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_a_link_out_of_it_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").touch(mode=0o644)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "keyring").symlink_to(tmp_path / "outside")

    keep_private(tmp_path / "data")

    assert (tmp_path / "outside").stat().st_mode & 0o777 == 0o644


def test_a_directory_that_all_users_share_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)

    with pytest.raises(DirectoryUnusable, match=r"shared with other users.*directory of its own"):
        keep_private(tmp_path)

    assert tmp_path.stat().st_mode & 0o7777 == 0o1777
