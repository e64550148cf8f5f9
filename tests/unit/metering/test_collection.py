from uuid import UUID

from billing.metering.collection import STRIPES, lock_key
from tests import metering_kit as kit


def test_a_tenant_always_has_the_same_lock() -> None:
    assert lock_key(kit.TENANT) == lock_key(UUID(str(kit.TENANT))) == 0x636F_6C6C_0000_000A


def test_many_tenants_share_a_bounded_number_of_locks_evenly() -> None:
    new_id = kit.id_maker(seed=1)
    keys = [lock_key(new_id()) for _ in range(10_000)]
    assert len(set(keys)) == STRIPES
    assert max(keys.count(key) for key in set(keys)) < 10_000 / STRIPES * 2


def test_keys_fit_what_postgres_takes() -> None:
    assert all(0 <= lock_key(UUID(int=number)) < 1 << 63 for number in range(STRIPES))
