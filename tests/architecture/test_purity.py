"""A file is pure unless its name says otherwise, and money is neither a float nor rounded in two places."""

from pathlib import Path

from tests.architecture import purity
from tests.architecture.source import ROOT, Fault, listing, write_tree

PACKAGE = {"billing/__init__.py": "", "billing/money.py": "", "billing/pricing/__init__.py": ""}
GATEWAY = {"billing/gateway/__init__.py": ""}


def texts(faults: list[Fault]) -> list[str]:
    return [f"{fault.path}:{fault.line} {fault.text}" for fault in faults]


def test_pure_files_import_pure_files_only() -> None:
    assert not (faults := purity.impure_imports(ROOT)), listing(faults)


def test_pure_files_depend_on_their_arguments_only() -> None:
    assert not (faults := purity.impure_code(ROOT)), listing(faults)


def test_money_is_no_float_and_rounded_in_one_file() -> None:
    assert not (faults := purity.careless_money(ROOT)), listing(faults)


def test_place_and_name_alone_say_what_is_pure() -> None:
    pure = "billing billing.money billing.settings billing.tokens billing.tokens.dialects.openai billing.metering.event billing.gateway.proxy billing.gateway.routes"
    outside = "billing.metering.store billing.pricing.service billing.gateway.upstream billing.gateway.protocol billing.app.gateway billing.infra.log billing.cli"
    assert all(purity.is_pure(module) for module in pure.split())
    assert not any(purity.is_pure(module) for module in outside.split())


def test_the_project_has_pure_files_to_judge() -> None:
    assert {"billing.money", "billing.ids", "billing.clock", "billing.errors"} <= set(
        purity.pure_modules(ROOT)
    )


def test_seeded_a_formula_imports_its_own_store(tmp_path: Path) -> None:
    tree = {
        "billing/pricing/rating.py": "import decimal\nimport billing.pricing.store\n",
        "billing/pricing/store.py": "import os",
    }
    assert texts(purity.impure_imports(write_tree(tmp_path, PACKAGE | tree))) == [
        "billing/pricing/rating.py:2 pure file imports billing.pricing.store"
    ]


def test_seeded_a_pure_file_reaches_the_outside_through_a_file_of_another_folder(tmp_path: Path) -> None:
    tree = {
        "billing/pricing/plan.py": "from billing.infra import log\n",
        "billing/infra/__init__.py": "",
        "billing/infra/log.py": "",
    }
    assert texts(purity.impure_imports(write_tree(tmp_path, PACKAGE | tree))) == [
        "billing/pricing/plan.py:1 pure file imports billing.infra.log"
    ]


def test_seeded_each_outside_package_is_found(tmp_path: Path) -> None:
    names = [
        "asyncio",
        "json",
        "logging",
        "os",
        "pathlib",
        "random",
        "secrets",
        "socket",
        "sqlalchemy",
        "sys",
        "time",
    ]
    tree = {"billing/pricing/unit.py": "".join(f"import {name}\n" for name in names)}
    found = texts(purity.impure_imports(write_tree(tmp_path, PACKAGE | tree)))
    assert found == [
        f"billing/pricing/unit.py:{names.index(n) + 1} pure file imports {n}" for n in sorted(names)
    ]


def test_seeded_yaml_belongs_to_pricing_only(tmp_path: Path) -> None:
    tree = {
        "billing/pricing/lint.py": "import yaml",
        "billing/fleet/__init__.py": "",
        "billing/fleet/model.py": "import yaml",
    }
    assert texts(purity.impure_imports(write_tree(tmp_path, PACKAGE | tree))) == [
        "billing/fleet/model.py:1 pure file imports yaml"
    ]


def test_seeded_the_proxy_may_await_but_not_import_asyncio(tmp_path: Path) -> None:
    tree = {
        "billing/gateway/proxy.py": "import asyncio\nasync def relay(reply):\n    await reply()\n",
        "billing/gateway/upstream.py": "import asyncio, socket\n",
    }
    root = write_tree(tmp_path, PACKAGE | GATEWAY | tree)
    assert texts(purity.impure_imports(root)) == ["billing/gateway/proxy.py:1 pure file imports asyncio"]
    assert purity.impure_code(root) == []


def test_seeded_of_urllib_only_the_parser_is_pure(tmp_path: Path) -> None:
    tree = {"billing/fleet/__init__.py": "", "billing/fleet/backend.py": "from urllib.parse import urlsplit\n",
            "billing/fleet/model.py": "from urllib.parse import urlsplit\nimport urllib.request\n"}  # fmt: skip
    assert texts(purity.impure_imports(write_tree(tmp_path, PACKAGE | tree))) == [
        "billing/fleet/model.py:1 pure file imports urllib"
    ]


IMPURE_CODE = """\
import datetime as clock_module
from datetime import datetime, date as day
from uuid import UUID, uuid4
import uuid, msgspec
open("x")
print(input())
datetime.now()
datetime.datetime.utcnow()
uuid.uuid1()
hash("x")
def change():
    global counter
class Loose(msgspec.Struct): ...
class Fast(msgspec.Struct, frozen=True): ...
self.clock.now()
"""
IMPURE_CODE_FOUND = [
    (2, "renames date, which hides its clock"),
    (3, "imports uuid.uuid4, which is random"),
    (5, "calls open(), which opens a file"),
    (6, "calls input(), which reads"),
    (6, "calls print(), which writes"),
    (7, "asks the clock by datetime.now()"),
    (8, "asks the clock by datetime.datetime.utcnow()"),
    (9, "uses uuid.uuid1, which is random"),
    (10, "calls hash(), which differs between processes"),
    (12, "changes the module's own counter"),
    (13, "holds Loose, a msgspec.Struct without frozen=True"),
]


def test_seeded_each_impure_call_is_found(tmp_path: Path) -> None:
    found = purity.impure_code(write_tree(tmp_path, PACKAGE | {"billing/pricing/unit.py": IMPURE_CODE}))
    assert sorted((fault.line, fault.text) for fault in found) == [
        (line, f"pure file {text}") for line, text in IMPURE_CODE_FOUND
    ]


def test_seeded_settings_know_paths_but_do_not_touch_the_disk(tmp_path: Path) -> None:
    tree = {
        "billing/settings.py": "from pathlib import Path\ndata = Path('.billing') / 'spool'\nif data.exists(): ...\n"
    }
    root = write_tree(tmp_path, PACKAGE | tree)
    assert purity.impure_imports(root) == []
    assert texts(purity.impure_code(root)) == ["billing/settings.py:3 pure file touches the disk by exists()"]


def test_seeded_careless_money(tmp_path: Path) -> None:
    tree = {
        "billing/money.py": "half = round(1)\nprice = float('1')\nlimit.quantize(1)\n",
        "billing/pricing/unit.py": "round(total, 2)\nshare = cents / 100\nrate = 0.25\nvalue: float\nx.quantize(y)\nu = a / b\n",
        "billing/pricing/service.py": "timeout_s = 0.5\nprice = float(text)\n",
        "billing/fleet/__init__.py": "",
        "billing/fleet/model.py": "weight = float('0.5')\n",
    }
    found = purity.careless_money(write_tree(tmp_path, PACKAGE | tree))
    assert sorted({(fault.path, fault.line) for fault in found}) == [
        ("billing/money.py", 2),
        ("billing/pricing/service.py", 2),
        *(("billing/pricing/unit.py", line) for line in range(1, 6)),
    ]
