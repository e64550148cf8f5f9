"""What every command is given: settings, read from the environment once, and services on a database.

No other file of the project reads the environment. Clock, ids and randomness are wired here.
"""

import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from billing.errors import Misconfigured
from billing.settings import ControlSettings, Settings, check

if TYPE_CHECKING:  # services bring SQLAlchemy along, which `billing --help` does not wait for
    from billing.cli.services import Services

Result = TypeVar("Result")

DATABASE_URL_FILE = Path("run") / "database_url"
"""Below the data folder: where a running `billing up` says how its Postgres is reached."""


class Context:
    """The settings of this call; services for commands that work on the database."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def __repr__(self) -> str:
        return f"<Context data_dir={self.settings.data_dir}>"

    @classmethod
    def from_environment(cls, data_dir: str | None) -> "Context":
        """The context of this process; an option on the command line wins over the environment."""
        return cls(read_settings(os.environ, data_dir))

    def with_database(self) -> Settings:
        """The settings with a database's URL; raises ``Misconfigured`` when none is set and none is running."""
        url = self.settings.database_url or running_database_url(self.settings.data_dir)
        return _replace(self.settings, database_url=url)

    def run(self, work: "Callable[[Services], Awaitable[Result]]") -> Result:
        """Do a command's work with services on the database, which is closed afterwards.

        Raises what the work raises, and ``Misconfigured`` when the database has not been migrated.
        """
        from billing.cli.services import run

        url = self.with_database().database_url
        assert url is not None  # noqa: S101 - with_database raised otherwise
        return run(url, work)


def read_settings(environment: Mapping[str, str], data_dir: str | None = None) -> Settings:
    """Settings of an environment, checked whole; an empty variable counts as absent. Raises ``Misconfigured``."""
    return check(
        Settings(
            data_dir=Path(data_dir or environment.get("BILLING_DATA_DIR") or Settings().data_dir),
            database_url=environment.get("DATABASE_URL") or None,
            redis_url=environment.get("REDIS_URL") or None,
            admin_token_hash=_admin_token_hash(environment.get("BILLING_ADMIN_TOKEN")),
            control=_control(environment.get("BILLING_TRUSTED_PROXIES")),
        )
    )


def _control(trusted_proxies: str | None) -> ControlSettings:
    """The control process's settings; networks of trusted proxies are separated by commas."""
    networks = tuple(text.strip() for text in (trusted_proxies or "").split(",") if text.strip())
    return ControlSettings(trusted_proxies=networks) if networks else ControlSettings()


def _admin_token_hash(text: str | None) -> str | None:
    """Of the token only its hash goes further."""
    if not text:
        return None
    from billing.access import token

    return token.hash_of(token.check_text(text, "BILLING_ADMIN_TOKEN"))


def running_database_url(data_dir: Path) -> str:
    """The URL that a running `billing up` wrote; raises ``Misconfigured`` saying what to do when there is none."""
    path = data_dir / DATABASE_URL_FILE
    try:
        url = path.read_text("utf-8").strip()
    except FileNotFoundError:
        url = ""
    except OSError as fault:
        raise Misconfigured(f"{path} cannot be read: {fault.strerror}") from fault
    if not url:
        raise Misconfigured(
            f"no database: start `billing up` (nothing is running in {data_dir}), or set DATABASE_URL to a PostgreSQL, "
            "for example postgresql://user:password@host:5432/billing"
        )
    return url


def _replace(settings: Settings, **changes: object) -> Settings:
    from msgspec.structs import replace

    return replace(settings, **changes)
