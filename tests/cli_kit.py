"""A terminal for tests of the ``billing`` command: types commands on a database and reads what was printed."""

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from billing.cli.main import cli


class Terminal:
    """Types commands; ``ok`` expects success, ``json`` reads what it printed."""

    def __init__(self, url: str, data_dir: Path) -> None:
        self.url = url
        self.environment = {"DATABASE_URL": url, "BILLING_DATA_DIR": str(data_dir), "COLUMNS": "100"}

    def run(self, *arguments: str, text: str | None = None) -> Result:
        return CliRunner(env=self.environment).invoke(cli, arguments, input=text)

    def ok(self, *arguments: str, text: str | None = None) -> str:
        result = self.run(*arguments, text=text)
        assert result.exit_code == 0, result.output
        return result.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.ok(*arguments, "--json"))

    def fails(self, *arguments: str, text: str | None = None) -> str:
        result = self.run(*arguments, text=text)
        assert (result.exit_code, result.stdout) == (1, ""), result.output
        assert result.stderr.count("\n") == 1
        return result.stderr.strip()


def words(text: str) -> list[list[str]]:
    """Lines as words: how wide columns are is none of a test's business."""
    return [line.split() for line in text.splitlines() if set(line.strip()) - {"─"}]
