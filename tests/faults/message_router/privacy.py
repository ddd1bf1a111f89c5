"""The invariant 17: a recipient's number is on `message-requests`, and in clear text nowhere else.

Each round looks through topics, tables and services' logs, and the end of a run through the servers' files, of which a
backup is a copy: also what was deleted since, what is written ahead, and what the servers logged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from contracts import topics
from tests.faults.message_router.log import Log
from tests.faults.message_router.testbed import Testbed


async def numbers_elsewhere(testbed: Testbed, log: Log, numbers: Iterable[str]) -> list[str]:
    """Where a number is found, in any form: other topics, every table of the database, the routers' log."""
    found = [*_in_topics(log, numbers)]
    tables = await testbed.rows(
        "SELECT table_schema AS schema, table_name AS name FROM information_schema.tables "
        "WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')"
    )
    for table in tables:
        name = f"{table['schema']}.{table['name']}"
        rows = await testbed.rows(f"SELECT * FROM {name}")  # noqa: S608 -- our names
        values = [value for row in rows for value in row.values()]
        text = "\n".join(one.decode("latin-1") if isinstance(one, bytes) else str(one) for one in values)
        found += [f"{number} is in {name}" for number in _in(text, numbers)]
    output = testbed.installation.output()
    return found + [f"{number} is in a service's log" for number in _in(output, numbers)]


def numbers_in_files(directory: Path, numbers: Iterable[str]) -> list[str]:
    """Where a number is found in files below the directory, but for the segments of `message-requests`."""
    segments = re.compile(rf"{re.escape(topics.MESSAGE_REQUESTS.name)}-\d+")
    ahead = (".index", ".timeindex")  # the broker's own, of offsets and times; megabytes of zeros are allocated ahead
    digits = {one.removeprefix("+").encode() for one in numbers}
    found = []
    for path in directory.rglob("*"):
        if path.is_file() and path.suffix not in ahead and not any(segments.fullmatch(part) for part in path.parts):
            in_file = digits.intersection(re.findall(rb"\d{7,15}", path.read_bytes()))
            found += [f"{number.decode()} is in {path.relative_to(directory)}" for number in sorted(in_file)]
    return found


def _in_topics(log: Log, numbers: Iterable[str]) -> Iterator[str]:
    for topic, records in log.topics.items():
        if topic == topics.MESSAGE_REQUESTS.name:
            continue
        parts = [
            part.decode("latin-1")
            for one in records
            for part in (one.key, one.value, *one.headers.values())
            if part is not None
        ]
        yield from (f"{number} is on {topic}" for number in _in("\n".join(parts), numbers))


def _in(text: str, numbers: Iterable[str]) -> list[str]:
    """The numbers that the text has with or without the plus."""
    digits = {one.removeprefix("+") for one in numbers}
    return sorted(digits & set(re.findall(r"\d{7,15}", text)))
