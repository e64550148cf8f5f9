"""Random requests at real llama.cpp through the gateway: what is on record against the engine's own counters.

    .venv/bin/python -m bench.exactness [--requests 500] [--seed 1]

Every dialect that llama.cpp serves, whole and streamed; a third of the clients leave in the middle. Exit code 0: all that
finished is on record to the token, and each lone answer that was left to one; 1: something is not.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from billing.infra.golden.runner import LlamaServer
from tests.e2e.exactness_kit import Counts, Phase, add_models, faults, run, servers
from tests.e2e.rig import running


async def measure(folder: Path, started: dict[str, LlamaServer], seed: str, requests: int) -> list[Phase]:
    """All phases through a gateway of two workers."""
    async with running(folder / "data", {}) as rig:
        await add_models(rig, started)
        return await run(rig, started, seed, Counts.of(requests))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.exactness", description=__doc__)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--seed", default="1")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="exactness-") as name, servers(Path(name)) as started:
        phases = asyncio.run(measure(Path(name), started, options.seed, options.requests))
    print("\n".join(map(str, phases)))
    found = faults(phases)
    print(f"seed {options.seed}: {len(found)} faults, {time.monotonic() - began:.0f} s", *found, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
