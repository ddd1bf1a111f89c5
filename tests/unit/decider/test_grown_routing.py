"""Who decides a command on a partition whose channels moved: each command has one owner, and none is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from contracts import topics
from contracts.partition_growth import PartitionGrowth, Partitions
from contracts.partitioner import partition_of
from services.decider.config import DeciderConfig
from services.decider.routing import FORWARDED_HEADER, forward, is_left_to_another
from services.domain.url_policy import Allowlist
from services.infrastructure.vault import KeyRing

KEYRING, ALLOWLIST = KeyRing.parse(KeyRing.make()), Allowlist.parse((), never=())
CUTS = {2: 10, 4: 20}
"""Of every partition, by the number of partitions before."""
GROWTH = Partitions(
    PartitionGrowth(before=before, to=to, state="finished", cuts={topics.COMMANDS.name: (CUTS[before],) * before})
    for before, to in ((2, 4), (4, 8))
)


@dataclass
class _Command:
    offset: int
    key: bytes | None = b"key"
    value: bytes | None = b"value"
    headers: Sequence[tuple[str, bytes]] = ()


def _config(partition: int) -> DeciderConfig:
    return DeciderConfig(partition, 8, KEYRING, ALLOWLIST, growth=GROWTH)


@given(st.text(min_size=1, max_size=20), st.integers(0, 7), st.integers(0, 30))
def test_one_owner_decides_or_forwards_each_command(channel: str, here: int, offset: int) -> None:
    home = partition_of(channel, 8)
    older = {parent.partition: parent.cut for parent in GROWTH.ancestors(topics.COMMANDS.name, home)}
    readers = [
        owner
        for owner in range(8)
        for parent in GROWTH.ancestors(topics.COMMANDS.name, owner)
        if parent.partition == here and offset < parent.cut
    ]
    takes_there = [owner for owner in readers if not is_left_to_another(_config(owner), here, channel, offset)]
    takes_here = [] if is_left_to_another(_config(here), None, channel, offset) else [here]

    assert takes_there + takes_here == [home if offset < older.get(here, 0) else here]


@given(st.text(min_size=1, max_size=20), st.integers(0, 7))
def test_a_forwarded_command_is_forwarded_again_from_where_its_channel_lived(channel: str, here: int) -> None:
    home = partition_of(channel, 8)
    lived = [parent.partition for parent in GROWTH.ancestors(topics.COMMANDS.name, home)]
    if here not in lived:
        return
    record = forward(_config(here), channel, _Command(30, headers=[(FORWARDED_HEADER, b"1")]))

    assert record is not None
    assert record.partition == home > here
