"""Whether usage is billed, waived or looked at first: outcome × provenance (billing-rules.md §5).

What a plan's version says counts; where it says nothing, this table:

=================  ==========================  ====================
outcome            reported, running, counted  estimated or unknown
=================  ==========================  ====================
complete           bill                        review
client_closed      bill                        review
every other        waive                       waive
=================  ==========================  ====================
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeAlias

from billing.tokens.usage import Outcome, Provenance


class Disposition(StrEnum):
    """What becomes of usage on an invoice."""

    BILL = "bill"
    WAIVE = "waive"
    """Not billed: the caller did not get what was asked for."""
    REVIEW = "review"
    """Not billed before someone looked: how much it was is not known well enough."""


UNKNOWN = "none"
"""How usage records and rollups name the provenance of counts of which one is not known."""

PROVENANCES = (*(each.value for each in Provenance), UNKNOWN)
"""What a plan may tell apart, by the words that rollups have."""

Billable: TypeAlias = Mapping[str, Mapping[str, Disposition]]
"""What a plan's version says: outcome to provenance to disposition."""

_DELIVERED = frozenset({Outcome.COMPLETE.value, Outcome.CLIENT_CLOSED.value})
_CERTAIN = frozenset({Provenance.REPORTED.value, Provenance.RUNNING.value, Provenance.COUNTED.value})


def disposition(outcome: str, provenance: str, billable: Billable | None = None) -> Disposition:
    """What becomes of usage with an outcome and its weakest provenance, as a rollup row names them.

    ``billable`` is what the version in force says, over the defaults.
    """
    said = (billable or {}).get(outcome, {}).get(provenance)
    if said is not None:
        return said
    if outcome not in _DELIVERED:
        return Disposition.WAIVE
    return Disposition.BILL if provenance in _CERTAIN else Disposition.REVIEW
