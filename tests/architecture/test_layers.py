"""The import contracts of ``.importlinter`` hold, and each is shown to fail on a seeded violation."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.architecture.source import ROOT, write_tree

LAYERS = "Layers: upper may import lower, never up, never sideways"
ACYCLIC = "No cycles between siblings, at any depth"
DATA_PLANE = "The data plane reaches no database, not even through others"
LITESTAR = "Litestar stays at the edge"
UVICORN = "uvicorn stays with the gateway and the processes"
STORES = "Entry folders call services and never stores"
ALL = {LAYERS, ACYCLIC, DATA_PLANE, LITESTAR, UVICORN, STORES}

FOLDERS = [
    "cli", "app", "gateway", "admin", "dashboard", "exports", "invoicing", "metering", "directory", "tenants", "pricing",
    "limits", "ledger", "fleet", "access", "tokens", "infra",
]  # fmt: skip
SOUND = {
    "billing/__init__.py": "",
    **{f"billing/{folder}/__init__.py": "" for folder in FOLDERS},
    **{f"billing/{name}.py": "" for name in ("settings", "money", "ids", "clock", "errors")},
    "billing/infra/postgres.py": "import sqlalchemy\nimport asyncpg\n",
    "billing/metering/store.py": "import sqlalchemy\nimport billing.infra.postgres\n",
    "billing/metering/service.py": "import billing.metering.store\nimport billing.pricing.rating\n",
    "billing/metering/event.py": "import billing.money\n",
    "billing/pricing/rating.py": "import billing.money\n",
    "billing/directory/cache.py": "",
    "billing/gateway/routes.py": "import litestar\nimport billing.gateway.proxy\n",
    "billing/gateway/proxy.py": "import billing.metering.event\nimport billing.tokens\n",
    "billing/app/gateway.py": "import litestar, uvicorn\nimport billing.gateway.routes, billing.metering.store\n",
    "billing/cli/main.py": "import billing.app.gateway, billing.metering.service\n",
}
"""A tree that keeps every contract: the starting point of each seeded violation."""

SEEDED = {
    "a noun imports upward": (LAYERS, {"billing/pricing/plan.py": "import billing.invoicing"}),
    "a noun imports sideways": (LAYERS, {"billing/pricing/plan.py": "import billing.fleet"}),
    "a root file imports upward": (LAYERS, {"billing/money.py": "import billing.settings"}),
    "an import in a function": (LAYERS, {"billing/metering/event.py": "def f():\n import billing.directory"}),
    "a folder that no layer places": (LAYERS, {"billing/warehouse/__init__.py": ""}),
    "a root file that no layer places": (LAYERS, {"billing/extras.py": ""}),
    "two files import each other": (
        ACYCLIC,
        {
            "billing/pricing/plan.py": "import billing.pricing.unit",
            "billing/pricing/unit.py": "import billing.pricing.plan",
        },
    ),
    "the gateway imports a driver": (DATA_PLANE, {"billing/gateway/upstream.py": "import asyncpg"}),
    "the gateway reaches a driver": (
        DATA_PLANE,
        {"billing/gateway/upstream.py": "import billing.metering.service"},
    ),
    "counting reaches a driver": (DATA_PLANE, {"billing/tokens/usage.py": "import billing.infra.postgres"}),
    "a noun imports Litestar": (LITESTAR, {"billing/fleet/service.py": "from litestar import get"}),
    "a later folder imports Litestar": (LITESTAR, {"billing/jobs/__init__.py": "import litestar"}),
    "a command imports uvicorn": (UVICORN, {"billing/cli/up.py": "import uvicorn"}),
    "the gateway takes a cache": (STORES, {"billing/gateway/routes.py": "import billing.directory.cache"}),
    "a command takes a store": (STORES, {"billing/cli/plans.py": "import billing.metering.store"}),
    "a later entry folder takes tables": (
        STORES,
        {
            "billing/jobs/__init__.py": "import billing.ledger.tables",
            "billing/ledger/tables.py": "",
        },
    ),
}
"""What is broken, by which change to the sound tree."""

LATER = {
    "billing/payments/__init__.py": "",
    "billing/jobs/__init__.py": "import billing.metering.service",
}
"""Folders of later steps: the contract places them already."""

# One process for all trees: starting the linter costs more than linting. It is a process of its own because a seeded
# tree is called ``billing`` too.
_PROGRAM = """
import importlib, os, sys
from importlinter.cli import lint_imports
config, *roots = sys.argv[1:]
for root in roots:
    print("TREE", flush=True)
    os.chdir(root)
    sys.path[0] = root
    importlib.invalidate_caches()
    print("EXIT", lint_imports(config_filename=config, no_cache=True, no_logo=True), flush=True)
"""


class Verdict(NamedTuple):
    """What the linter said of a tree: contracts kept, contracts broken, and its whole report for the reader."""

    kept: set[str]
    broken: set[str]
    report: str


def lint(*roots: Path) -> list[Verdict]:
    """The project's real contract file, evaluated for the ``billing`` package of each tree."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "300", "NO_COLOR": "1"}
    command = [sys.executable, "-c", _PROGRAM, str(ROOT / ".importlinter"), *map(str, roots)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    reports = done.stdout.split("TREE\n")[1:]
    assert len(reports) == len(roots), done.stdout + done.stderr
    return [_verdict(report) for report in reports]


def _verdict(report: str) -> Verdict:
    lines = [line.strip() for line in report.splitlines()]
    kept = {line.removesuffix(" KEPT") for line in lines if line.endswith(" KEPT")}
    broken = {line.removesuffix(" BROKEN") for line in lines if line.endswith(" BROKEN")}
    assert kept | broken == ALL, report
    assert lines[-1] == f"EXIT {1 if broken else 0}", report
    return Verdict(kept, broken, report)


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Verdict]:
    """Every seeded tree's verdict, by what is wrong with it."""
    folder = tmp_path_factory.mktemp("seeded")
    roots = [
        write_tree(folder / str(number), SOUND | change) for number, (_, change) in enumerate(SEEDED.values())
    ]
    return dict(zip(SEEDED, lint(*roots), strict=True))


def test_the_project_keeps_every_contract() -> None:
    (verdict,) = lint(ROOT)
    assert not verdict.broken, verdict.report


def test_a_sound_tree_keeps_every_contract_and_so_does_a_placed_folder_that_appears(tmp_path: Path) -> None:
    sound, later = lint(write_tree(tmp_path / "sound", SOUND), write_tree(tmp_path / "later", SOUND | LATER))
    assert (sound.kept, later.kept) == (ALL, ALL)


@pytest.mark.parametrize("wrong", SEEDED)
def test_a_seeded_violation_breaks_exactly_its_contract(wrong: str, seeded: dict[str, Verdict]) -> None:
    contract, _ = SEEDED[wrong]
    assert seeded[wrong].broken == {contract}
