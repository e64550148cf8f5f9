"""Rules of the house that no linter knows, each a function from the root of a tree to what breaks it there."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.source import (
    Fault,
    comments,
    dotted,
    nodes,
    parse,
    python_files,
    relative,
    text_files,
)

CODE = ("billing", "migrations", "tests", "bench", "tools")
README_LINES_MAX = 60

_NOQA = re.compile(r"#\s*(?:ruff:\s*)?noqa\b(?!: [A-Z]+\d+(?:, ?[A-Z]+\d+)* +\S)", re.IGNORECASE)
_TYPE_IGNORE = re.compile(r"#\s*type:\s*ignore(?!\[[a-z\-, ]+\] +# +\S)")
_LEFTOVER = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X)\b")
_REGISTRIES = [".".join(parts) for parts in (
    ("pypi", "org"), ("pythonhosted", "org"), ("registry", "npmjs", "org"), ("crates", "io"),
    ("proxy", "golang", "org"), ("repo1", "maven", "org"), ("deb", "debian", "org"),
)]  # fmt: skip
_PATCHES = {"patch", "MagicMock", "AsyncMock", "create_autospec"}
_REPLACING = {"setattr", "delattr", "setitem", "delitem"}
_ROOT_PATH = re.compile(r"`([\w.][\w.\-]*(?:/[\w.\-]+)*/?)`")
_PATH_SUFFIXES = {".py", ".md", ".toml", ".yml", ".yaml", ".sh", ".lock", ".lua", ".sql", ".txt"}
_VAGUE = {
    "util", "utils", "misc", "common", "mgr", "manager", "cfg", "ctx", "msg", "num", "cnt", "idx",
    "req", "resp", "tmp", "val", "obj",
}  # fmt: skip


def bare_ignores(root: Path) -> list[Fault]:
    """``noqa`` and ``type: ignore`` without a code, or without a reason behind it on the same line."""
    return [
        Fault(relative(root, path), line, f"{comment!r} needs its code and a reason on the same line")
        for path in python_files(root, *CODE)
        for line, comment in comments(path).items()
        if _NOQA.search(comment) or _TYPE_IGNORE.search(comment)
    ]


def patches(root: Path) -> list[Fault]:
    """Tests that replace something behind the code's back: it shows a missing argument."""
    return [
        Fault(
            relative(root, path), getattr(node, "lineno", 0), "patches: pass the collaborator as an argument"
        )
        for path in python_files(root, "tests", "bench")
        for node in nodes(path)
        if _patches(node)
    ]


