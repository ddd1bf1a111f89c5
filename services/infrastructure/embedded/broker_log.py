"""What a broker alone and the brokers of a cluster have in common: their log, its format, and whether they answer."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from contracts.topics import LARGEST_RECORD_BYTES
from services.infrastructure.acls import PRINCIPALS
from services.infrastructure.embedded import credentials
from services.infrastructure.embedded.process import DirectoryUnusable, ServerFailed


def common_properties(logs: Path, abort_scan_ms: int) -> str:
    return f"""
log.dirs={_value(logs)}
auto.create.topics.enable=false
offsets.topic.num.partitions=8
transaction.state.log.num.partitions=8
# An open transaction hides what follows it: look for abandoned ones often.
transaction.abort.timed.out.transaction.cleanup.interval.ms={abort_scan_ms}
group.initial.rebalance.delay.ms=0
broker.heartbeat.interval.ms=500
message.max.bytes={LARGEST_RECORD_BYTES}
replica.fetch.max.bytes={LARGEST_RECORD_BYTES}
log.cleaner.backoff.ms=1000
log.cleaner.dedupe.buffer.size=8388608
log.initial.task.delay.ms=1000
log.retention.check.interval.ms=60000
"""


def _value(path: Path) -> str:
    """A path as a value in a properties file, whose letters beyond ASCII are escapes.

    Raises `DirectoryUnusable` for a comma, which would make it a list, and for what is no text.
    """
    text = str(path)
    if "," in text or not text.isprintable():
        raise DirectoryUnusable(
            f"{text!a} has a comma, or a character that is no text, which Kafka cannot have in the name of a "
            "directory; set SWITCHBOARD_DATA_DIR to another."
        )
    units = text.replace("\\", "\\\\").encode("utf-16-be")
    codes = (int.from_bytes(units[at : at + 2]) for at in range(0, len(units), 2))
    return "".join(chr(code) if code < 128 else f"\\u{code:04x}" for code in codes)


def new_cluster_id() -> str:
    return base64.urlsafe_b64encode(b"\1" + os.urandom(15)).rstrip(b"=").decode()


def format_log(
    java: Sequence[str], properties: Path, cluster_id: str, passwords: Mapping[str, str] | None, log: Path
) -> None:
    """Formats the log directory that the properties name, and stores the passwords in it.

    The arguments are in a file, because a command line can be read by every user of the machine. Raises `ServerFailed`.
    """
    arguments = ["format", "-t", cluster_id, "-c", str(properties)]
    for principal in PRINCIPALS if passwords else ():
        login = f"name={principal},password={(passwords or {})[principal]}"
        arguments += ["--add-scram", f"{credentials.MECHANISM}=[{login}]"]
    file = properties.with_name("format.arguments")
    credentials.write_private(file, "\n".join(arguments) + "\n")
    done = subprocess.run(
        (*java, "kafka.tools.StorageTool", f"@{file}"),
        env=os.environ | {"LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    file.unlink()
    if done.returncode != 0:
        log.write_text(done.stderr)
        raise ServerFailed(f"The embedded Kafka broker's log directory cannot be formatted; see {log}.")


async def answers(bootstrap_servers: str, security: dict[str, Any]) -> bool:
    """Whether a real metadata request is answered, by a broker that takes requests for its topics."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, request_timeout_ms=2_000, **security)
    try:
        await admin.start()
        await admin.list_topics()
    except (KafkaError, OSError):
        return False
    else:
        return True
    finally:
        await admin.close()
