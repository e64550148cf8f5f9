"""How the ``billing`` command fails: one line on standard error that says what to do, and never a traceback."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from billing.cli.main import cli
from billing.infra.embedded import EmbeddedPostgres
from tests.cli_kit import Terminal
from tests.invoice_kit import usage_id
from tests.metering_kit import sql

USED = usage_id("2026-11-02T10:00:00Z", 1)


@pytest.fixture
def terminal(migrated_url: str, tmp_path: Path) -> Terminal:
    return Terminal(migrated_url, tmp_path)


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (("invoices", "preview", "--tenant", "nobody"), "error: there is no tenant 'nobody'"),
        (
            ("plans", "show", "nothing"),
            "error: there is no plan 'nothing'; plans apply makes one from a file",
        ),
        (("models", "add", "golden", "--backend", "x"), "error: there is no backend 'x'"),
        (
            ("usage", "--tenant", "acme", "--period", "May"),
            "error: period: 'May' is not a month; write for example 2026-11",
        ),
        (
            ("trace", "x"),
            "error: 'x' is not a usage id; it is what a reply carries as x-request-id, a UUID of version 7",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_an_error_is_one_line_on_standard_error(
    terminal: Terminal, command: tuple[str, ...], sentence: str
) -> None:
    assert terminal.fails(*command) == sentence


def test_a_usage_error_is_told_apart(terminal: Terminal) -> None:
    for command in (
        ("tenants", "create"),
        ("backends", "add", "x", "--url", "http://x", "--engine", "y"),
        ("trace",),
    ):
        assert terminal.run(*command).exit_code == 2


def test_without_a_database_the_error_says_what_to_do(tmp_path: Path) -> None:
    result = CliRunner(env={"DATABASE_URL": "", "BILLING_DATA_DIR": ""}).invoke(
        cli, ["--data-dir", str(tmp_path), "tenants", "list"]
    )
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(
        f"error: no database: start `billing up` (nothing is running in {tmp_path}), or set"
    )


def test_an_unreachable_database_is_one_line(tmp_path: Path) -> None:
    terminal = Terminal(f"postgresql://postgres@/billing?host={tmp_path}", tmp_path)
    for command in (("tenants", "list"), ("migrate",)):
        assert terminal.fails(*command).startswith("error: Postgres cannot be reached: ")


def test_an_address_that_is_none_is_not_repeated(tmp_path: Path) -> None:
    for command in (("tenants", "list"), ("migrate",)):
        assert Terminal("postgresql://user:hunter2@host:port/billing", tmp_path).fails(*command) == (
            "error: DATABASE_URL is not an address; write postgresql://user:password@host:5432/billing"
        )


def test_a_user_who_may_not_work_as_an_operator_is_told(terminal: Terminal) -> None:
    sql(terminal.url, "CREATE ROLE weak LOGIN")
    try:
        weak = Terminal(terminal.url.replace("postgres@", "weak@"), Path())
        assert weak.fails("tenants", "list") == (
            "error: the database does not let weak work as gateway, recorder, control, portal: as a superuser run "
            "`GRANT gateway, recorder, control, portal TO weak`"
        )
    finally:
        sql(terminal.url, "DROP ROLE weak")


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A server on which nobody has migrated yet: roles belong to the whole of it."""
    with EmbeddedPostgres(tmp_path, throwaway=True) as server:
        yield server


def test_an_owner_who_may_not_make_roles_is_told_what_a_superuser_runs_and_goes_on(
    own_server: EmbeddedPostgres,
) -> None:
    own_server.create_database("owned")
    sql(own_server.url, 'CREATE ROLE "Plain-Owner" LOGIN')
    sql(own_server.url, 'ALTER DATABASE owned OWNER TO "Plain-Owner"')
    terminal = Terminal(own_server.url_of("owned").replace("postgres@", "Plain-Owner@"), Path())
    roles = "gateway, recorder, control, portal"
    refused = f'error: the database does not let "Plain-Owner" work as {roles}: as a superuser run `'
    makes = "CREATE ROLE gateway; CREATE ROLE recorder; CREATE ROLE control; CREATE ROLE portal; "
    grants = f'GRANT {roles} TO "Plain-Owner"'
    assert terminal.fails("migrate") == f"{refused}{makes}{grants}`"
    for role in roles.split(", "):
        sql(own_server.url, f"CREATE ROLE {role}")
    assert terminal.fails("migrate") == f"{refused}{grants}`"
    sql(own_server.url, grants)
    assert terminal.ok("migrate") == "The database is up to date.\n"
    assert terminal.json("tenants", "list") == []
    guest = Terminal(own_server.url_of("postgres").replace("postgres@", "Plain-Owner@"), Path())
    assert guest.fails("migrate").endswith(": run `billing migrate` as the owner of the database")


def test_a_wrong_password_is_one_line_that_does_not_repeat_it(own_server: EmbeddedPostgres) -> None:
    own_server.create_database("secured")
    sql(own_server.url, "CREATE ROLE somebody LOGIN PASSWORD 'right'")
    [(file,)] = sql(own_server.url, "SELECT current_setting('hba_file')")
    rules = Path(file)
    rules.write_text(f"local all somebody scram-sha-256\n{rules.read_text()}")
    sql(own_server.url, "SELECT pg_reload_conf()")
    url = own_server.url_of("secured").replace("postgres@", "somebody:hunter2@")
    for command in (("migrate",), ("tenants", "list")):
        assert Terminal(url, Path()).fails(*command) == (
            'error: Postgres cannot be reached: password authentication failed for user "somebody"'
        )


def test_a_database_that_is_not_migrated_says_so_and_can_be(database_url: str, tmp_path: Path) -> None:
    terminal = Terminal(database_url, tmp_path)
    for command in (
        ("tenants", "list"),
        ("usage", "--tenant", "acme"),
        ("trace", str(USED)),
        ("plans", "list"),
    ):
        assert terminal.fails(*command) == (
            "error: the database is not migrated to this program's schema: run `billing migrate`"
        ), command
    assert terminal.ok("migrate") == "The database is up to date.\n"
    assert terminal.ok("migrate") == "The database is up to date.\n"
    assert terminal.json("tenants", "list") == []


def test_the_command_itself_runs_finds_the_running_database_and_prints_plain_text(
    migrated_url: str, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/database_url").write_text(f"{migrated_url}\n")
    environment = {
        name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "COLUMNS"}
    }

    def billing(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "billing.cli.main", "--data-dir", str(tmp_path), *arguments]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**environment, "PYTHONWARNINGS": "error"},
        )

    assert billing("tenants", "create", "acme").returncode == 0
    listed = billing("tenants", "list")
    assert listed.stderr == ""
    assert "acme" in listed.stdout
    assert "\x1b" not in listed.stdout
    again = billing("tenants", "create", "acme")
    assert (again.returncode, again.stdout, again.stderr) == (1, "", "error: tenant acme exists already\n")
