import itertools

import pytest

from billing.tokens.components import Component, Components, components
from billing.tokens.usage import NOTHING_USED, UNKNOWN, Count, Provenance, TokenUsage


def used(*values: int | None) -> TokenUsage:
    """Usage of input, cached input, cache write, output and reasoning."""
    return TokenUsage(*(UNKNOWN if v is None else Count(v, Provenance.REPORTED, "usage") for v in values))


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (used(18, 0, None, 53, 20), Components(18, 0, 0, 33, 20)),
        (used(100, 60, 30, 10, 4), Components(10, 60, 30, 6, 4)),
        (used(100, None, None, 10, None), Components(100, 0, 0, 10, 0)),
        (used(None, 5, 5, None, 5), Components()),
        (used(None, None, None, 7, None), Components(answer_output=7)),
        (NOTHING_USED, Components()),
        (TokenUsage(), Components()),
    ],
)
def test_an_unknown_part_stays_inside_its_whole(usage: TokenUsage, expected: Components) -> None:
    assert components(usage) == expected


def test_written_tokens_give_way_when_an_engine_contradicts_itself() -> None:
    assert components(used(10, 8, 8, 0, 0)) == Components(0, 8, 2, 0, 0)
    assert components(used(10, 12, 8, 3, 9)) == Components(0, 10, 0, 0, 3)


def test_components_are_disjoint_and_add_up_to_what_was_reported() -> None:
    for values in itertools.product((None, 0, 1, 5), repeat=5):
        made = components(used(*values))
        assert made.total == (values[0] or 0) + (values[3] or 0)
        assert all(made.get(component) >= 0 for component in Component)


def test_each_component_is_asked_for_by_its_word() -> None:
    made = Components(1, 2, 3, 4, 5)
    assert [made.get(component) for component in Component] == [1, 2, 3, 4, 5]
    assert sum(made.get(component) for component in Component) == made.total == 15
