"""What the architecture tests look at: files below a root, their syntax trees, comments and imports.

Every check takes the root of a tree, so that the same function judges the project and a small seeded tree.
"""

import ast
import json
import os
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]

FOLDERS_SKIPPED = {
    ".git", ".venv", ".billing", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis",
    ".import_linter_cache", ".grimp_cache", "build", "dist", "node_modules", "captures",
}  # fmt: skip
TEXT_SUFFIXES = {
    "", ".py", ".md", ".toml", ".yml", ".yaml", ".sh", ".lua", ".sql", ".cfg", ".ini", ".lock", ".mako", ".html",
    ".js", ".css", ".jinja", ".txt",
}  # fmt: skip

# Printed by a process of its own: grimp finds a package by importing its name, and a seeded tree is called `billing` too.
_IMPORTS_PROGRAM = """
import grimp, json
graph = grimp.build_graph("billing", include_external_packages=True, cache_dir=None)
modules = sorted(m for m in graph.modules if not graph.is_module_squashed(m))
print(json.dumps({m: [
    [i, min(d["line_number"] for d in graph.get_import_details(importer=m, imported=i))]
    for i in sorted(graph.find_modules_directly_imported_by(m))
] for m in modules}))
"""


class Fault(NamedTuple):
    """One violation: where, and a sentence that says what to do."""

    path: str
    line: int
    text: str

    def __repr__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


def listing(faults: list[Fault]) -> str:
    """Every fault on a line of its own, for the message of a failed test."""
    return "\n".join(["", *map(repr, faults)])


def write_tree(root: Path, files: dict[str, str]) -> Path:
    """A small tree of files for a seeded test; returns its root."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def relative(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def python_files(root: Path, *folders: str) -> Iterator[Path]:
    """Python files below the named folders of a tree, in order; a folder that is missing has none."""
    for folder in folders:
        yield from (path for path in _walk(root / folder) if path.suffix == ".py")


def text_files(root: Path) -> Iterator[Path]:
    """Files that people read and write, by suffix; captures of foreign servers are not ours to judge."""
    yield from (path for path in _walk(root) if path.suffix in TEXT_SUFFIXES)


def _walk(top: Path) -> Iterator[Path]:
    for folder, names, files in os.walk(top):
        names[:] = sorted(
            name for name in names if name not in FOLDERS_SKIPPED and not name.endswith(".egg-info")
        )
        yield from (Path(folder) / name for name in sorted(files))


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(parse(path)))


@cache
def comments(path: Path) -> dict[int, str]:
    """Comments of a Python file by line; text inside strings is not a comment."""
    with tokenize.open(path) as file:
        return {
            t.start[0]: t.string
            for t in tokenize.generate_tokens(file.readline)
            if t.type == tokenize.COMMENT
        }


@cache
def imports(root: Path) -> dict[str, list[tuple[str, int]]]:
    """What each module of a tree's ``billing`` package imports directly, with the first line of each import."""
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTS_PROGRAM],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return {
        module: [(name, line) for name, line in found] for module, found in json.loads(done.stdout).items()
    }


def path_of(root: Path, module: str) -> Path:
    """The file of a module, or its ``__init__.py`` when it is a package."""
    path = root.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def called_name(node: ast.AST) -> str:
    """The dotted name of what a call calls, ``datetime.now``; empty for anything else."""
    return dotted(node.func) if isinstance(node, ast.Call) else ""


def dotted(node: ast.AST) -> str:
    """A name or attribute chain as it is written; empty when it begins with something else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        start = dotted(node.value)
        return f"{start}.{node.attr}" if start else f".{node.attr}"
    return ""
