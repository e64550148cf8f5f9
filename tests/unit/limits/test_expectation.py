"""Bounds are learned from what ended lately, and never exceed what the client said."""

from uuid import UUID

from billing.limits import expectation as module
from billing.limits.expectation import REMEMBERED, SEEN_MIN, Expectation, Recent

ACME, GLOBEX = UUID(int=1), UUID(int=2)


def learned(lengths: list[int], *, answers: int = 1, prompt_bytes: int = 400) -> Expectation:
    expectation = Expectation(1_024, 4)
    for length in lengths:
        expectation.learn(
            ACME, "m", prompt_bytes=prompt_bytes, answers=answers, input_tokens=100, output_tokens=length
        )
    return expectation


def test_before_enough_was_seen_the_default_holds_and_what_the_client_said() -> None:
    few = learned([5] * (SEEN_MIN - 1))
    assert [few.output(ACME, "m", said) for said in (None, 9, 5_000)] == [1_024, 9, 1_024]
    assert few.input("m", 403) == 100
    assert few.is_guess(ACME, "m")


def test_then_what_all_but_one_of_the_last_did_not_exceed() -> None:
    known = learned([96] * 70 + [5_000])
    assert [known.output(ACME, "m", said) for said in (None, 9, 5_000)] == [96, 9, 96]
    assert (known.is_guess(ACME, "m"), known.is_guess(GLOBEX, "m")) == (False, True)
    assert learned([96] * 70 + [400, 5_000]).output(ACME, "m", None) == 400
    assert known.output(GLOBEX, "m", None) == known.output(ACME, "other", None) == 1_024


def test_what_is_long_ago_is_forgotten() -> None:
    assert learned([5_000] * REMEMBERED + [96] * (REMEMBERED - 1)).output(ACME, "m", None) == 96


def test_a_bound_is_of_one_answer() -> None:
    assert learned([300] * SEEN_MIN, answers=4).output(ACME, "m", None) == 75


def test_a_prompt_is_measured_by_the_tokens_of_its_bytes() -> None:
    dense = learned([1] * SEEN_MIN, prompt_bytes=200)
    assert [dense.input("m", size) for size in (0, 1_000)] == [1, 500]
    assert dense.input("other", 1_000) == 250


def test_what_nobody_counted_teaches_nothing() -> None:
    expectation = Expectation(1_024, 4)
    for _ in range(SEEN_MIN):
        expectation.learn(ACME, "m", prompt_bytes=0, answers=1, input_tokens=None, output_tokens=None)
    assert repr(expectation) == "<Expectation of 0 tenants' models, 0 models>"


def test_what_is_kept_is_bounded() -> None:
    expectation = Expectation(1_024, 4)
    for number in range(module.KEPT_MAX + 5):
        expectation.learn(
            UUID(int=number), "m", prompt_bytes=0, answers=1, input_tokens=None, output_tokens=1
        )
    assert repr(expectation) == "<Expectation of 5 tenants' models, 0 models>"


def test_recent_values_say_themselves() -> None:
    recent = Recent()
    for value in range(REMEMBERED + 9):
        recent.add(value)
    assert repr(recent) == f"<Recent {REMEMBERED} values, mostly up to {REMEMBERED + 7}>"
