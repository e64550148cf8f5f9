import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from billing.cli.main import SECTIONS, cli

NAMES = [name for names in SECTIONS.values() for name in names]
HELP_IMPORTS_NONE_OF = ("sqlalchemy", "asyncpg", "rich", "alembic", "uvloop", "litestar", "asyncio", "yaml")


def commands(command: click.Command, path: str) -> list[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        return [(path, command)]
    context = click.Context(command)
    below = [
        (f"{path} {name}", command.get_command(context, name)) for name in command.list_commands(context)
    ]
    return [leaf for name, each in below if each for leaf in commands(each, name.strip())]


LEAVES = commands(cli, "")


def test_help_lists_every_command_in_the_order_in_which_one_needs_them() -> None:
    shown = CliRunner().invoke(cli, ["--help"])
    assert shown.exit_code == 0
    listed = [
        line.split()[0]
        for line in shown.stdout.splitlines()
        if line.startswith("  ") and line.split()[0] in NAMES
    ]
    assert listed == NAMES
    assert [title for title in SECTIONS if f"{title}:" in shown.stdout] == list(SECTIONS)


def test_help_imports_nothing_that_a_command_alone_needs() -> None:
    script = (
        "import sys; from click.testing import CliRunner; before = set(sys.modules); from billing.cli.main import cli\n"
        "assert CliRunner().invoke(cli, ['--help']).exit_code == 0\n"
        f"print(sorted(set({HELP_IMPORTS_NONE_OF!r}) & (set(sys.modules) - before)))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert shown.stdout.strip() == "[]"


@pytest.mark.parametrize("name", NAMES)
def test_the_line_of_help_in_the_list_belongs_to_a_command_that_exists(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.name == name
    assert command.help


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=[path for path, _ in LEAVES])
def test_every_command_has_help_for_itself_and_each_of_its_options(path: str, command: click.Command) -> None:
    assert CliRunner().invoke(cli, [*path.split(), "--help"]).exit_code == 0
    assert command.help
    options = [option for option in command.params if isinstance(option, click.Option)]
    assert [option.name for option in options if not option.help] == []


@pytest.mark.parametrize("path", [path for path, _ in LEAVES if path.split()[0] not in {*SECTIONS["Run"]}])
def test_every_command_about_data_offers_json(path: str) -> None:
    assert "--json" in CliRunner().invoke(cli, [*path.split(), "--help"]).stdout


def test_an_unknown_command_is_a_usage_error() -> None:
    shown = CliRunner().invoke(cli, ["tenant"])
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert "No such command 'tenant'" in shown.stderr


def test_version() -> None:
    assert CliRunner().invoke(cli, ["--version"]).stdout.startswith("billing ")
