"""Rules of the house: each holds for the project, and each is shown to find a seeded violation."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.architecture import tidy
from tests.architecture.source import ROOT, Fault, listing, write_tree

Check = Callable[[Path], list[Fault]]

CHECKS = [
    tidy.bare_ignores,
    tidy.patches,
    tidy.environment_readers,
    tidy.commits,
    tidy.inner_imports,
    tidy.broad_excepts,
    tidy.leftovers,
    tidy.missing_readmes,
    tidy.missing_paths,
    tidy.registry_addresses,
    tidy.error_tree,
    tidy.vague_names,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_project_is_tidy(check: Check) -> None:
    assert not (faults := check(ROOT)), listing(faults)


def lines(check: Check, root: Path, files: dict[str, str]) -> list[tuple[str, int]]:
    return [(fault.path, fault.line) for fault in check(write_tree(root, files))]


def numbered(path: str, *numbers: int) -> list[tuple[str, int]]:
    return [(path, number) for number in numbers]


def test_seeded_bare_ignores(tmp_path: Path) -> None:
    text = (
        "a = 1  # noqa\n"
        "b = 1  # noqa: S101\n"
        "c = 1  # noqa: S101 - the linter cannot see the guard above\n"
        "d = 1  # type: ignore\n"
        "e = 1  # type: ignore[arg-type]\n"
        "f = 1  # type: ignore[arg-type]  # asyncpg has no types\n"
        "# ruff: noqa\n"
        "g = '# noqa'\n"
        "h = 1  # noqa: S101, S603 - two codes, one reason\n"
    )
    assert lines(tidy.bare_ignores, tmp_path, {"billing/a.py": text}) == numbered(
        "billing/a.py", 1, 2, 4, 5, 7
    )


def test_seeded_patches(tmp_path: Path) -> None:
    text = (
        "from unittest import mock\n"
        "from unittest.mock import MagicMock\n"
        "import unittest.mock\n"
        "def test_it(monkeypatch):\n"
        "    monkeypatch.setattr('os.name', 'x')\n"
        "    monkeypatch.setenv('A', 'b')\n"
        "    mock.patch('a.b')\n"
    )
    assert lines(tidy.patches, tmp_path, {"tests/test_a.py": text}) == numbered(
        "tests/test_a.py", 1, 2, 3, 5, 7
    )


def test_seeded_environment_readers(tmp_path: Path) -> None:
    text = "import os\nfrom os import environ\nurl = os.environ['DATABASE_URL']\nhome = os.getenv('HOME')\n"
    files = {"billing/infra/log.py": text, "billing/cli/main.py": text}
    assert lines(tidy.environment_readers, tmp_path, files) == numbered("billing/infra/log.py", 2, 3, 4)


def test_seeded_commits(tmp_path: Path) -> None:
    files = {
        "billing/infra/postgres.py": "session.commit()\n",
        "billing/metering/store.py": "x = 1\nsession.commit()\n",
    }
    assert lines(tidy.commits, tmp_path, files) == numbered("billing/metering/store.py", 2)


def test_seeded_inner_imports(tmp_path: Path) -> None:
    text = "import json\ndef f():\n    import os\nasync def g():\n    if 1:\n        from os import path\n"
    files = {"billing/tokens/sse.py": text, "billing/cli/main.py": text}
    assert lines(tidy.inner_imports, tmp_path, files) == numbered("billing/tokens/sse.py", 3, 6)


EXCEPTS = """\
try: f()
except Exception:
    pass
try: f()
except Exception:  # the supervisor counts and restarts
    pass
try: f()
# the supervisor counts and restarts
except (ValueError, BaseException):
    pass
try: f()
except Exception:
    # the supervisor counts and restarts
    pass
try: f()
except:
    pass
try: f()
except BaseException:
    stop()
    raise
try: f()
except ValueError:
    pass
