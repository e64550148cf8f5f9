from billing.invoicing.quantities import add_up, plus, units_of, used, without
from billing.tokens.components import Component, Components

ONE = Components(uncached_input=5, audio_input=3, training=7, second=2, search=1)
OTHER = Components(uncached_input=1, image=4, second=8)
BOTH = Components(uncached_input=6, audio_input=3, training=7, image=4, second=10, search=1)


def test_what_is_0_is_not_used() -> None:
    assert list(used(ONE)) == [
        (Component.UNCACHED_INPUT, 5),
        (Component.AUDIO_INPUT, 3),
        (Component.TRAINING, 7),
        (Component.SECOND, 2),
        (Component.SEARCH, 1),
    ]
    assert list(used(Components())) == []


def test_units_are_apart_from_every_kind_of_tokens() -> None:
    assert units_of(ONE) == {Component.SECOND: 2, Component.SEARCH: 1}
    assert list(units_of(BOTH)) == [Component.IMAGE, Component.SECOND, Component.SEARCH]


def test_sums_are_of_each_component() -> None:
    assert plus(ONE, OTHER) == add_up([ONE, OTHER]) == BOTH
    assert add_up([ONE]) == ONE
    assert add_up([]) == Components()


def test_what_is_left_of_units_has_no_zeros() -> None:
    assert without({Component.IMAGE: 4, Component.SECOND: 10}, {Component.SECOND: 10}) == {Component.IMAGE: 4}
