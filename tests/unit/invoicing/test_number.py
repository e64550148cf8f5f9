import pytest

from billing.invoicing.number import invoice_number


@pytest.mark.parametrize(
    ("number", "text"), [(1, "INV-000001"), (999_999, "INV-999999"), (1_000_000, "INV-1000000")]
)
def test_numbers_have_six_digits_and_grow_beyond(number: int, text: str) -> None:
    assert invoice_number("INV-", number) == text


def test_numbers_begin_at_1() -> None:
    with pytest.raises(ValueError, match="numbered from 1"):
        invoice_number("INV-", 0)