def _patches(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.module in {"unittest.mock", "mock"} or any(a.name == "mock" for a in node.names)
    if isinstance(node, ast.Import):
        return any(alias.name in {"unittest.mock", "mock", "pytest_mock"} for alias in node.names)
    owner, _, name = dotted(node).rpartition(".") if isinstance(node, ast.Attribute) else ("", "", "")
    return (owner.endswith("monkeypatch") and name in _REPLACING) or (
        owner.endswith("mock") and name in _PATCHES
    )


def environment_readers(root: Path) -> list[Fault]:
    """Code that reads the environment anywhere but in ``billing/cli``: settings are passed in."""
    return [
        Fault(
            relative(root, path), getattr(node, "lineno", 0), "reads the environment: take it as an argument"
        )
        for path in python_files(root, "billing", "migrations")
        if not relative(root, path).startswith("billing/cli/")
        for node in nodes(path)
        if _reads_environment(node)
    ]


def _reads_environment(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom) and node.module == "os":
        return any(alias.name in {"environ", "getenv"} for alias in node.names)
    return isinstance(node, ast.Attribute) and dotted(node) in {"os.environ", "os.getenv", "os.environb"}


def commits(root: Path) -> list[Fault]:
    """Calls of ``commit()`` in other files than the two that own a transaction: the edge's, and the migrations' runner."""
    return [
        Fault(relative(root, path), node.lineno, "commits: the edge does, through billing/infra/postgres.py")
        for path in python_files(root, "billing", "migrations")
        if relative(root, path) not in {"billing/infra/postgres.py", "billing/infra/migrate.py"}
        for node in nodes(path)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "commit"
    ]


def inner_imports(root: Path) -> list[Fault]:
    """Imports inside a function outside ``billing/cli``."""
    return [
        Fault(relative(root, path), inner.lineno, "imports inside a function")
        for path in python_files(root, *CODE)
        if not relative(root, path).startswith("billing/cli/")
        for node in nodes(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(node)
        if isinstance(inner, ast.Import | ast.ImportFrom)
    ]


def broad_excepts(root: Path) -> list[Fault]:
    """Whatever swallows every exception without a comment beside it that says who handles what.

    The comment stands on the line, before it or before the handler's first statement. A handler that ends in a bare
    ``raise`` only cleans up and swallows nothing.
    """
    return [
        Fault(relative(root, path), node.lineno, "catches everything: say in a comment who handles what")
        for path in python_files(root, *CODE)
        for node in nodes(path)
        if isinstance(node, ast.ExceptHandler | ast.Call)
        and _swallows_everything(node)
        and not set(_beside(node)) & set(comments(path))
    ]


def _swallows_everything(node: ast.ExceptHandler | ast.Call) -> bool:
    if isinstance(node, ast.Call):
        caught: list[ast.expr | None] = [*node.args] if dotted(node.func).endswith("suppress") else []
    elif isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None:
        return False
    else:
        caught = [*node.type.elts] if isinstance(node.type, ast.Tuple) else [node.type]
    return any(kind is None or dotted(kind) in {"Exception", "BaseException"} for kind in caught)


def _beside(node: ast.ExceptHandler | ast.Call) -> range:
    last = node.body[0].lineno if isinstance(node, ast.ExceptHandler) else node.lineno
    return range(node.lineno - 1, last + 1)


def leftovers(root: Path) -> list[Fault]:
    """Notes to do something later: an issue holds those. In Python, comments and docstrings are looked at."""
    return [
        Fault(relative(root, path), line, f"left over: {text.strip()[:60]}")
        for path in text_files(root)
        for line, text in _prose(path)
        if _LEFTOVER.search(text)
    ]


def _prose(path: Path) -> Iterator[tuple[int, str]]:
    if path.suffix != ".py":
        yield from enumerate(path.read_text(errors="replace").splitlines(), 1)
        return
    yield from comments(path).items()
    for node in nodes(path):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            yield node.lineno, node.value.value


def missing_readmes(root: Path) -> list[Fault]:
    """Folders of ``billing`` without a README, or with one that is longer than a page."""
    faults = []
    for folder in sorted({path.parent for path in (root / "billing").glob("*/*.py")}):
        readme = folder / "README.md"
        if not readme.is_file():
            faults.append(
                Fault(
                    relative(root, readme),
                    1,
                    "missing: what it owns, what not, its invariants, what it does not promise",
                )
            )
        elif len(readme.read_text().splitlines()) > README_LINES_MAX:
            faults.append(Fault(relative(root, readme), README_LINES_MAX, f"over {README_LINES_MAX} lines"))
    return faults


def missing_paths(root: Path) -> list[Fault]:
    """Paths that a README names in backticks and that are not there: the root's, and those of ``billing``'s folders."""
    tops = {path.name for path in root.iterdir() if path.is_dir()} | {"docs", *CODE}
    readmes = [
        path
        for path in [root / "README.md", *sorted((root / "billing").glob("*/README.md"))]
        if path.exists()
    ]
    return [
        Fault(relative(root, readme), number, f"{name} does not exist")
        for readme in readmes
        for number, text in enumerate(readme.read_text().splitlines(), 1)
        for name in _ROOT_PATH.findall(text)
        if _looks_like_ours(name, tops)
        and not any((place / name).exists() for place in (readme.parent, root, root / "billing"))
    ]


def _looks_like_ours(name: str, tops: set[str]) -> bool:
    top, slash, _ = name.partition("/")
    if top in {".venv", ".billing"}:
        return False  # made on the reader's machine
    return top in tops if slash else Path(name).suffix in _PATH_SUFFIXES


def registry_addresses(root: Path) -> list[Fault]:
    """Addresses of package registries, and any address in a lock file."""
    faults = []
    for path in text_files(root):
        names = ["://", *_REGISTRIES] if path.suffix == ".lock" else _REGISTRIES
        text = path.read_text(errors="replace")
        faults += [Fault(relative(root, path), 1, f"names {name}") for name in names if name in text]
    return faults


def error_tree(root: Path) -> list[Fault]:
    """Differences between the tree drawn at the top of ``billing/errors.py`` and its classes."""
    path = root / "billing/errors.py"
    drawn = set(_drawn_tree(ast.get_docstring(parse(path)) or ""))
    real = {
        (n.name, dotted(n.bases[0]) if n.bases else "")
        for n in parse(path).body
        if isinstance(n, ast.ClassDef)
    }
    return [
        Fault("billing/errors.py", 1, f"{name} under {parent} is not drawn")
        for name, parent in sorted(real - drawn)
    ] + [
        Fault("billing/errors.py", 1, f"{name} under {parent} is drawn and does not exist")
        for name, parent in sorted(drawn - real)
    ]


def _drawn_tree(docstring: str) -> Iterator[tuple[str, str]]:
    """(class, parent) of each line from ``BillingError`` on, by its indentation of two spaces."""
    above: list[str] = []
    for line in docstring.splitlines():
        name = re.match(r"( *)(\w+)", line)
        if name is None or (not above and line != "BillingError"):
            continue
        depth = len(name[1]) // 2
        above[depth:] = [name[2]]
        yield name[2], above[depth - 1] if depth else "Exception"


def vague_names(root: Path) -> list[Fault]:
    """Abbreviations and words that say nothing, as names of files, classes, functions and parameters."""
    return [
        Fault(relative(root, path), line, f"{name}: write the exact noun")
        for path in python_files(root, "billing", "migrations")
        for name, line in [(path.stem, 1), *_names(parse(path), ours=True)]
        if (_VAGUE - _foreign_words(path)) & {part.lower() for part in re.findall(r"[A-Z]?[a-z]+", name)}
    ]


def _foreign_words(path: Path) -> set[str]:
    """Words that a framework forces on a file: click calls its context ``ctx`` wherever it passes one."""
    return {"ctx"} if path.parent.name == "cli" else set()


def _names(node: ast.AST, *, ours: bool) -> Iterator[tuple[str, int]]:
    """Names below a node; in a class with a base, parameters may be named by the base and are not ours."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield child.name, child.lineno
        if isinstance(child, ast.arg) and ours:
            yield child.arg, child.lineno
        yield from _names(child, ours=not child.bases if isinstance(child, ast.ClassDef) else ours)
