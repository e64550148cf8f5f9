"""Usage that never was: what a gateway would have written in so many days, for demonstrations and measurements (pure).

Every day of every tenant has its own source of randomness, so that a day's requests are the same whatever other days
and tenants are made, and making them again makes the same usage ids. Each entry says that it is synthetic.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Protocol
from uuid import UUID

import msgspec

from billing.clock import MICROSECONDS_PER_SECOND
from billing.ids import RANDOM_BYTES, uuid7
from billing.metering.event import Closed, Opened, Progress
from billing.tokens.usage import NOTHING_USED, UNKNOWN, Count, Outcome, Provenance, TokenUsage

SHAPE = 1
"""Raised whenever the same randomness makes other requests, whose ids must then be others too."""
DAY_US = 24 * 3600 * MICROSECONDS_PER_SECOND
TAGS = {"synthetic": "true"}
LLAMA_CPP, VLLM = "llama.cpp", "vllm"
ENGINES = (LLAMA_CPP, VLLM)

_HOUR_US = DAY_US // 24
_EPOCH_WEEKDAY = 3
"""1 January 1970 was a Thursday."""
_WEEKDAYS = (1.16, 1.24, 1.26, 1.22, 1.08, 0.54, 0.50)
"""How busy Monday to Sunday are; 1 in the mean."""
_SIZES = (1.0, 2.4, 0.5, 1.5, 0.3, 1.1, 0.6, 1.8, 0.4, 0.4)
"""How large tenants are, one after the other and again from the first; 1 in the mean."""
_HOURS = (4, 3, 2, 2, 2, 3, 6, 12, 24, 38, 46, 48, 42, 46, 50, 50, 46, 38, 28, 22, 18, 14, 10, 6)
"""How busy the hours of a tenant's day are."""
_ZONES_H = (0, 0, 6, 16)
"""Hours by which tenants' days are shifted, one after the other: two in Europe, one in America, one in Asia."""
_END_USERS_MAX = 40
_OUTCOMES = (
    (Outcome.COMPLETE, 0.970), (Outcome.CLIENT_CLOSED, 0.015), (Outcome.UPSTREAM_ERROR, 0.009),
    (Outcome.TRUNCATED, 0.004), (Outcome.INTERRUPTED, 0.002),
)  # fmt: skip


class Randomness(Protocol):
    """What is needed of ``random.Random``; both give the same for the same seed in every version of Python."""

    def random(self) -> float:
        """A number in [0, 1)."""

    def randbytes(self, n: int, /) -> bytes:
        """So many bytes."""


Source = Callable[[str], Randomness]
"""Makes the randomness of a name: the same for the same name."""


class Party(msgspec.Struct, frozen=True):
    """A tenant as far as requests need it; ``number`` counts from 1 and decides how large it is and when it works."""

    number: int
    tenant_id: UUID
    keys: tuple[tuple[UUID, UUID | None], ...]
    """Keys, each with its project."""


class Span(msgspec.Struct, frozen=True):
    """Whole UTC days, and how many requests a tenant of the mean size makes in one of them."""

    start_us: int
    days: int
    requests_per_day: int

    @property
    def end_us(self) -> int:
        """The first instant after the last day."""
        return self.start_us + self.days * DAY_US


class Exchange(msgspec.Struct, frozen=True, gc=False):
    """What a gateway wrote of one request. ``closed`` None: it died, and ``progress`` is the last that it wrote."""

    opened: Opened
    progress: Progress | None
    closed: Closed | None


class _Model(msgspec.Struct, frozen=True):
    """A model and how it is used: medians of its tokens and waits, and which shares of its requests do what."""

    name: str
    engine: str
    weight: float
    input: int
    output: int
    first_token_us: int
    each_token_us: int
    reasons: float = 0.0
    caches: float = 0.0
    operation: str = "chat"


_MODELS = (
    _Model("llama-3.1-8b", LLAMA_CPP, 34, 420, 180, 90_000, 11_000, caches=0.35),
    _Model("llama-3.3-70b", VLLM, 22, 900, 260, 240_000, 24_000, caches=0.55),
    _Model("qwen3-32b", VLLM, 16, 650, 900, 180_000, 17_000, reasons=0.8, caches=0.4),
    _Model("gpt-oss-120b", VLLM, 12, 2_400, 1_300, 310_000, 14_000, reasons=0.95, caches=0.7),
    _Model("bge-m3", VLLM, 16, 240, 0, 12_000, 0, operation="embeddings"),
)
MODELS = tuple(model.name for model in _MODELS)


