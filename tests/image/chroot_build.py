"""Runs a Dockerfile's steps in directories made by debootstrap, for machines without a Docker engine.

It knows the instructions that `deploy/Dockerfile` uses and no others, and every FROM is Debian's bookworm.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_MACHINE = "run/machine"


@dataclass(slots=True)
class Stage:
    """``root`` is its file system; the rest is what a container of it would be started with."""

    root: Path
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    shell: list[str] = field(default_factory=lambda: ["/bin/sh", "-c"])
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)
    health_check: list[str] = field(default_factory=list)

    def run(self, command: list[str], environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Without any variable of ours."""
        return subprocess.run(
            ["chroot", f"--userspec={self.user}", str(self.root), *command],
            env=self.environment | (environment or {}),
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    @contextmanager
    def started(self, arguments: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
        """The image's program as a container runs it: the root file system read-only, but for an empty /tmp."""
        mount = 'mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; mount -t tmpfs tmpfs "$1/tmp"; shift'
        chroot = ["chroot", f"--userspec={self.user}", str(self.root), *self.entrypoint, *arguments]
        process = subprocess.Popen(
            ["unshare", "--mount", "/bin/sh", "-ec", f'{mount}; exec "$@"', "sh", str(self.root), *chroot],
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=30)


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    lines = [line for line in dockerfile.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.partition(" ")[0], line.partition(" ")[2].strip()) for line in joined.splitlines()]


def build(dockerfile: Path, context: Path, directory: Path, build_environment: dict[str, str]) -> Stage:
    """Returns the last stage. ``build_environment`` is what the machine needs to reach package indexes."""
    base = directory / "base"
    subprocess.run(
        ["debootstrap", "--variant=minbase", "bookworm", str(base)], check=True, stdout=subprocess.DEVNULL, timeout=600
    )
    stages: dict[str, Stage] = {}
    stage, given = Stage(base), build_environment
    for name, value in instructions(dockerfile.read_text()):
        match name:
            case "FROM":
                image, _, alias = value.partition(" AS ")
                assert image == "debian:bookworm-slim"
                stage = Stage(directory / f"stage-{len(stages)}")
                subprocess.run(["cp", "-a", str(base), str(stage.root)], check=True, timeout=120)
                given = _give_network(stage.root, build_environment)
                stages[alias or "last"] = stage
            case "SHELL":
                stage.shell = json.loads(value)
            case "ENV":
                stage.environment |= dict(pair.split("=", 1) for pair in shlex.split(value))
            case "COPY":
                _copy(stage, stages, context, value.split())
            case "RUN":
                done = stage.run([*stage.shell, value], given)
                assert done.returncode == 0, f"{value}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
            case "USER":
                stage.user = value
            case "ENTRYPOINT":
                stage.entrypoint = json.loads(value)
            case "HEALTHCHECK":
                stage.health_check = json.loads(value.partition(" CMD ")[2])
            case _:
                raise ValueError(f"the instruction {name} is unknown here")
    shutil.rmtree(stage.root / _MACHINE)
    return stage


def _copy(stage: Stage, stages: dict[str, Stage], context: Path, words: list[str]) -> None:
    source = context
    if words[0].startswith("--from="):
        source = stages[words.pop(0).removeprefix("--from=")].root
    *sources, target = words
    for one in sources:
        found, to = source / one.lstrip("/"), stage.root / target.lstrip("/")
        if found.is_dir():
            ignored = shutil.ignore_patterns("__pycache__") if source == context else None
            shutil.copytree(found, to, symlinks=True, dirs_exist_ok=True, ignore=ignored)
        else:
            to = to / found.name if target.endswith("/") else to
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(found, to)


def _give_network(root: Path, environment: dict[str, str]) -> dict[str, str]:
    """What an engine gives a container too: names of hosts, a few devices; and what this machine reaches packages with.

    Returns the environment with the files that it names where the steps find them. They are no part of the image.
    """
    (root / _MACHINE).mkdir()
    given = dict(environment)
    for name, value in environment.items():
        if (found := Path(value)).is_file():
            shutil.copyfile(found, root / _MACHINE / name)
            given[name] = f"/{_MACHINE}/{name}"
    if (settings := Path("/etc/pip.conf")).is_file():
        shutil.copyfile(settings, root / _MACHINE / "pip.conf")
        given["PIP_CONFIG_FILE"] = f"/{_MACHINE}/pip.conf"
    for name in ("etc/resolv.conf", "etc/hosts"):
        shutil.copyfile(Path("/", name), root / name)
    for name in ("null", "zero", "urandom", "random"):
        if not (device := root / "dev" / name).exists():
            os.mknod(device, 0o20666, Path("/dev", name).stat().st_rdev)
    return given
