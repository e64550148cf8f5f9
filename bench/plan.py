"""What is measured: the shapes of load, on which targets, and in which order."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping

import msgspec

from bench.gateway import LLAMA_CPP_MODEL
from bench.load import Job, Measured
from bench.processes import HOST, Loader, Target

DIRECT, NGINX, GATEWAY = "direct", "nginx", "gateway"


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of load."""

    name: str
    targets: tuple[str, ...]
    connections: int
    rate: float | None = None
    stream: bool = False
    tokens: int = 53
    pace_ms: int = 0
    asked: dict[str, bool] = {}
    model: str | None = None
    limited: bool = True
    """Whether the caller has limits."""
    in_quick: bool = True

    @property
    def warm_s(self) -> float:
        """Until connections stand and paced streams are spread evenly over one stream's length."""
        return WARM_S + self.tokens * self.pace_ms / 1000


class Effort(msgspec.Struct, frozen=True):
    """How long to measure; no round begins after ``budget_s``."""

    rounds: int
    window_s: float
    budget_s: float


FULL = Effort(rounds=5, window_s=1.5, budget_s=165.0)
QUICK = Effort(rounds=2, window_s=0.8, budget_s=25.0)
WARM_S = 0.3

FIXED = Shape(name="fixed", targets=(NGINX, GATEWAY), connections=128, rate=2000)
SATURATED = Shape(name="saturated", targets=(DIRECT, NGINX, GATEWAY), connections=32)
UNLIMITED = msgspec.structs.replace(SATURATED, name="unlimited", targets=(NGINX, GATEWAY), limited=False)
LATENCY = Shape(name="latency", targets=(DIRECT, NGINX, GATEWAY), connections=64, rate=200)
# CPU time a chunk falls with load, as one waking reads many sockets: 20,000 chunks a second keep a worker busy, not full.
PACED = Shape(
    name="paced", targets=(DIRECT, NGINX, GATEWAY), connections=100, stream=True, tokens=200, pace_ms=5
)
PACED_ASKED = msgspec.structs.replace(
    PACED,
    name="paced_asked",
    targets=(GATEWAY,),
    asked={"include_usage": True, "continuous_usage_stats": True},
    in_quick=False,
)
PACED_TIMINGS = msgspec.structs.replace(
    PACED, name="paced_timings", targets=(GATEWAY,), model=LLAMA_CPP_MODEL, in_quick=False
)
FAST = Shape(
    name="fast", targets=(DIRECT, NGINX, GATEWAY), connections=8, stream=True, tokens=200, in_quick=False
)
SHAPES = (FIXED, SATURATED, UNLIMITED, LATENCY, PACED, PACED_ASKED, PACED_TIMINGS, FAST)

Samples = Mapping[tuple[str, str], list[Measured]]
"""What was measured, by shape and target, one for each round."""


def measure(
    loader: Loader,
    targets: Mapping[str, Target],
    beside: dict[str, list[int]],
    effort: Effort,
    show: Callable[[str], None],
) -> Samples:
    """Every shape on every target, round after round, so that a noisy minute hits all of them alike."""
    samples: dict[tuple[str, str], list[Measured]] = defaultdict(list)
    watch = {name: target.pids for name, target in targets.items()} | beside | {"loader": [loader.pid]}
    began = time.monotonic()
    for number in range(effort.rounds):
        if number and time.monotonic() - began > effort.budget_s:
            show(f"stopping after {number} of {effort.rounds} rounds: they take longer than planned")
            break
        for shape in SHAPES:
            if shape.in_quick or effort is FULL:
                for name in shape.targets:
                    if name in targets:
                        job = _job(shape, targets[name], effort, watch)
                        samples[shape.name, name].append(loader.run(job))
        show(f"round {number + 1} of {effort.rounds} ({time.monotonic() - began:.0f} s)")
    return samples


def _job(shape: Shape, target: Target, effort: Effort, watch: dict[str, list[int]]) -> Job:
    return Job(
        host=HOST,
        port=target.port,
        key=target.key if shape.limited else target.unlimited_key,
        model=shape.model or target.model,
        connections=shape.connections,
        rate=shape.rate,
        stream=shape.stream,
        tokens=shape.tokens,
        pace_ms=shape.pace_ms,
        asked=shape.asked,
        warm_s=shape.warm_s,
        window_s=effort.window_s,
        watch=watch,
    )
