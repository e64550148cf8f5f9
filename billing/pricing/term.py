"""Which version of which plan prices a tenant's usage at an instant, or why none does."""

from collections.abc import Iterator, Sequence
from enum import StrEnum

import msgspec

from billing.pricing.plan import Plan, Version


class Term(msgspec.Struct, frozen=True):
    """A span of time ``[starts_us, ends_us)`` in which a tenant's usage is priced by a plan; None is open."""

    starts_us: int
    ends_us: int | None
    plan: Plan

    def holds_at(self, instant_us: int) -> bool:
        """Whether an instant falls into the term."""
        return self.starts_us <= instant_us and (self.ends_us is None or instant_us < self.ends_us)


class Unpriced(StrEnum):
    """Why usage has no rate. It is shown and rated when the rate arrives, never billed at 0."""

    NO_PLAN = "no plan"
    """The tenant had no subscription then."""
    NO_VERSION = "no prices yet"
    """The plan's first version began later."""
    NO_RATE = "no rate"
    """The version in force says nothing about this component of this model."""


class Held(msgspec.Struct, frozen=True):
    """A version in force, with its plan."""

    plan: Plan
    version: Version


def in_force(terms: Sequence[Term], instant_us: int) -> Held | Unpriced:
    """The version in force at an instant (I8), or why there is none."""
    term = next((term for term in terms if term.holds_at(instant_us)), None)
    if term is None:
        return Unpriced.NO_PLAN
    version = term.plan.version_at(instant_us)
    return Unpriced.NO_VERSION if version is None else Held(term.plan, version)


class Gap(msgspec.Struct, frozen=True):
    """A span ``[start_us, end_us)`` in which no version is in force, and why. ``plan`` is the one without prices yet."""

    start_us: int
    end_us: int
    reason: Unpriced
    plan: str = ""


def gaps(terms: Sequence[Term], start_us: int, end_us: int) -> tuple[Gap, ...]:
    """The spans of a period in which no version is in force, by start; ``terms`` are by start and do not overlap."""
    found: list[Gap] = []
    at_us = start_us
    for term in terms:
        begin = max(at_us, term.starts_us)
        end = end_us if term.ends_us is None else min(end_us, term.ends_us)
        if begin >= end:
            continue
        first = min((version.effective_us for version in term.plan.versions), default=end)
        found.append(Gap(at_us, begin, Unpriced.NO_PLAN))
        found.append(Gap(begin, min(first, end), Unpriced.NO_VERSION, term.plan.name))
        at_us = end
    found.append(Gap(at_us, end_us, Unpriced.NO_PLAN))
    return tuple(gap for gap in found if gap.start_us < gap.end_us)


def nearest(terms: Sequence[Term], instant_us: int) -> Held | None:
    """The version that was in force the shortest time before or after an instant; of two equally near, the earlier."""
    found = [(_distance(begin, end, instant_us), begin, held) for begin, end, held in _spans(terms)]
    return min(found, key=lambda each: each[:2])[2] if found else None


def _spans(terms: Sequence[Term]) -> Iterator[tuple[int, int | None, Held]]:
    """From when until when each version is in force within each term."""
    for term in terms:
        instants: list[int | None] = [version.effective_us for version in term.plan.versions]
        for version, after_us in zip(term.plan.versions, [*instants[1:], None], strict=True):
            end_us = min((end for end in (term.ends_us, after_us) if end is not None), default=None)
            begin_us = max(term.starts_us, version.effective_us)
            if end_us is None or begin_us < end_us:
                yield begin_us, end_us, Held(term.plan, version)


def _distance(begin_us: int, end_us: int | None, instant_us: int) -> int:
    if instant_us < begin_us:
        return begin_us - instant_us
    return 0 if end_us is None else max(0, instant_us - end_us + 1)
