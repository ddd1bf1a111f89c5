"""``python -m tests.oracle --bootstrap HOST:PORT --api URL --key-file FILE``: judges a running installation."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.oracle.comparison import Oracle
from tests.oracle.http import Api
from tests.oracle.log import read


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.oracle", description=__doc__)
    options.add_argument("--bootstrap", required=True, help="the broker")
    options.add_argument("--api", required=True, help="the gateway, such as http://127.0.0.1:8080")
    options.add_argument("--key-file", required=True, type=Path, help="a file with a platform API key")
    options.add_argument("--samples", type=int, default=100, help="moments and differences to ask for")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--kafka-config", nargs="*", default=[], help="librdkafka settings, name=value")
    given = options.parse_args()
    kafka = {"bootstrap.servers": given.bootstrap} | dict(entry.split("=", 1) for entry in given.kafka_config)
    api = Api(given.api, given.key_file.read_text().strip())
    events, outcomes = read(kafka, "switchboard.events"), read(kafka, "switchboard.outcomes")
    findings = list(Oracle(events, outcomes, api).findings(given.samples, given.seed))
    for finding in findings[:50]:
        print(finding)
    channels = len({record.json["subject"] for record in events})
    print(
        f"{len(events):,} events of {channels:,} channels, {len(outcomes):,} outcomes, {given.samples:,} moments and "
        f"{given.samples:,} differences compared: {len(findings):,} findings"
    )
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
