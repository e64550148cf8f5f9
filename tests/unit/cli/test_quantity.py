import pytest

from billing.cli import quantity
from billing.tokens.components import Component


def test_tokens_alone_have_one_column() -> None:
    columns = quantity.titles(["uncached_input", "training", "total"])
    assert columns == ("Tokens>",)
    assert quantity.cells(1_234, "total", columns) == ("1,234",)
    assert quantity.sum_cells([("total", 1_000), ("training", 5)], columns) == ("1,005",)


def test_a_unit_brings_a_column_for_all_of_them() -> None:
    columns = quantity.titles(["uncached_input", Component.SECOND])
    assert columns == ("Quantity>", "Unit")
    assert quantity.cells(12, Component.SECOND, columns) == ("12", "seconds")
    assert quantity.cells(12, "request", columns) == ("12", "requests")
    assert quantity.cell(1, Component.SECOND, columns) == "1 second"
    assert quantity.cell(1_234, "total", quantity.TITLES_OF_TOKENS) == "1,234"


@pytest.mark.parametrize(
    ("quantities", "expected"),
    [
        ([("uncached_input", 7), ("second", 5)], ("7", "tokens")),
        ([("image", 2), ("second", 5)], ("", "")),
        ([], ("", "")),
    ],
)
def test_units_add_up_to_nothing(quantities: list[tuple[str, int]], expected: tuple[str, str]) -> None:
    assert quantity.sum_cells(quantities, quantity.TITLES) == expected


def test_json_has_units_by_their_words() -> None:
    assert quantity.documented({Component.GPU_SECOND: 3}) == {"gpu_second": 3}
