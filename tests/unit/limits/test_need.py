"""What a request needs, of both sides together."""

from billing.limits.need import NONE, Need


def test_both_sides_together() -> None:
    need = Need(10, 96, 40, 128)
    assert (need.total, need.total_most) == (106, 168)
    assert (NONE.total, NONE.total_most, NONE.end_user) == (0, 0, "")


def test_an_answer_of_any_length_has_no_worst_case() -> None:
    assert Need(10, 96, 40, None).total_most is None
