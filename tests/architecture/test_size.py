"""The size ratchet: large files and functions stand in one list with a reason and their exact present size."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.architecture.source import (
    ROOT,
    Fault,
    listing,
    nodes,
    python_files,
    relative,
    text_files,
    write_tree,
)

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
FOLDERS = ("billing", "migrations", "tests", "bench", "tools")
CODE_SUFFIXES = {".py", ".lua", ".sh", ".js", ".css", ".html", ".jinja"}
CEILINGS = "tests/architecture/size_ceilings.toml"


def size_faults(root: Path) -> list[Fault]:
    """Everything that the list of ceilings does not cover exactly."""
    return sorted(_beyond(root) + _idle(root))


def _beyond(root: Path) -> list[Fault]:
    """What is large and unlisted, or larger than its ceiling."""
    ceilings = _ceilings(root)
    return [
        Fault(
            name,
            line,
            f"{lines} lines: over the limit of {limit}" if name not in ceilings else f"grew to {lines} lines",
        )
        for name, (line, lines, limit) in _sizes(root).items()
        if lines > ceilings.get(name, {"lines": limit})["lines"]
    ]


def _idle(root: Path) -> list[Fault]:
    """Entries of the list that cover nothing, more than there is, or give no reason."""
    sizes = _sizes(root)
    faults = []
    for name, entry in _ceilings(root).items():
        _, lines, limit = sizes.get(name, (1, 0, 0))
        if lines <= limit:
            faults.append(Fault(CEILINGS, 1, f"{name} is stale: remove it"))
        elif lines < entry["lines"]:
            faults.append(Fault(CEILINGS, 1, f"{name} is loose: lower it to {lines}"))
        if not str(entry.get("reason", "")).strip():
            faults.append(Fault(CEILINGS, 1, f"{name} gives no reason"))
    return faults


def _ceilings(root: Path) -> dict[str, dict[str, Any]]:
    path = root / CEILINGS
    return tomllib.loads(path.read_text()) if path.exists() else {}


def _sizes(root: Path) -> dict[str, tuple[int, int, int]]:
    """Name to (line, lines, limit) of each file and each function; a function is named ``path::Class.function``."""
    sizes = {}
    for path in (
        path for folder in FOLDERS for path in text_files(root / folder) if path.suffix in CODE_SUFFIXES
    ):
        sizes[relative(root, path)] = (1, len(path.read_text().splitlines()), FILE_LINES_MAX)
    for path in python_files(root, *FOLDERS):
        for name, node in _functions(path):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            sizes[f"{relative(root, path)}::{name}"] = (node.lineno, lines, FUNCTION_LINES_MAX)
    return sizes


def _functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    owners = {
        child: node.name
        for node in nodes(path)
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.walk(node)
        if child is not node
    }
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{owners[node]}.{node.name}" if node in owners else node.name, node


def test_large_files_and_functions_stand_in_the_list_exactly() -> None:
    assert not (faults := size_faults(ROOT)), listing(faults)


LONG = "x = 1\n" * (FILE_LINES_MAX + 1)
FUNCTION = "class Rater:\n    def rate(self):\n" + "        x = 1\n" * FUNCTION_LINES_MAX


def entry(name: str, lines: int, reason: str = "it is one table") -> str:
    return f'["{name}"]\nlines = {lines}\nreason = "{reason}"\n'


def found(root: Path, files: dict[str, str]) -> list[str]:
    return [f"{fault.path}: {fault.text}" for fault in size_faults(write_tree(root, files))]


def test_what_is_just_within_the_limits_needs_no_entry(tmp_path: Path) -> None:
    fitting = {"billing/a.py": "x = 1\n" * FILE_LINES_MAX, "billing/b.py": FUNCTION.rsplit("        x", 1)[0]}
    assert found(tmp_path, fitting) == []


def test_seeded_unlisted_ones_are_found_in_each_folder(tmp_path: Path) -> None:
    files = {f"{folder}/a.py": LONG for folder in FOLDERS} | {"billing/limits/admit.lua": LONG}
    assert len(found(tmp_path, files)) == len(files)
    assert found(tmp_path / "functions", {"billing/b.py": FUNCTION}) == [
        "billing/b.py::Rater.rate: 61 lines: over the limit of 60"
    ]


def test_seeded_an_exact_entry_covers(tmp_path: Path) -> None:
    listed = entry("billing/a.py", 401) + entry("billing/b.py::Rater.rate", 61)
    assert found(tmp_path, {"billing/a.py": LONG, "billing/b.py": FUNCTION, CEILINGS: listed}) == []


def test_seeded_growth_is_found(tmp_path: Path) -> None:
    files = {"billing/a.py": LONG + "y = 1\n", CEILINGS: entry("billing/a.py", 401)}
    assert found(tmp_path, files) == ["billing/a.py: grew to 402 lines"]


def test_seeded_a_loose_entry_is_found(tmp_path: Path) -> None:
    files = {"billing/a.py": LONG, CEILINGS: entry("billing/a.py", 450)}
    assert found(tmp_path, files) == [f"{CEILINGS}: billing/a.py is loose: lower it to 401"]


def test_seeded_a_stale_entry_is_found(tmp_path: Path) -> None:
    files = {
        "billing/a.py": "x = 1\n",
        CEILINGS: entry("billing/a.py", 401) + entry("billing/gone.py::f", 80),
    }
    assert found(tmp_path, files) == [
        f"{CEILINGS}: billing/a.py is stale: remove it",
        f"{CEILINGS}: billing/gone.py::f is stale: remove it",
    ]


def test_seeded_an_entry_without_a_reason_is_found(tmp_path: Path) -> None:
    files = {"billing/a.py": LONG, CEILINGS: entry("billing/a.py", 401, reason=" ")}
    assert found(tmp_path, files) == [f"{CEILINGS}: billing/a.py gives no reason"]
