"""Makes the broker's startup cache, from a broker that starts and stops once. Brokers start without it all the same.

``python -m services.infrastructure.embedded.startup_cache``, which does nothing where the cache is there already.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from services.infrastructure.embedded.broker_jvm import java, startup_cache
from services.infrastructure.embedded.kafka import EmbeddedKafka
from services.infrastructure.embedded.process import EmbeddedServerError


def make() -> None:
    """Raises `EmbeddedServerError` and `subprocess.CalledProcessError` where it cannot be made."""
    file = startup_cache()
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as name:
        directory = Path(name)
        configuration, made = f"-XX:AOTConfiguration={directory / 'kafka.aotconf'}", directory / "kafka.aot"
        with EmbeddedKafka(directory / "broker", secured=True, jvm_options=("-XX:AOTMode=record", configuration)):
            pass  # the JVM writes the configuration when it ends
        create = java("-XX:AOTMode=create", configuration, f"-XX:AOTCache={made}")
        subprocess.run(create, check=True, capture_output=True)
        made.chmod(0o600)
        made.rename(file)


if __name__ == "__main__":
    try:
        make()
    except (EmbeddedServerError, subprocess.CalledProcessError) as error:
        sys.exit(f"Brokers will start without a startup cache: {error}")
