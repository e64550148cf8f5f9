"""What one awaited script call costs this process: our client beside redis-py's asyncio client, and the loop alone.

    .venv/bin/python bench/valkey.py [--calls 20000] [--rounds 5] [--loop uvloop]

Each caller awaits one call after the other, so many callers at once. µs are CPU time of this process (user and system),
median of the rounds; the server is a process of its own, on its own core where there are two. A bare future that
is awaited and set in the next turn of the loop is subtracted: what any way of waiting costs.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import redis.asyncio
import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.cpu import pin
from billing.infra.embedded import EmbeddedValkey
from billing.infra.valkey import Script, Valkey

SOURCE = "return {redis.call('INCRBY', KEYS[1], ARGV[1]), ARGV[2]}"
KEY = b"{tenant}:tokens"
ID = b"0197a3c2-5b1e-7c3d-9f00-000000000001"
CONCURRENCY = (1, 8, 32)

Call = Callable[[], Awaitable[object]]


async def cost_us(call: Call, callers: int, calls: int) -> float:
    async def caller() -> None:
        for _ in range(calls // callers):
            await call()

    began = time.process_time()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return (time.process_time() - began) / (calls // callers * callers) * 1e6


def bare_future() -> Awaitable[None]:
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_soon(future.set_result, None)
    return future


async def compare(url: str, calls: int, rounds: int) -> None:
    ours = Valkey(url, timeout_s=1.0, queue_max=1_000)
    await ours.connect()
    script = Script(SOURCE)
    theirs = redis.asyncio.Redis.from_url(url)
    registered = theirs.register_script(SOURCE)
    subjects: dict[str, Call] = {
        "bare future": bare_future,
        "ours": lambda: ours.script(script, [KEY], [1, ID]),
        "redis-py": lambda: registered([KEY], [1, ID]),
    }
    for callers in CONCURRENCY:
        samples: dict[str, list[float]] = {name: [] for name in subjects}
        for _ in range(rounds + 1):
            for name, call in subjects.items():
                samples[name].append(await cost_us(call, callers, calls))
        # The first round fills caches and pools.
        bare, own, other = (statistics.median(samples[name][1:]) for name in subjects)
        print(
            f"{callers:3} at once: ours {own:6.1f} µs, redis-py {other:6.1f} µs, the loop alone {bare:4.1f} µs; "
            f"ours is +{own - bare:.1f}, redis-py +{other - bare:.1f}: {(other - bare) / (own - bare):.1f} times"
        )
    await theirs.aclose()
    await ours.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loop", choices=["uvloop", "asyncio"], default="uvloop")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, EmbeddedValkey(Path(folder)) as server:
        cores = sorted(os.sched_getaffinity(0))
        pin([server.pid], cores[0])
        os.sched_setaffinity(0, cores[1:] or cores)
        run = uvloop.run if options.loop == "uvloop" else asyncio.run
        run(compare(server.url, options.calls, options.rounds))


if __name__ == "__main__":
    main()
