"""What applying a plan file changes: versions are added, never edited."""

from enum import StrEnum

import msgspec

from billing import money
from billing.clock import to_datetime
from billing.errors import Conflict
from billing.pricing.plan import Content, ModelRates, Plan, PlanFile, Version

DIFFERENCES_SHOWN_MAX = 5


class Change(StrEnum):
    """What happens to a version."""

    ADDED = "added"
    UNCHANGED = "unchanged"
    KEPT = "kept"
    """Stored and not in the file; it stays."""


class Step(msgspec.Struct, frozen=True):
    """A version and what happens to it."""

    change: Change
    version: Version


def decide(stored: Plan, wanted: PlanFile) -> tuple[Step, ...]:
    """Every version of the plan after the file, by instant; raises ``Conflict`` where the file would edit the past.

    Numbers count on in the order of the file's instants.
    """
    if stored.currency != wanted.currency:
        raise Conflict(
            f"plan {stored.name} is in {stored.currency} and stays so; the file says {wanted.currency}: "
            "give the plan in another currency another name"
        )
    known = {version.effective_us: version for version in stored.versions}
    next_number = max((version.number for version in stored.versions), default=0) + 1
    steps = {version.effective_us: Step(Change.KEPT, version) for version in stored.versions}
    for version in wanted.versions:
        before = known.get(version.effective_us)
        if before is None:
            numbered = msgspec.structs.replace(version, number=next_number)
            next_number += 1
            steps[version.effective_us] = Step(Change.ADDED, numbered)
        elif before.content == version.content:
            steps[version.effective_us] = Step(Change.UNCHANGED, before)
        else:
            raise Conflict(_edited(stored.name, before, version))
    return tuple(steps[instant_us] for instant_us in sorted(steps))


def differences(before: Content, after: Content) -> list[str]:
    """What two contents say differently, one sentence part each."""
    changed = [f"label {before.label!r} → {after.label!r}"] if before.label != after.label else []
    said_before, said_after = _said(before), _said(after)
    for place in sorted(said_before.keys() | said_after.keys()):
        old, new = said_before.get(place, "absent"), said_after.get(place, "absent")
        if old != new:
            changed.append(f"{' '.join(place)} {old} → {new}")
    return changed


def _said(content: Content) -> dict[tuple[str, ...], str]:
    """All but the label: each place in a content and what stands there."""
    said: dict[tuple[str, ...], str] = {}
    for entry in content.rates:
        said |= {(entry.model, word): _price(entry, word) for word in entry.by_word}
    for name, amount in (("monthly_fee", content.monthly_fee), ("minimum", content.minimum)):
        if amount is not None:
            said[name,] = money.plain(amount)
    for outcome, by_provenance in content.billable.items():
        said |= {("billable", outcome, known): each for known, each in by_provenance.items()}
    return said


def _price(entry: ModelRates, word: str) -> str:
    price, pool = entry.by_word[word], entry.pool(word)
    return str(price) if pool == word else f"{price} (counted with all {pool})"


def _edited(name: str, before: Version, after: Version) -> str:
    changed = differences(before.content, after.content)
    shown = "; ".join(changed[:DIFFERENCES_SHOWN_MAX])
    more = (
        f"; and {len(changed) - DIFFERENCES_SHOWN_MAX} more" if len(changed) > DIFFERENCES_SHOWN_MAX else ""
    )
    return (
        f"plan {name} has other prices from {to_datetime(before.effective_us):%Y-%m-%dT%H:%M:%SZ} already (version "
        f"{before.number}): {shown}{more}. A version never changes: add one with a later effective instant"
    )
