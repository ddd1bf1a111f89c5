"""The limit of the invoker: a bare aiohttp loop that posts 1 KB, signs nothing and keeps nothing.

python -m tests.bench.bare_caller port hosts at-once count; prints calls a second
"""

from __future__ import annotations

import asyncio
import sys
import time

import aiohttp
import uvloop

BODY = b'{"data": "%b"}' % (b"x" * 1000)


async def rate(urls: list[str], at_once: int, count: int) -> float:
    """Calls a second, once every host has been called."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def post(numbers: range) -> None:
            for number in numbers:
                async with session.post(urls[number % len(urls)], data=BODY) as response:
                    response.raise_for_status()
                    await response.read()

        await asyncio.gather(*(post(range(one, len(urls), at_once)) for one in range(at_once)))
        started = time.perf_counter()
        await asyncio.gather(*(post(range(one, count, at_once)) for one in range(at_once)))
        return count / (time.perf_counter() - started)


def addresses(port: int, hosts: int) -> list[str]:
    return [f"http://127.0.{number // 250}.{number % 250 + 1}:{port}/hook" for number in range(hosts)]


if __name__ == "__main__":
    port, hosts, at_once, count = map(int, sys.argv[1:])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.stdout.write(f"{runner.run(rate(addresses(port, hosts), at_once, count))}\n")