def day_start(instant_us: int) -> int:
    """The first instant of an instant's UTC day."""
    return instant_us - instant_us % DAY_US


def history(
    parties: Sequence[Party], backends: Mapping[str, UUID], span: Span, source: Source
) -> Iterator[Exchange]:
    """All requests of the days in the order of their arrival. ``backends`` are ids by engine, for :data:`ENGINES`."""
    for day in range(span.days):
        yield from _day(parties, backends, span, span.start_us + day * DAY_US, source)


def _day(
    parties: Sequence[Party], backends: Mapping[str, UUID], span: Span, day_us: int, source: Source
) -> Iterator[Exchange]:
    arrivals: list[tuple[int, int]] = []
    sources = []
    for index, party in enumerate(parties):
        # Another rate makes other requests, which therefore need other ids.
        chance = source(f"{SHAPE}/{span.requests_per_day}/{party.number}/{day_us // DAY_US}")
        sources.append(chance)
        count = _count(party, span.requests_per_day, day_us, chance)
        arrivals += [(_arrival(party, day_us, chance), index) for _ in range(count)]
    for at_us, index in sorted(arrivals):
        yield _exchange(parties[index], backends, at_us, sources[index])


def _count(party: Party, requests_per_day: int, day_us: int, chance: Randomness) -> int:
    weekday = (day_us // DAY_US + _EPOCH_WEEKDAY) % 7
    size = _SIZES[(party.number - 1) % len(_SIZES)]
    wanted = requests_per_day * size * _WEEKDAYS[weekday] * (0.85 + 0.3 * chance.random())
    return int(wanted + chance.random())


def _arrival(party: Party, day_us: int, chance: Randomness) -> int:
    hour = _pick(_HOUR_EDGES, chance) + _ZONES_H[(party.number - 1) % len(_ZONES_H)]
    return day_us + hour % 24 * _HOUR_US + int(chance.random() * _HOUR_US)


def _exchange(party: Party, backends: Mapping[str, UUID], at_us: int, chance: Randomness) -> Exchange:
    model = _MODELS[(_pick(_MODEL_EDGES, chance) + party.number // 7) % len(_MODELS)]
    key_id, project_id = party.keys[int(chance.random() * len(party.keys))]
    usage = _usage(model, chance)
    opened = Opened(
        id=uuid7(at_us, chance.randbytes(RANDOM_BYTES)),
        tenant_id=party.tenant_id,
        project_id=project_id,
        key_id=key_id,
        model=model.name,
        backend_id=backends[model.engine],
        engine=model.engine,
        operation=model.operation,
        stream=model.operation == "chat" and chance.random() < 0.8,  # noqa: PLR2004 - a share of synthetic requests
        input_estimate=int((usage.input.value or 0) * (0.8 + 0.4 * chance.random())),
        end_user=f"user-{int(chance.random() ** 2 * _END_USERS_MAX) + 1}",
        tags=TAGS,
    )
    return _ended(opened, model, usage, _OUTCOMES[_pick(_OUTCOME_EDGES, chance)][0], chance)


def _ended(
    opened: Opened, model: _Model, usage: TokenUsage, outcome: Outcome, chance: Randomness
) -> Exchange:
    """How a request ends. What breaks off has used a part of what it would have; only streams can break off half-way."""
    first_us = _around(model.first_token_us, 0.5, chance)
    each_us = _around(model.each_token_us, 0.2, chance)
    if outcome is Outcome.UPSTREAM_ERROR:
        closed = Closed(opened.id, outcome, 502, NOTHING_USED, _around(3_000, 0.5, chance), error="upstream_unreachable")  # fmt: skip
        return Exchange(opened, None, closed)
    if outcome is not Outcome.COMPLETE and not opened.stream:
        outcome = Outcome.COMPLETE
    if outcome is not Outcome.COMPLETE:
        usage = _cut(usage, chance.random())
    tokens = usage.output.value or 0
    duration_us = first_us + max(0, tokens - 1) * each_us
    if outcome is Outcome.INTERRUPTED:
        seen = Progress(opened.id, usage, duration_us, first_us)
        return Exchange(opened, seen if duration_us > MICROSECONDS_PER_SECOND else None, None)
    closed = Closed(
        opened.id, outcome, 200, usage, duration_us,
        ttft_us=first_us if opened.stream else None,
        itl_us=each_us if opened.stream and tokens > 1 else None,
        response_model=model.name, response_id=f"synthetic-{opened.id.hex[-12:]}",
        error="upstream_broken" if outcome is Outcome.TRUNCATED else None,
    )  # fmt: skip
    return Exchange(opened, None, closed)


def _usage(model: _Model, chance: Randomness) -> TokenUsage:
    """The counts of a whole answer, as the model's engine reports them."""
    tokens = _around(model.input, 0.8, chance)
    cached = int(tokens * 0.9 * chance.random()) if chance.random() < model.caches else 0
    output = _around(model.output, 0.7, chance) if model.output else 0
    thought = int(output * (0.3 + 0.6 * chance.random())) if chance.random() < model.reasons else 0
    whole = "usage.prompt_tokens"
    return TokenUsage(
        input=_reported(tokens, whole),
        cached_input=_reported(cached, f"{whole}_details.cached_tokens") if model.output else UNKNOWN,
        output=_reported(output, "usage.completion_tokens"),
        reasoning=_thought(thought, chance) if model.reasons else UNKNOWN,
    )


def _thought(tokens: int, chance: Randomness) -> Count:
    """Reasoning is what engines report least: most of it is counted along the stream, some by a tokenizer or guessed."""
    share = chance.random()
    if share < 0.6:  # noqa: PLR2004 - a share of synthetic requests
        return _reported(tokens, "usage.completion_tokens_details.reasoning_tokens")
    if share < 0.85:  # noqa: PLR2004 - same
        return Count(tokens, Provenance.RUNNING, "output counter at the last reasoning delta")
    if share < 0.97:  # noqa: PLR2004 - same
        return Count(tokens, Provenance.COUNTED, "/tokenize of the reasoning text at the backend")
    return Count(tokens, Provenance.ESTIMATED, "characters of the reasoning text")


def _cut(usage: TokenUsage, share: float) -> TokenUsage:
    """What was used when a stream broke off: the whole input and a share of the output, by the engine's running counts."""
    output = int((usage.output.value or 0) * share)
    thought = usage.reasoning.value
    return TokenUsage(
        input=_running(usage.input.value, "usage.prompt_tokens"),
        cached_input=_running(usage.cached_input.value, "usage.prompt_tokens_details.cached_tokens"),
        output=_running(output, "usage.completion_tokens"),
        reasoning=_running(None if thought is None else min(thought, output), "output counter at the last reasoning delta"),
    )  # fmt: skip


def _reported(tokens: int, method: str) -> Count:
    return Count(tokens, Provenance.REPORTED, method)


def _running(tokens: int | None, method: str) -> Count:
    return UNKNOWN if tokens is None else Count(tokens, Provenance.RUNNING, method)


def _around(median: int, spread: float, chance: Randomness) -> int:
    """A whole number around a median, at least 1 and at most twenty times as large: log-normal (Box and Muller)."""
    radius = math.sqrt(-2.0 * math.log(1.0 - chance.random()))
    factor = math.exp(spread * radius * math.cos(2.0 * math.pi * chance.random()))
    return max(1, int(median * min(factor, 20.0)))


def _edges(weights: Sequence[float]) -> tuple[float, ...]:
    """The upper ends of choices on the line from 0 to 1, each as long as its weight."""
    total = sum(weights)
    return tuple(edge / total for edge in accumulate(weights))


def _pick(edges: Sequence[float], chance: Randomness) -> int:
    at = chance.random()
    return next((index for index, edge in enumerate(edges) if at < edge), len(edges) - 1)


_HOUR_EDGES = _edges(_HOURS)
_MODEL_EDGES = _edges([model.weight for model in _MODELS])
_OUTCOME_EDGES = _edges([share for _, share in _OUTCOMES])