with suppress(Exception): f()
"""


def test_seeded_broad_excepts(tmp_path: Path) -> None:
    assert lines(tidy.broad_excepts, tmp_path, {"billing/a.py": EXCEPTS}) == numbered(
        "billing/a.py", 2, 16, 25
    )


def test_seeded_leftovers(tmp_path: Path) -> None:
    word = "TO" + "DO"
    files = {
        "billing/a.py": f'"""Reads.\n\n{word} writes."""\nx = "{word}"\ny = 1  # {word} later\n',
        "tools/run.sh": f"# {word}: quote\nmktemp -d /tmp/XXXXXX\n",
    }
    assert sorted(lines(tidy.leftovers, tmp_path, files)) == [
        ("billing/a.py", 1),
        ("billing/a.py", 5),
        ("tools/run.sh", 1),
    ]


def test_seeded_readmes(tmp_path: Path) -> None:
    files = {
        "billing/tokens/__init__.py": "",
        "billing/pricing/__init__.py": "",
        "billing/pricing/README.md": "line\n" * (tidy.README_LINES_MAX + 1),
        "billing/fleet/__init__.py": "",
        "billing/fleet/README.md": "line\n" * tidy.README_LINES_MAX,
    }
    assert lines(tidy.missing_readmes, tmp_path, files) == [
        ("billing/pricing/README.md", tidy.README_LINES_MAX),
        ("billing/tokens/README.md", 1),
    ]


def test_seeded_paths_of_the_root_readme(tmp_path: Path) -> None:
    text = (
        "See `billing/tokens` and `docs/missing.md`.\n"
        "Call `/v1/models` with `make demo`, `usage.prompt_tokens`, `text/event-stream`.\n"
        "Read `CHANGELOG.md` and `GONE.md`; data in `.billing/` and `.venv/bin/billing`.\n"
    )
    files = {"README.md": text, "billing/tokens/__init__.py": "", "CHANGELOG.md": ""}
    assert lines(tidy.missing_paths, tmp_path, files) == numbered("README.md", 1, 3)
    assert tidy.missing_paths(tmp_path / "billing") == []


def test_seeded_paths_of_a_folders_readme(tmp_path: Path) -> None:
    text = "Owns `usage.py`, uses `money.py`, gone: `meter.py`; `billing/tokens/store.py`.\n"
    files = {"billing/tokens/README.md": text, "billing/tokens/usage.py": "", "billing/money.py": ""}
    assert lines(tidy.missing_paths, tmp_path, files) == numbered("billing/tokens/README.md", 1, 1)


def test_seeded_registry_addresses(tmp_path: Path) -> None:
    registry = "py" + "pi.org"
    files = {
        "docs/install.md": f"from {registry}\n",
        "requirements.lock": "--index-url https://example.test\n",
        "README.md": "https://example.test\n",
    }
    assert sorted(lines(tidy.registry_addresses, tmp_path, files)) == [
        ("docs/install.md", 1),
        ("requirements.lock", 1),
    ]


ERRORS = '''"""The tree.

BillingError
  NotFound   the thing does not exist
  Gone       it did once
"""

class BillingError(Exception): ...
class NotFound(BillingError): ...
class Conflict(BillingError): ...
class SpoolFull(NotFound): ...
'''


def test_seeded_error_tree(tmp_path: Path) -> None:
    found = [fault.text for fault in tidy.error_tree(write_tree(tmp_path, {"billing/errors.py": ERRORS}))]
    assert found == [
        "Conflict under BillingError is not drawn",
        "SpoolFull under NotFound is not drawn",
        "Gone under BillingError is drawn and does not exist",
    ]


VAGUE = """\
class StreamManager: ...
def frame(ctx, context): ...
def parse_msg(): ...
def message(value): ...
class Protocol(HttpToolsProtocol):
    def send_400_response(self, msg): ...
class Plain:
    def send(self, msg): ...
"""


def test_seeded_vague_names(tmp_path: Path) -> None:
    files = {"billing/tokens/utils.py": "", "billing/tokens/sse.py": VAGUE}
    assert sorted(lines(tidy.vague_names, tmp_path, files)) == [
        *numbered("billing/tokens/sse.py", 1, 2, 3, 8),
        ("billing/tokens/utils.py", 1),
    ]
