"""Whether usage is billed, waived or looked at first: outcome × provenance (billing-rules.md §5).

The defaults as a table; a plan of a later step may say otherwise.

=================  ==========================  ====================
outcome            reported, running, counted  estimated or unknown
=================  ==========================  ====================
complete           bill                        review
client_closed      bill                        review
every other        waive                       waive
=================  ==========================  ====================
"""

from enum import StrEnum

from billing.tokens.usage import Outcome, Provenance


class Disposition(StrEnum):
    """What becomes of usage on an invoice."""

    BILL = "bill"
    WAIVE = "waive"
    """Not billed: the caller did not get what was asked for."""
    REVIEW = "review"
    """Not billed before someone looked: how much it was is not known well enough."""


_DELIVERED = frozenset({Outcome.COMPLETE.value, Outcome.CLIENT_CLOSED.value})
_CERTAIN = frozenset({Provenance.REPORTED.value, Provenance.RUNNING.value, Provenance.COUNTED.value})


def disposition(outcome: str, provenance: str) -> Disposition:
    """What becomes of usage with an outcome and its weakest provenance, as a rollup row names them."""
    if outcome not in _DELIVERED:
        return Disposition.WAIVE
    return Disposition.BILL if provenance in _CERTAIN else Disposition.REVIEW
