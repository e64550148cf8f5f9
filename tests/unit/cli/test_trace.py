import pytest

from billing.cli.trace import milliseconds


@pytest.mark.parametrize(
    ("span_us", "text"),
    [
        (0, "0 µs"),
        (42, "42 µs"),
        (99, "99 µs"),
        (100, "0.1 ms"),
        (999, "0.9 ms"),
        (12_345, "12.3 ms"),
        (1_234_567_890, "1,234,567.8 ms"),
    ],
)
def test_a_span_is_cut_to_a_tenth_of_a_millisecond_and_never_to_nothing(span_us: int, text: str) -> None:
    assert milliseconds(span_us) == text
