"""Names that others chose are made fit for a record."""

from billing.gateway.label import label


def test_a_label_is_short_and_has_no_control_characters() -> None:
    assert label(None) is None
    assert label("a\0b\x1b]0;x\x07\x9b31m") == "ab]0;x31m"
    assert label("x" * 1000) == "x" * 256
