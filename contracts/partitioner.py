"""Which partition a channel lives on: Kafka's own default partitioner, murmur2 of the key.

Clients disagree on the default (librdkafka: CRC32), so the channel id decides, never the partition a record came on.
Source: org.apache.kafka.common.utils.Utils.murmur2, as aiokafka has it too.
"""

from __future__ import annotations

from functools import lru_cache


def murmur2(data: bytes) -> int:
    """The 32-bit murmur2 of Kafka's Java client, unsigned."""
    length = len(data)
    m = 0x5BD1E995
    h = 0x9747B28C ^ length
    whole = length & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little")
        k = k * m & 0xFFFFFFFF
        k ^= k >> 24
        k = k * m & 0xFFFFFFFF
        h = h * m & 0xFFFFFFFF
        h ^= k
    if length & 3:
        h ^= int.from_bytes(data[whole:], "little")
        h = h * m & 0xFFFFFFFF
    h ^= h >> 13
    h = h * m & 0xFFFFFFFF
    return h ^ h >> 15


@lru_cache(16_384)
def partition_of(channel: str, partitions: int) -> int:
    """The home partition of a channel among ``partitions``."""
    return (murmur2(channel.encode()) & 0x7FFFFFFF) % partitions
