"""The broker's jars: a checked-in list with their SHA-256. jgo downloads missing ones.

``python -m services.infrastructure.embedded.jars VERSION`` resolves that Kafka version again and rewrites the list.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from jgo.maven import MavenContext
from rich.console import Console
from rich.progress import Progress

import deploy
from services.infrastructure.embedded.process import EmbeddedServerError

MANIFEST = Path(deploy.__file__).with_name("kafka-jars.toml")
_DOWNLOADS_AT_ONCE = 8
_LOGGING = "org.slf4j:slf4j-simple:1.7.36"
"""The logging back end. Kafka's distribution has one, its Maven artifact does not, and would log nothing."""


class JarsUnavailable(EmbeddedServerError):
    """No Maven registry can be reached."""


class JarMismatch(EmbeddedServerError):
    """A jar has another SHA-256 than the list."""


@dataclass(frozen=True, slots=True)
class Jar:
    """A Maven artifact, ``group:artifact:version``, and the SHA-256 of its jar in lower-case hex."""

    artifact: str
    sha256: str


@dataclass(frozen=True, slots=True)
class JarSet:
    """A checked-in list of jars: what they hold, and what to do ``otherwise`` if they cannot be fetched."""

    manifest: Path
    holds: str
    otherwise: str


KAFKA = JarSet(MANIFEST, "Apache Kafka", "or set SWITCHBOARD_KAFKA_BOOTSTRAP_SERVERS to a broker that runs already")


def cache_directory() -> Path:
    """Raises `JarsUnavailable` where the user has no home and the environment names no other place."""
    cache = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(cache or Path.home() / ".cache") / "switchboard" / "jars"
    except RuntimeError:
        raise JarsUnavailable(
            "There is no home directory to keep jars in; set XDG_CACHE_HOME to a directory."
        ) from None


def manifest(path: Path = MANIFEST) -> list[Jar]:
    return [Jar(**entry) for entry in tomllib.loads(path.read_text())["jar"]]


def verified_jars(jars: list[Jar], cache: Path, of: JarSet = KAFKA) -> list[Path]:
    """The paths of all jars, downloaded where they are missing, each checked against its SHA-256.

    Raises `JarsUnavailable` and `JarMismatch`.
    """
    cache.mkdir(parents=True, exist_ok=True)
    maven = MavenContext(repo_cache=cache, timeout=60)
    with _one_at_a_time(cache):
        missing = [jar for jar in jars if not _cached(maven, jar).exists()]
        if missing:
            _download(maven, missing, of)
    paths = [_cached(maven, jar) for jar in jars]
    for jar, path in zip(jars, paths, strict=True):
        if hashlib.sha256(path.read_bytes()).hexdigest() != jar.sha256:
            raise JarMismatch(
                f"{path.name} is not the jar that deploy/{of.manifest.name} names (its SHA-256 differs); "
                f"delete {path} to have it fetched again."
            )
    return paths


@contextmanager
def _one_at_a_time(cache: Path) -> Iterator[None]:
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _artifact(maven: MavenContext, jar: Jar) -> Any:
    group, name, version = jar.artifact.split(":")
    return maven.project(group, name).at_version(version).artifact()


def _cached(maven: MavenContext, jar: Jar) -> Path:
    group, name, version = jar.artifact.split(":")
    return maven.repo_cache.joinpath(*group.split("."), name, version, f"{name}-{version}.jar")


def _download(maven: MavenContext, missing: list[Jar], of: JarSet) -> None:
    console = Console(stderr=True)
    if not console.is_terminal:
        console.print(f"Fetching {len(missing)} jars of {of.holds}, once.")
    with (
        Progress(console=console, disable=not console.is_terminal) as progress,
        ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as pool,
    ):
        task = progress.add_task(f"Fetching {of.holds}, once", total=len(missing))
        try:
            for _ in pool.map(lambda jar: _artifact(maven, jar).resolve(), missing):
                progress.advance(task)
        except (requests.RequestException, RuntimeError, OSError) as error:
            pool.shutdown(cancel_futures=True)
            raise JarsUnavailable(
                f"The jars of {of.holds} cannot be fetched ({type(error).__name__}): no Maven registry answers. "
                f"Check the network, {of.otherwise}."
            ) from None


def resolve(version: str) -> list[Jar]:
    """The jars that Kafka ``version`` needs at run time, resolved and fetched anew."""
    maven = MavenContext(repo_cache=cache_directory(), timeout=60)
    roots = (f"org.apache.kafka:kafka_2.13:{version}", _LOGGING)
    wanted, needed = maven.resolver.resolve([maven.create_dependency(root) for root in roots])
    dependencies = [*wanted, *(one for one in needed if one.scope in ("compile", "runtime"))]
    return sorted(
        (
            Jar(
                f"{one.artifact.groupId}:{one.artifact.artifactId}:{one.artifact.version}",
                hashlib.sha256(Path(one.artifact.resolve()).read_bytes()).hexdigest(),
            )
            for one in dependencies
        ),
        key=lambda jar: jar.artifact,
    )


def main() -> None:
    entries = "\n".join(
        f'[[jar]]\nartifact = "{jar.artifact}"\nsha256 = "{jar.sha256}"\n' for jar in resolve(sys.argv[1])
    )
    MANIFEST.write_text(f"# The jars of the embedded broker; `make jars` writes this file.\n\n{entries}")


if __name__ == "__main__":
    main()
