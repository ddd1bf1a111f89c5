"""A backup: a copy of every topic at one cut, with what is needed to restore it and to notice that it was changed.

A directory of three files. `log.jsonl` is a copy of the log as `copied_log` reads it, so audits can be asked of it.
`manifest.json` has the offsets of each partition, those of markers and aborted records too. `SHA256SUMS` has the
checksums of both, in the form that ``sha256sum -c`` checks. It is written last: a backup without it was not finished.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka import TopicPartition
from pydantic import BaseModel, ConfigDict, ValidationError

from contracts import topics
from services.audit.log.copied_log import CopiedLog, copy
from services.audit.log.errors import AuditError
from services.audit.log.source import Log, OffsetRange, Progress, no_progress

LOG, MANIFEST, CHECKSUMS = "log.jsonl", "manifest.json", "SHA256SUMS"
_FORMAT = 1
_READ_BYTES = 1024 * 1024


class Manifest(BaseModel):
    """What a backup holds. ``offsets`` has, by topic, the first offset and the end of each partition.

    ``keys`` names the keys of the key ring under which secrets are encrypted; the keys themselves are not in a backup.
    """

    model_config = ConfigDict(frozen=True)

    format: int = _FORMAT
    made_at: str
    release: str
    partitions: int
    records: int
    keys: tuple[str, ...]
    offsets: dict[str, tuple[tuple[int, int], ...]]

    def ranges(self) -> dict[TopicPartition, OffsetRange]:
        return {
            TopicPartition(topic, number): OffsetRange(*offsets)
            for topic, partitions in self.offsets.items()
            for number, offsets in enumerate(partitions)
        }


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup whose checksums are right."""

    manifest: Manifest
    log: CopiedLog


def make_directory(directory: Path) -> None:
    """Makes the directory of a new backup. Raises `AuditError` where it has something in it, or cannot be made."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        empty = not any(directory.iterdir())
    except OSError as error:
        raise AuditError(f"{directory} cannot be used: {error.strerror}.") from None
    if not empty:
        raise AuditError(f"{directory} is not empty; give each backup a directory of its own.")


async def write_backup(
    directory: Path,
    log: Log,
    ranges: Mapping[TopicPartition, OffsetRange],
    *,
    made_at: str,
    release: str,
    progress: Progress = no_progress,
) -> Manifest:
    """Copies the ranges into the directory, which `make_directory` made. Compacted topics should come first in them."""
    with _File(directory / LOG) as file:
        records = await copy(log, ranges, file.write, progress)
    keys = await _keys(CopiedLog(directory / LOG))
    by_topic: dict[str, dict[int, tuple[int, int]]] = {}
    for source, offsets in ranges.items():
        by_topic.setdefault(source.topic, {})[source.partition] = (offsets.first, offsets.end)
    manifest = Manifest(
        made_at=made_at,
        release=release,
        partitions=log.partitions,
        records=records,
        keys=tuple(sorted(keys)),
        offsets={name: tuple(found[number] for number in sorted(found)) for name, found in sorted(by_topic.items())},
    )
    with _File(directory / MANIFEST) as described:
        described.write(manifest.model_dump_json(indent=1) + "\n")
    with _File(directory / CHECKSUMS) as sums:
        sums.write(f"{file.digest.hexdigest()}  {LOG}\n{described.digest.hexdigest()}  {MANIFEST}\n")
    return manifest


async def _keys(log: CopiedLog) -> set[str]:
    """The ids of the keys under which the secrets are encrypted that are not deleted."""
    keys: dict[bytes | None, str] = {}
    for source, offsets in (await log.offset_ranges(topics.SIGNATURES.name)).items():
        async for batch in log.read(source, offsets):
            for record in batch:
                keys.pop(record.key, None)
                if record.value is not None:
                    keys[record.key] = _key(record.value)
    return set(keys.values())


def _key(value: bytes) -> str:
    try:
        return str(json.loads(value)["kek"])
    except (ValueError, TypeError, LookupError):
        return "unknown"


class _File:
    """A file for its owner alone, with the digest of what is written; on the disk when the context ends."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = os.fdopen(descriptor, "wb")
        self.digest = hashlib.sha256()

    def write(self, text: str) -> None:
        data = text.encode(errors="surrogatepass")
        self.digest.update(data)
        self._file.write(data)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def open_backup(directory: Path) -> Backup:
    """Raises `AuditError` unless the directory has a whole backup, as it was written."""
    try:
        lines = (directory / CHECKSUMS).read_text("utf-8").splitlines()
        sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
        for name in (LOG, MANIFEST):
            if sums.get(name) != _digest(directory / name):
                raise AuditError(
                    f"{directory / name} was changed or cut off after the backup was made: "
                    f"its checksum is not the one in {CHECKSUMS}."
                )
        manifest = Manifest.model_validate_json((directory / MANIFEST).read_bytes())
    except FileNotFoundError as error:
        name = Path(error.filename).name
        raise AuditError(f"{directory} is no backup, or one that was not finished: it has no {name}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise AuditError(f"{directory} cannot be read: {error}.") from None
    except ValidationError:
        raise AuditError(f"{directory / MANIFEST} is of another release, or no manifest of a backup.") from None
    if manifest.format != _FORMAT:
        raise AuditError(f"{directory} has format {manifest.format}, which this release cannot restore.")
    return Backup(manifest, CopiedLog(directory / LOG))


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(_READ_BYTES):
            digest.update(data)
    return digest.hexdigest()
