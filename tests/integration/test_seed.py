"""A made-up history in a real database, through a real spool and the real recorder."""

import asyncio
import time
from pathlib import Path

import msgspec
import pytest

from billing.app import seed
from billing.app.seed import Made, Order
from billing.errors import Conflict, InvalidInput
from billing.infra.system import new_id
from billing.metering.synthetic import DAY_US, day_start
from billing.settings import Settings
from tests import metering_kit as kit
from tests.cli_kit import Terminal

NOW_US = 1_930_305_600_000_000
"""3 March 2031, noon: the days before lie in two months, and no file was written later."""
ORDER = Order(tenants=3, days=5, seed=7, requests_per_day=40)


def fill(url: str, data_dir: Path, order: Order = ORDER, now_us: int = NOW_US) -> Made:
    settings = Settings(data_dir=data_dir, database_url=url)
    return asyncio.run(seed.run(settings, order, lambda: now_us, new_id, lambda _count: None))


def counts(url: str) -> tuple[int, int, int]:
    """Records, requests in the rollup, and what stands in quarantine."""
    [row] = kit.sql(
        url,
        "SELECT (SELECT count(*) FROM usage_record), (SELECT coalesce(sum(requests), 0)::int FROM usage_rollup), "
        "(SELECT count(*) FROM usage_quarantine)",
    )
    return tuple(row)


def test_the_history_is_on_record_as_usage_would_be(migrated_url: str, tmp_path: Path) -> None:
    made = fill(migrated_url, tmp_path)
    assert made.end_us == day_start(NOW_US)
    assert made.start_us == made.end_us - 5 * DAY_US
    assert (made.tenants, made.new_tenants, made.duplicates, made.quarantined) == (3, 3, 0, 0)
    assert made.recorded == made.requests > 400
    assert counts(migrated_url) == (made.requests, made.requests, 0)


def test_every_tenant_is_marked_as_made_up_with_keys_projects_and_a_plan(
    migrated_url: str, tmp_path: Path
) -> None:
    fill(migrated_url, tmp_path)
    rows = kit.sql(
        migrated_url,
        "SELECT slug, synthetic, (SELECT count(*) FROM api_key WHERE tenant_id = tenant.id), "
        "(SELECT count(*) FROM project WHERE tenant_id = tenant.id), "
        "(SELECT count(*) FROM subscription WHERE tenant_id = tenant.id) FROM tenant ORDER BY slug",
    )
    assert [tuple(row) for row in rows] == [
        ("synthetic-01", True, 1, 0, 1),
        ("synthetic-02", True, 3, 2, 1),
        ("synthetic-03", True, 1, 0, 1),
    ]


def test_the_same_again_adds_nothing(migrated_url: str, tmp_path: Path) -> None:
    first = fill(migrated_url, tmp_path)
    again = fill(migrated_url, tmp_path, now_us=NOW_US + 3_600_000_000)
    assert (again.recorded, again.duplicates, again.quarantined) == (0, first.requests, 0)
    assert again.new_tenants == 0
    assert counts(migrated_url) == (first.requests, first.requests, 0)


def test_a_day_later_only_the_new_day_is_added(migrated_url: str, tmp_path: Path) -> None:
    fill(migrated_url, tmp_path)
    later = fill(migrated_url, tmp_path, now_us=NOW_US + DAY_US)
    days = kit.sql(migrated_url, "SELECT count(DISTINCT date_trunc('day', bucket)) FROM usage_rollup")
    assert later.recorded + later.duplicates == later.requests
    assert 0 < later.recorded < later.requests / 3
    assert days[0][0] == 6


def test_another_seed_is_another_history(migrated_url: str, tmp_path: Path) -> None:
    fill(migrated_url, tmp_path)
    other = fill(migrated_url, tmp_path, msgspec.structs.replace(ORDER, seed=8))
    assert (other.duplicates, other.quarantined) == (0, 0)


def test_its_spool_is_closed_and_gone_afterwards(migrated_url: str, tmp_path: Path) -> None:
    fill(migrated_url, tmp_path)
    assert list(tmp_path.iterdir()) == []
    [row] = kit.sql(migrated_url, "SELECT count(*), bool_and(closed_at IS NOT NULL) FROM spool")
    assert tuple(row) == (1, True)


def test_what_a_killed_run_left_is_recorded_by_the_next(migrated_url: str, tmp_path: Path) -> None:
    def stop(_count: int) -> None:
        raise KeyboardInterrupt

    settings = Settings(data_dir=tmp_path, database_url=migrated_url)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(seed.run(settings, ORDER, lambda: NOW_US, new_id, stop))
    assert [path.name for path in tmp_path.iterdir()] == ["seed"]
    made = fill(migrated_url, tmp_path)
    assert counts(migrated_url) == (made.requests, made.requests, 0)
    assert list(tmp_path.iterdir()) == []
    assert [row[0] for row in kit.sql(migrated_url, "SELECT closed_at IS NOT NULL FROM spool")] == [
        True,
        True,
    ]


def test_real_tenants_are_left_alone(migrated_url: str, tmp_path: Path) -> None:
    asyncio.run(kit.add_tenants(migrated_url, kit.TENANT))
    with pytest.raises(Conflict, match=r"has real tenants \(tenant-000a\)"):
        fill(migrated_url, tmp_path)
    assert kit.sql(migrated_url, "SELECT count(*) FROM tenant")[0][0] == 1
    assert kit.sql(migrated_url, "SELECT count(*) FROM price_plan")[0][0] == 0


@pytest.mark.parametrize(
    ("order", "said"),
    [
        (Order(tenants=0, days=1), "tenants: 1 to 500, got 0"),
        (Order(tenants=1, days=731), "days: 1 to 730, got 731"),
        (Order(tenants=1, days=1, requests_per_day=0), "requests_per_day: 1 to 100,000, got 0"),
        (Order(tenants=500, days=730), "18,250,000 requests are too many: at most 5,000,000 at once"),
    ],
)
def test_an_order_that_cannot_be_filled_is_refused(order: Order, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        seed.check(order)


def test_the_command_says_what_was_made_and_where_to_look(migrated_url: str, tmp_path: Path) -> None:
    terminal = Terminal(migrated_url, tmp_path)
    said = terminal.ok("seed", "--tenants", "2", "--days", "3", "--requests-per-day", "20")
    assert "Tenants        2 (synthetic-01 …), 2 of them new" in said
    looked = next(line for line in said.splitlines() if "billing usage" in line).split()[1:]
    assert "Synthetic tenant 1 (synthetic-01)" in terminal.ok(*looked)


def test_the_command_refuses_a_database_with_real_tenants_in_one_line(
    migrated_url: str, tmp_path: Path
) -> None:
    terminal = Terminal(migrated_url, tmp_path)
    terminal.ok("tenants", "create", "acme")
    assert "real tenants (acme)" in terminal.fails("seed")


def test_thousands_of_records_take_seconds(migrated_url: str, tmp_path: Path) -> None:
    began = time.monotonic()
    made = fill(migrated_url, tmp_path, Order(tenants=10, days=20, requests_per_day=50))
    assert made.recorded > 9_000
    assert time.monotonic() - began < 20
