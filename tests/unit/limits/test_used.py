"""What was used, as buckets of each side count it."""

import pytest

from billing.limits.used import NOTHING, UNKNOWN, Side, Used, beyond


def test_each_side_counts_its_own() -> None:
    assert [Used(3, 4).of(side) for side in Side] == [7, 3, 4, 0]


def test_what_nobody_knows_is_not_nothing() -> None:
    assert [UNKNOWN.of(side) for side in Side] == [None, None, None, 0]
    assert [Used(3, None).of(side) for side in Side] == [None, 3, None, 0]


@pytest.mark.parametrize(
    ("used", "charged", "more", "then"),
    [
        (Used(3, 4), NOTHING, Used(3, 4), Used(3, 4)),
        (Used(3, 9), Used(3, 4), Used(0, 5), Used(3, 9)),
        (Used(None, 9), Used(3, 4), Used(0, 5), Used(3, 9)),
        (UNKNOWN, Used(3, 4), NOTHING, Used(3, 4)),
        (Used(1, 2), Used(3, 4), NOTHING, Used(3, 4)),
    ],
)
def test_what_is_charged_of_a_request_that_runs_only_grows(
    used: Used, charged: Used, more: Used, then: Used
) -> None:
    assert beyond(used, charged) == (more, then)
