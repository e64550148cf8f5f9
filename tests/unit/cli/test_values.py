import click
import pytest

from billing.cli.values import INSTANT, TAG
from tests.invoice_kit import at


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-11-01", "2026-11-01T00:00:00Z"),
        ("2026-11-01T12:30:00Z", "2026-11-01T12:30:00Z"),
        ("2026-11-01T12:30:00+05:30", "2026-11-01T07:00:00Z"),
    ],
)
def test_an_instant_is_a_day_in_utc_or_a_time_with_its_zone(text: str, instant: str) -> None:
    assert INSTANT.convert(text, None, None) == at(instant)
    assert INSTANT.convert(at(instant), None, None) == at(instant)


@pytest.mark.parametrize("text", ["", "soon", "2026-11-01T12:30:00", "2026-13-01", "01.11.2026"])
def test_a_time_without_its_zone_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(
        click.BadParameter, match="is not an instant; write 2026-11-01 or 2026-11-01T12:30:00Z"
    ):
        INSTANT.convert(text, None, None)


def test_a_tag_is_name_and_value() -> None:
    assert TAG.convert("team=a=b", None, None) == ("team", "a=b")
    assert TAG.convert(("team", "a"), None, None) == ("team", "a")
    for text in ("team", "=a", ""):
        with pytest.raises(click.BadParameter, match="is not name=value"):
            TAG.convert(text, None, None)


@pytest.mark.parametrize(
    "text", ["0001-01-01", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:45:00-14:00"]
)
def test_a_far_year_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="lies outside the years 2000 to 2200 in UTC"):
        INSTANT.convert(text, None, None)
