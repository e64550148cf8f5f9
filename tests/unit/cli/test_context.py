from pathlib import Path

import pytest

from billing.cli.context import Context, read_settings, running_database_url
from billing.errors import Misconfigured
from billing.settings import Settings


def test_settings_come_from_the_environment() -> None:
    settings = read_settings(
        {
            "DATABASE_URL": "postgresql://db/billing",
            "REDIS_URL": "redis://store",
            "BILLING_DATA_DIR": "/data",
            "HOME": "/x",
        }
    )
    assert settings == Settings(
        data_dir=Path("/data"), database_url="postgresql://db/billing", redis_url="redis://store"
    )


def test_an_empty_variable_is_absent_and_an_option_wins_over_a_variable() -> None:
    assert read_settings({"DATABASE_URL": "", "BILLING_DATA_DIR": ""}) == Settings()
    assert read_settings({"BILLING_DATA_DIR": "/data"}, "/other").data_dir == Path("/other")


def test_settings_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(Misconfigured, match="DATABASE_URL must start with postgresql://"):
        read_settings({"DATABASE_URL": "mysql://db"})


def test_a_running_machine_says_where_its_database_is(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/database_url").write_text("postgresql://running/billing\n")
    assert running_database_url(tmp_path) == "postgresql://running/billing"
    assert Context(Settings(data_dir=tmp_path)).with_database().database_url == "postgresql://running/billing"
    chosen = Settings(data_dir=tmp_path, database_url="postgresql://chosen/billing")
    assert Context(chosen).with_database() == chosen


@pytest.mark.parametrize("content", [None, "", "\n"], ids=["no file", "an empty file", "an empty line"])
def test_without_a_database_the_error_says_what_to_do(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run/database_url").write_text(content)
    with pytest.raises(Misconfigured) as refused:
        running_database_url(tmp_path)
    assert str(refused.value) == (
        f"no database: start `billing up` (nothing is running in {tmp_path}), or set DATABASE_URL to a PostgreSQL, "
        "for example postgresql://user:password@host:5432/billing"
    )


def test_a_database_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "run/database_url").mkdir(parents=True)
    with pytest.raises(Misconfigured, match=r"run/database_url cannot be read: Is a directory"):
        running_database_url(tmp_path)
