"""Which bound an answer's length should be reserved by: what of a limit is used, and how far it is exceeded meanwhile.

    .venv/bin/python -m bench.decisions.output_bound

Callers that always want more, on one bucket of output tokens (the twin of the scripts, which a property test holds to be the
same), at simulated times. Answers of several kinds of lengths; candidates are what a gateway may reserve of each.
"""

import heapq
import math
import random
import statistics
from collections.abc import Callable, Iterator
from uuid import UUID

from rich.console import Console
from rich.table import Table

from billing.limits.bucket import Ask
from billing.limits.expectation import Expectation
from billing.limits.twin import State, Twin
from billing.limits.used import Side, Used

LIMIT = 10_000
WINDOW_US = 60_000_000
WINDOWS = 10
CALLERS = 50
TOKEN_US = 10_000
"""An engine makes a token of an answer in so long."""
SAID = 4_096
"""The ``max_tokens`` that clients send, whatever they need."""
SEEDS = 5
TENANT, MODEL = UUID(int=1), "m"

Lengths = Callable[[random.Random, float], int]
"""The length of an answer that begins at a share of the run."""


def _lognormal(draw: random.Random, median: float, sigma: float) -> int:
    return max(1, min(SAID, round(median * math.exp(draw.gauss(0, sigma)))))


LENGTHS: dict[str, Lengths] = {
    "always 96": lambda _draw, _at: 96,
    "lognormal, median 200": lambda draw, _at: _lognormal(draw, 200, 0.8),
    "one in ten 20 times as long": lambda draw, _at: 1_000 if draw.random() < 0.1 else 50,
    "grows fourfold half-way": lambda draw, at: _lognormal(draw, 100 if at < 0.5 else 400, 0.4),
}


class Learned:
    """Reserves what a candidate says; ``learn`` is told every length."""

    def reserve(self) -> int:
        """Tokens to reserve for the next answer."""
        raise NotImplementedError

    def learn(self, tokens: int) -> None:
        """An answer had so many tokens."""


class Said(Learned):
    """What the client said."""

    def reserve(self) -> int:
        """The same each time."""
        return SAID


class Nothing(Learned):
    """Nothing: charged afterwards."""

    def reserve(self) -> int:
        """One token, as a bucket must be asked for something."""
        return 1


class Mean(Learned):
    """A moving mean, and so many of its moving deviations."""

    def __init__(self, deviations: float) -> None:
        self._deviations, self._mean, self._deviation = deviations, 1_024.0, 0.0

    def reserve(self) -> int:
        """Mean and deviations above it."""
        return min(SAID, math.ceil(self._mean + self._deviations * self._deviation))

    def learn(self, tokens: int) -> None:
        """Move by an eighth."""
        self._deviation += (abs(tokens - self._mean) - self._deviation) / 8
        self._mean += (tokens - self._mean) / 8


class Quantile(Learned):
    """A quantile of the last 64."""

    def __init__(self, share: float) -> None:
        self._share, self._last = share, list[int]()

    def reserve(self) -> int:
        """1,024 until there are eight."""
        if len(self._last) < 8:
            return 1_024
        return sorted(self._last)[-1 - int(len(self._last) * (1 - self._share))]

    def learn(self, tokens: int) -> None:
        """Keep the last 64."""
        self._last = [*self._last[-63:], tokens]


class Ours(Learned):
    """The gateway's own."""

    def __init__(self) -> None:
        self._expectation = Expectation(1_024, 4)

    def reserve(self) -> int:
        """As it would be for a client that said ``SAID``."""
        return self._expectation.output(TENANT, MODEL, SAID)

    def learn(self, tokens: int) -> None:
        """As a request that ended."""
        self._expectation.learn(
            TENANT, MODEL, prompt_bytes=0, answers=1, input_tokens=None, output_tokens=tokens
        )


CANDIDATES: dict[str, Callable[[], Learned]] = {
    "what the client said (4,096)": Said,
    "nothing, charged afterwards": Nothing,
    "moving mean": lambda: Mean(0),
    "moving mean + 2 deviations": lambda: Mean(2),
    "median of the last 64": lambda: Quantile(0.5),
    "75 % of the last 64": lambda: Quantile(0.75),
    "90 % of the last 64": lambda: Quantile(0.9),
    "ours: all but one of the last 64": Ours,
}


def run(candidate: Learned, lengths: Lengths, seed: int) -> tuple[float, float, float]:
    """The share used of what was allowed, the most debt at one moment as a share of the limit, and refusals."""
    draw, twin, now = random.Random(seed), Twin(epoch_us=0), 1_795_500_000_000_000
    end_us = WINDOWS * WINDOW_US
    queue: list[tuple[int, int, int]] = [(0, number, -1) for number in range(CALLERS)]
    used, debt, refused = 0, 0.0, 0
    numbers: Iterator[int] = iter(range(1 << 60))
    while queue:
        at_us, caller, ends = heapq.heappop(queue)
        if at_us >= end_us:
            break
        if ends >= 0:
            tokens = ends % (1 << 20)
            twin.settle(b"%d" % (ends >> 20), Used(0, tokens), now + at_us)
            candidate.learn(tokens)
            used += tokens
            debt = max(debt, -twin.buckets["b"].level)
        number, hold = next(numbers), min(LIMIT, candidate.reserve())
        ask = Ask("b", LIMIT, WINDOW_US, LIMIT, now, 0.0, hold, side=Side.OUTPUT)
        answer = twin.admit(b"%d" % number, [ask], now + at_us, lease_us=1 << 60)
        if answer.state is State.ADMITTED:
            tokens = lengths(draw, at_us / end_us)
            heapq.heappush(queue, (at_us + tokens * TOKEN_US, caller, number << 20 | tokens))
        else:
            refused += 1
            heapq.heappush(queue, (at_us + answer.verdicts[0].wait_us, caller, -1))
    return used / (LIMIT * (WINDOWS + 1)), debt / LIMIT, refused


def main() -> None:
    """Print a table for each kind of lengths."""
    console = Console(width=100)
    for title, lengths in LENGTHS.items():
        table = Table(title=f"Answers: {title}", title_justify="left")
        for heading in ("reserved", "used of what is allowed", "most debt", "refusals a window"):
            table.add_column(heading, justify="left" if heading == "reserved" else "right", no_wrap=True)
        for name, make in CANDIDATES.items():
            runs = [run(make(), lengths, seed) for seed in range(SEEDS)]
            share, debt, refused = (statistics.mean(each) for each in zip(*runs, strict=True))
            table.add_row(name, f"{share:.1%}", f"{debt:.1%}", f"{refused / WINDOWS:,.0f}")
        console.print(table)


if __name__ == "__main__":
    main()
