"""Settings are checked whole: every contradiction is named at once."""

import msgspec
import pytest

from billing.errors import Misconfigured
from billing.settings import GatewaySettings, Settings, SpoolSettings, check


def test_the_defaults_are_consistent() -> None:
    assert check(Settings()) == Settings()
    assert Settings().spool_dir == Settings().data_dir / "spool"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (Settings(gateway=GatewaySettings(workers=0)), "workers must be 1 to 64, got 0"),
        (Settings(gateway=GatewaySettings(workers=65)), "workers must be 1 to 64, got 65"),
        (Settings(gateway=GatewaySettings(port=-1)), "port must be 0 to 65535, got -1"),
        (Settings(gateway=GatewaySettings(port=65_536)), "port must be 0 to 65535, got 65536"),
        (Settings(spool=SpoolSettings(bytes_max=10, reserve_bytes=10)), "spool reserve must be smaller"),
        (Settings(database_url="mysql://host/billing"), "DATABASE_URL must start with postgresql://"),
    ],
)
def test_a_contradiction_is_named(settings: Settings, said: str) -> None:
    with pytest.raises(Misconfigured, match=said):
        check(settings)


def test_all_contradictions_are_named_at_once() -> None:
    wrong = Settings(gateway=GatewaySettings(workers=0, port=-1), database_url="sqlite://")
    with pytest.raises(Misconfigured) as fault:
        check(wrong)
    assert str(fault.value).count(";") == 2


def test_an_error_never_repeats_a_database_password() -> None:
    with pytest.raises(Misconfigured) as fault:
        check(Settings(database_url="mysql://user:hunter2@host/billing"))
    assert "hunter2" not in str(fault.value)


def test_settings_are_frozen() -> None:
    with pytest.raises(AttributeError):
        Settings().redis_url = "redis://x"  # type: ignore[misc]  # the point of the test
    assert msgspec.structs.replace(Settings(), redis_url="redis://x").redis_url == "redis://x"
