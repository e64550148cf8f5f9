"""A strict limit refuses at once what it can never admit, and says what it would."""

from uuid import UUID

import pytest

from billing.limits.limit import Enforce, Limit, Meter
from billing.limits.need import Need
from billing.limits.worst_case import never_fitting, refusal
from tests.limits_kit import limit

TENANT = UUID(int=1)


def strict(meter: Meter = Meter.OUTPUT_TOKENS, amount: int = 1_000, **changes: object) -> Limit:
    return limit(TENANT, meter, amount, is_strict=True, **changes)


@pytest.mark.parametrize(
    ("of", "need"),
    [
        (strict(), Need(5, 9, 9_999, 1_000)),
        (strict(Meter.INPUT_TOKENS), Need(5, 9, 1_000, None)),
        (strict(Meter.TOKENS), Need(5, 9, 400, 600)),
        (strict(Meter.REQUESTS, 1), Need(5, 9, 400, None)),
        (strict(enforce=Enforce.SHADOW), Need(5, 9, 400, None)),
        (limit(TENANT, Meter.OUTPUT_TOKENS, 1), Need(5, 9, 400, None)),
    ],
)
def test_what_may_fit_one_day_is_not_refused_for_ever(of: Limit, need: Need) -> None:
    assert never_fitting([of], need) is None


@pytest.mark.parametrize(
    ("of", "need", "member", "sentence"),
    [
        (strict(), Need(5, 9, 40, 1_001), "max_tokens", "set `max_tokens` to at most 1000"),
        (strict(), Need(5, 9, 40, None), "max_tokens", "has no limit of its own"),
        (
            strict(),
            Need(5, 9, 40, 4_096, answers=4, output_member="n_predict"),
            "n_predict",
            "set `n_predict` to at most 250 for each of 4 answers",
        ),
        (strict(Meter.TOKENS), Need(5, 9, 400, 601), "max_tokens", "set `max_tokens` to at most 600"),
        (strict(Meter.TOKENS), Need(5, 9, 1_000, 1), None, "send a shorter one"),
        (strict(Meter.INPUT_TOKENS), Need(5, 9, 1_001, 1), None, "the prompt may hold 1,001 tokens"),
    ],
)
def test_a_refusal_says_what_would_fit(of: Limit, need: Need, member: str | None, sentence: str) -> None:
    assert never_fitting([limit(TENANT), of], need) is of
    told = refusal(of, need)
    assert told.param == member
    assert sentence in str(told)
    assert of.sentence() in str(told)
