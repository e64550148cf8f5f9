"""Random requests in every dialect of real llama.cpp are on record to the token, and what is left in the middle to one.

``bench/exactness.py`` does the same with more of them.
"""

from pathlib import Path

import pytest

from tests.e2e.exactness_kit import Counts, add_models, faults, run, servers
from tests.e2e.rig import running

REQUESTS = 120
SEED = "exact"


@pytest.mark.slow
async def test_random_requests_are_on_record_as_the_engine_counted_them(tmp_path: Path) -> None:
    with servers(tmp_path) as started:
        async with running(tmp_path / "data", {}) as rig:
            await add_models(rig, started)
            phases = await run(rig, started, SEED, Counts.of(REQUESTS))
    report = "\n".join(map(str, phases))
    assert faults(phases) == [], report
    assert sum(len(phase.cases) for phase in phases) == REQUESTS
    assert sum(len(phase.left) for phase in phases) > REQUESTS // 5, report
    assert {case.reply.status for case in phases[0].cases} == {200, 400}
