from datetime import UTC, datetime
from uuid import UUID

import pytest

from billing.clock import from_datetime, month_start
from billing.ids import floor_of, instant_of, uuid7

INSTANT_US = 1_790_000_000_123_456
ZEROS, ONES = bytes(10), b"\xff" * 10


def test_the_example_of_the_standard() -> None:
    """RFC 9562 appendix A.6: 2022-02-22T19:22:22Z, rand_a 0xCC3, rand_b 0x18C4DC0C0C07398F."""
    noise = (0xCC3 << 68) | 0x18C4DC0C0C07398F
    made = uuid7(1_645_557_742_000_000, noise.to_bytes(10, "big"))
    assert made == UUID("017f22e2-79b0-7cc3-98c4-dc0c0c07398f")


@pytest.mark.parametrize("random", [ZEROS, ONES, bytes(range(10))])
def test_an_id_is_a_version_7_uuid_that_holds_its_millisecond(random: bytes) -> None:
    made = uuid7(INSTANT_US, random)
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert instant_of(made) == 1_790_000_000_123_000


def test_ids_sort_like_their_milliseconds_whatever_the_randomness() -> None:
    assert uuid7(INSTANT_US, ONES) < uuid7(INSTANT_US + 1_000, ZEROS)


def test_different_randomness_makes_different_ids() -> None:
    assert uuid7(INSTANT_US, ZEROS) != uuid7(INSTANT_US, ZEROS[:-1] + b"\x01")


@pytest.mark.parametrize("instant_us", [-1_000, (1 << 48) * 1_000])
def test_an_instant_outside_48_bits_of_milliseconds_is_refused(instant_us: int) -> None:
    with pytest.raises(ValueError, match="outside what a UUIDv7 can hold"):
        uuid7(instant_us, ZEROS)


@pytest.mark.parametrize("random", [b"", bytes(9), bytes(11)])
def test_the_wrong_amount_of_randomness_is_refused(random: bytes) -> None:
    with pytest.raises(ValueError, match="10 random bytes are needed"):
        uuid7(INSTANT_US, random)


@pytest.mark.parametrize(
    "other", ["00000000-0000-0000-0000-000000000000", "f47ac10b-58cc-4372-a567-0e02b2c3d479"]
)
def test_an_id_of_another_version_holds_no_time(other: str) -> None:
    with pytest.raises(ValueError, match="not 7: it holds no time"):
        instant_of(UUID(other))


def test_a_floor_lies_below_every_id_of_its_millisecond_and_above_all_before() -> None:
    start = month_start(INSTANT_US)
    assert uuid7(start - 1, ONES) < floor_of(start) < uuid7(start, ZEROS)


def test_the_floor_of_a_month_is_what_the_migration_computes() -> None:
    """The bound of the partition of 2026-11, as SQL's ``uuid_floor`` makes it."""
    november_us = from_datetime(datetime(2026, 11, 1, tzinfo=UTC))
    assert floor_of(november_us) == UUID("01a19467-e800-0000-0000-000000000000")
