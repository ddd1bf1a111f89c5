"""The decider's metrics. They are counted once per transaction: a command costs nothing more."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import nlargest
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from services.decider.batch import Batch

_TIMES = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30)

COMMANDS = Counter("switchboard_decider_commands", "Commands that were read, and their transaction committed.")
EVENTS = Counter("switchboard_decider_events", "Events appended.")
OUTCOMES = Counter("switchboard_decider_outcomes", "Outcomes appended, repeated ones among them.")
DEAD_LETTERS = Counter("switchboard_decider_dead_letters", "Commands that became dead letters.")
FAILED = Counter("switchboard_decider_decisions_failed", "Decisions that raised: a fault of the decider.")
RESTARTS = Counter("switchboard_decider_restarts", "Partitions that begin again, by the error's name.", ("reason",))
OVER_TIME = Counter("switchboard_decider_batches_over_time", "Batches that were cut because their time was over.")
DECIDING = Histogram("switchboard_decider_decision_seconds", "Time of deciding one batch.", buckets=_TIMES)
TRANSACTION = Histogram(
    "switchboard_decider_transaction_seconds", "Time of a transaction, begin to commit.", buckets=_TIMES
)
SERVING = Gauge("switchboard_decider_partition_serving", "1 while the partition is served here.", ("partition",))
STOPPED = Gauge("switchboard_decider_partition_stopped", "1 after too many decisions in a row raised.", ("partition",))
PARTITIONS = Gauge("switchboard_decider_partitions", "Partitions of the topic of commands.")

TOP_ACCOUNTS = 5


def committed(batch: Batch, events: int) -> None:
    COMMANDS.inc(batch.processed)
    EVENTS.inc(events)
    OUTCOMES.inc(batch.fork.outcome_count)
    DEAD_LETTERS.inc(batch.dead_letters)
    OVER_TIME.inc(batch.over_time)


def released(partition: int) -> None:
    """Another process shows the partition from now on."""
    for gauge in (SERVING, STOPPED):
        gauge.remove(str(partition))


class AccountShares(Collector):
    """The largest accounts' shares of the commands of the last 24 hours on this process' partitions.

    Labelled by rank: a label per account would grow without bound, and metrics are no place for customers' names.
    """

    def __init__(self) -> None:
        self.read: Callable[[], Iterable[Mapping[str, int]]] = tuple

    def collect(self) -> Iterator[GaugeMetricFamily]:
        total: Tally[str] = Tally()
        for counts in self.read():
            total.update(dict(counts))
        everything = sum(total.values())
        family = GaugeMetricFamily(
            "switchboard_decider_account_share_ratio", "Share of the accounts with most commands.", labels=["rank"]
        )
        for rank, count in enumerate(nlargest(TOP_ACCOUNTS, total.values()), start=1):
            family.add_metric([str(rank)], count / everything)
        yield family


account_shares = AccountShares()
REGISTRY.register(account_shares)
