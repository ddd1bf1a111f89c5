"""A backup: a copy of every topic at one cut, with what is needed to restore it and to notice that it was changed.

A directory of three files. `log.jsonl` is a copy of the log as `copied_log` reads it, so audits can be asked of it.
`manifest.json` has the offsets of each partition, those of markers and aborted records too. `SHA256SUMS` has the
checksums of both, in the form that ``sha256sum -c`` checks. Until the backup is whole, it is empty, locked and has the
name `SHA256SUMS.unfinished`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
UNFINISHED = f"{CHECKSUMS}.unfinished"
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


@contextmanager
def new_directory(directory: Path) -> Iterator[None]:
    """The directory of a new backup, which nobody else writes meanwhile; what an unfinished backup left there is
    deleted. Raises `AuditError` where it has anything else in it, cannot be made, or another process writes it."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = {path.name for path in directory.iterdir()}
        if found - ({LOG, MANIFEST, UNFINISHED} if UNFINISHED in found else set()):
            raise AuditError(f"{directory} is not empty; give each backup a directory of its own.")
        lock = os.open(directory / UNFINISHED, os.O_WRONLY | os.O_CREAT, 0o600)
    except OSError as error:
        raise AuditError(f"{directory} cannot be used: {error.strerror}.") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for name in (LOG, MANIFEST):
            (directory / name).unlink(missing_ok=True)
        yield
    except BlockingIOError:
        raise AuditError(f"Another process writes a backup to {directory}.") from None
    finally:
        os.close(lock)


async def write_backup(
    directory: Path,
    log: Log,
    ranges: Mapping[TopicPartition, OffsetRange],
    *,
    made_at: str,
    release: str,
    read_compacted_by: float = math.inf,
    progress: Progress = no_progress,
) -> Manifest:
    """Copies the ranges into the directory, within `new_directory`.

    Compacted topics are read first, until ``read_compacted_by`` of `time.monotonic` at the latest: later, what was the
    last record of its key at the cut may be gone, because of a newer one after the cut. Raises `AuditError`.
    """
    names = {topic.name for topic in topics.COMPACTED}
    with _File(directory / LOG) as file:
        records = await copy(log, {one: ranges[one] for one in ranges if one.topic in names}, file.write, progress)
        if time.monotonic() > read_compacted_by:
            raise AuditError(
                "The compacted topics were read too slowly: the broker may have removed what they had at the cut. If "
                "`switchboard topics apply --check` says that their min.compaction.lag.ms differs, apply it; then back "
                "up again."
            )
        records += await copy(log, {one: ranges[one] for one in ranges if one.topic not in names}, file.write, progress)
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
    with _File(directory / UNFINISHED, new=False) as sums:
        sums.write(f"{file.digest.hexdigest()}  {LOG}\n{described.digest.hexdigest()}  {MANIFEST}\n")
    (directory / UNFINISHED).rename(directory / CHECKSUMS)
    _sync(directory)
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

    def __init__(self, path: Path, *, new: bool = True) -> None:
        descriptor = os.open(path, os.O_WRONLY | (os.O_CREAT | os.O_EXCL if new else os.O_TRUNC), 0o600)
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


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def open_backup(directory: Path) -> Backup:
    """Raises `AuditError` unless the directory has a whole backup, as it was written."""
    if (directory / UNFINISHED).exists():
        raise AuditError(f"{directory}: this backup was not finished; `switchboard backup {directory}` begins it anew.")
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
