"""What a strict limit can never admit: a request whose worst case is more than a whole window holds."""

from collections.abc import Sequence

from billing.errors import InvalidInput
from billing.limits.bucket import side_of, tokens_of
from billing.limits.limit import Limit, Meter
from billing.limits.need import Need


def never_fitting(limits: Sequence[Limit], need: Need) -> Limit | None:
    """The first strict limit that refuses a request however long it waits; None where all may admit it."""
    for limit in limits:
        if (
            limit.is_strict
            and limit.is_enforced
            and limit.meter is not Meter.REQUESTS
            and tokens_of(side_of(limit), need, is_strict=True) > limit.amount
        ):
            return limit
    return None


def refusal(limit: Limit, need: Need) -> InvalidInput:
    """Why a request can never be admitted, and the length of its answer that would be."""
    ruled = f"the strict limit of {limit.sentence()}"
    taken = 0 if limit.meter is Meter.OUTPUT_TOKENS else need.input_most
    each = (limit.amount - taken) // max(1, need.answers)
    if limit.meter is Meter.INPUT_TOKENS or each < 1:
        return InvalidInput(
            f"the prompt may hold {need.input_most:,} tokens, which {ruled} never admits; send a shorter one"
        )
    member = need.output_member
    most = "has no limit of its own" if need.output_most is None else f"may use {need.output_most:,} tokens"
    more = f" for each of {need.answers} answers" if need.answers > 1 else ""
    return InvalidInput(
        f"the answer {most}, and {ruled} admits a request only for its worst case: "
        f"set `{member}` to at most {each}{more}",
        member,
    )
