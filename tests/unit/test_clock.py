from datetime import UTC, datetime, timedelta, timezone

import pytest

from billing.clock import (
    BUCKET_US,
    bucket_start,
    from_datetime,
    is_on_grid,
    month_start,
    next_month_start,
    rfc3339,
    to_datetime,
)


def at(text: str) -> int:
    return from_datetime(datetime.fromisoformat(text))


@pytest.mark.parametrize("instant_us", [0, 1, -1, 1_790_000_000_123_456, 253_402_300_799_999_999])
def test_instants_and_datetimes_turn_into_each_other_exactly(instant_us: int) -> None:
    assert from_datetime(to_datetime(instant_us)) == instant_us


def test_an_instant_is_the_same_whatever_zone_it_was_written_in() -> None:
    kathmandu = datetime(2026, 11, 24, 5, 45, tzinfo=timezone(timedelta(hours=5, minutes=45)))
    assert from_datetime(kathmandu) == at("2026-11-24T00:00:00Z")


def test_a_naive_datetime_is_refused() -> None:
    with pytest.raises(ValueError, match="has no time zone"):
        from_datetime(datetime(2026, 11, 24))  # noqa: DTZ001 - what is refused


@pytest.mark.parametrize(
    ("moment", "bucket"),
    [
        ("2026-11-24T00:00:00Z", "2026-11-24T00:00:00Z"),
        ("2026-11-24T00:14:59.999999Z", "2026-11-24T00:00:00Z"),
        ("2026-11-24T00:15:00Z", "2026-11-24T00:15:00Z"),
        ("1969-12-31T23:59:59Z", "1969-12-31T23:45:00Z"),
    ],
)
def test_a_boundary_opens_its_bucket(moment: str, bucket: str) -> None:
    assert bucket_start(at(moment)) == at(bucket)
    assert is_on_grid(at(bucket))


def test_only_quarter_hours_lie_on_the_grid() -> None:
    assert is_on_grid(at("2026-11-24T00:45:00+05:45"))
    assert not is_on_grid(at("2026-11-24T00:00:01Z"))
    assert BUCKET_US == 900_000_000


@pytest.mark.parametrize(
    ("moment", "start", "following"),
    [
        ("2026-11-24T10:00:00Z", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
        ("2026-12-31T23:59:59.999999Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("2028-02-29T12:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
        ("2026-11-01T00:00:00Z", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
    ],
)
def test_a_month_is_half_open_in_utc(moment: str, start: str, following: str) -> None:
    assert month_start(at(moment)) == at(start)
    assert next_month_start(at(moment)) == at(following)


def test_a_datetime_of_an_instant_is_in_utc() -> None:
    assert to_datetime(0) == datetime(1970, 1, 1, tzinfo=UTC)


def test_an_instant_for_machines_has_a_fraction_only_where_there_is_one() -> None:
    assert rfc3339(0) == "1970-01-01T00:00:00Z"
    assert rfc3339(1_500_000) == "1970-01-01T00:00:01.500000Z"
