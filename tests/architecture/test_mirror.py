"""Each pure file that holds a function has a test file of its own, at the mirrored place."""

import ast
from pathlib import Path

from tests.architecture.purity import pure_modules
from tests.architecture.source import ROOT, Fault, dotted, listing, parse, path_of, relative, write_tree


def untested(root: Path) -> list[Fault]:
    """Pure files without their test: ``billing/tokens/sse.py`` wants ``tests/unit/tokens/test_sse.py``."""
    return [
        Fault(relative(root, path), 1, f"has no test file {places[0]}")
        for path, places in ((path, places_of(relative(root, path))) for path in _with_functions(root))
        if not any((root / place).is_file() for place in places)
    ]


def places_of(file: str) -> list[str]:
    """Where the test of a file may lie; the gateway's decisions may be tested beside its scripted engines."""
    *folders, name = file.removeprefix("billing/").split("/")
    below = "/".join([*folders, f"test_{name}"])
    return (
        [f"tests/unit/{below}", f"tests/{below}"] if folders[:1] == ["gateway"] else [f"tests/unit/{below}"]
    )


def _with_functions(root: Path) -> list[Path]:
    paths = [path_of(root, module) for module in pure_modules(root)]
    return [path for path in paths if path.name != "__init__.py" and _holds_function(parse(path).body)]


def _holds_function(body: list[ast.stmt]) -> bool:
    """Whether there is anything to test: a function that is not a Protocol's, at the top or in a class."""
    return any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(node, ast.ClassDef) and not _is_protocol(node) and _holds_function(node.body))
        for node in body
    )


def _is_protocol(node: ast.ClassDef) -> bool:
    bases = [base.value if isinstance(base, ast.Subscript) else base for base in node.bases]
    return any(dotted(base).rpartition(".")[2] == "Protocol" for base in bases)


def test_each_pure_file_has_its_test() -> None:
    assert not (faults := untested(ROOT)), listing(faults)


TREE = {
    "billing/__init__.py": "",
    "billing/money.py": "def total(): ...",
    "billing/tokens/__init__.py": "",
    "billing/tokens/dialects/__init__.py": "def parse(): ...",
    "billing/tokens/dialects/openai.py": "class Call:\n    def bound(self): ...",
    "billing/tokens/store.py": "def save(): ...",
    "billing/gateway/__init__.py": "",
    "billing/gateway/proxy.py": "async def serve(): ...",
    "billing/gateway/upstream.py": "def connect(): ...",
    "billing/gateway/ports.py": "class Client(Protocol):\n    def head(self): ...",
}


def test_seeded_missing_tests_are_named(tmp_path: Path) -> None:
    assert [(fault.path, fault.text) for fault in untested(write_tree(tmp_path, TREE))] == [
        ("billing/gateway/proxy.py", "has no test file tests/unit/gateway/test_proxy.py"),
        ("billing/money.py", "has no test file tests/unit/test_money.py"),
        ("billing/tokens/dialects/openai.py", "has no test file tests/unit/tokens/dialects/test_openai.py"),
    ]


def test_seeded_a_mirrored_test_satisfies(tmp_path: Path) -> None:
    tests = {
        "tests/gateway/test_proxy.py": "",
        "tests/unit/test_money.py": "",
        "tests/unit/tokens/dialects/test_openai.py": "",
    }
    assert untested(write_tree(tmp_path, TREE | tests)) == []
