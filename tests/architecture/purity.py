"""Which files are pure, and what a pure file may not do (design.md §3, style rules 2, 5 and 6).

Pure: no I/O, no clock, no randomness, no environment, and no import that does any of these. Each import of a pure file
must be another pure file or a package on the short list of its folder, so purity holds through any chain of imports.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.architecture.source import Fault, called_name, dotted, imports, nodes, path_of, relative

NOUNS = {
    "tokens", "pricing", "tenants", "limits", "ledger", "fleet", "access", "directory", "metering", "invoicing",
    "exports", "payments",
}  # fmt: skip
OUTSIDE_NAMES = {"tables", "store", "cache", "spool", "client", "service"}
"""File names in a noun folder that may touch the outside; every other file there is pure."""
ROOT_PURE = {"money", "ids", "clock", "errors", "settings"}
GATEWAY_OUTSIDE = {"protocol", "mount", "upstream", "connection", "reply", "tokenizer"}
"""Files of the gateway that hold sockets and waiting; every other one decides, and is pure."""
MONEY = {"money", "pricing", "invoicing", "ledger", "exports", "payments"}

ALLOWED = {
    "__future__", "abc", "bisect", "collections", "contextlib", "dataclasses", "datetime", "decimal", "enum",
    "functools", "itertools", "math", "msgspec", "operator", "re", "string", "types", "typing", "urllib.parse", "uuid",
}  # fmt: skip
"""Outside packages that any pure file may import; what a folder may import besides stands below."""
ALLOWED_BESIDES = {
    "settings": {"pathlib"},  # paths as values; the methods that touch the disk are forbidden below
    "tokens": {"json", "struct"},
    "limits": {"hashlib"},
    "metering": {"hashlib", "json", "struct", "zlib"},
    "pricing": {"difflib", "yaml"},
    "tenants": {"base64", "hashlib", "hmac", "zlib"},
    "access": {"base64", "hashlib", "hmac"},
    "directory": {"hashlib", "json"},
    "invoicing": {"hashlib", "json"},
    "exports": {"hashlib", "json"},
    "payments": {"hashlib", "hmac", "json"},
    "gateway": {"json"},
}

_CALLS_FORBIDDEN = {
    "open": "opens a file", "print": "writes", "input": "reads", "exec": "runs text", "eval": "runs text",
    "__import__": "imports at run time", "breakpoint": "stops the process",
    "hash": "differs between processes", "id": "differs between processes",
}  # fmt: skip
_UUID_FORBIDDEN = {"uuid1", "uuid4", "getnode"}
_CLOCK_METHODS = {"now", "utcnow", "today"}
_DISK_METHODS = {
    "read_text", "read_bytes", "write_text", "write_bytes", "mkdir", "unlink", "rmdir", "touch", "iterdir", "glob",
    "rglob", "stat", "lstat", "exists", "is_file", "is_dir", "resolve", "expanduser", "cwd", "home", "chmod",
    "symlink_to",
}  # fmt: skip
_ROUNDING_METHODS = {"quantize", "to_integral", "to_integral_value", "to_integral_exact"}


def is_pure(module: str) -> bool:
    """Whether a module of ``billing`` must be pure, by its place and name alone."""
    top, *below = module.split(".")[1:] or [""]
    if top in NOUNS:
        return not OUTSIDE_NAMES & set(below)
    if top == "gateway":
        return not GATEWAY_OUTSIDE & set(below)
    return top in ROOT_PURE or module == "billing"


def pure_modules(root: Path) -> list[str]:
    return sorted(module for module in imports(root) if is_pure(module))


def impure_imports(root: Path) -> list[Fault]:
    """Imports of pure files that are neither pure nor on the list of their folder."""
    return [
        Fault(relative(root, path_of(root, module)), line, f"pure file imports {imported}")
        for module in pure_modules(root)
        for imported, line in imports(root)[module]
        if not _may_import(root, module, imported)
    ]


def _may_import(root: Path, module: str, imported: str) -> bool:
    if imported.partition(".")[0] == "billing":
        return is_pure(imported)
    folder = module.split(".")[1] if "." in module else ""
    allowed = ALLOWED | ALLOWED_BESIDES.get(folder, set())
    # The graph knows outside packages by their first name only; of urllib, one module is meant.
    named = {name for name in _imported_names(path_of(root, module)) if name.partition(".")[0] == imported}
    return imported in allowed or (bool(named) and named <= allowed)


def impure_code(root: Path) -> list[Fault]:
    """What pure files do that depends on more than their arguments."""
    faults = []
    for path in (path_of(root, module) for module in pure_modules(root)):
        uses_paths = "pathlib" in _imported_names(path)
        faults += [
            Fault(relative(root, path), getattr(node, "lineno", 0), f"pure file {text}")
            for node in nodes(path)
            for text in _impurities(node, uses_paths=uses_paths)
        ]
    return faults


def _impurities(node: ast.AST, *, uses_paths: bool) -> Iterator[str]:
    name = called_name(node)
    method = name.rpartition(".")[2]
    if name in _CALLS_FORBIDDEN:
        yield f"calls {name}(), which {_CALLS_FORBIDDEN[name]}"
    if method in _CLOCK_METHODS and any(part.startswith("date") for part in name.split(".")[:-1]):
        yield f"asks the clock by {name}()"
    if uses_paths and "." in name and method in _DISK_METHODS:
        yield f"touches the disk by {method}()"
    if isinstance(node, ast.ImportFrom) and node.module == "uuid":
        yield from (
            f"imports uuid.{a.name}, which is random" for a in node.names if a.name in _UUID_FORBIDDEN
        )
    if isinstance(node, ast.ImportFrom) and node.module == "datetime":
        yield from (f"renames {a.name}, which hides its clock" for a in node.names if a.asname)
    if isinstance(node, ast.Attribute) and dotted(node.value) == "uuid" and node.attr in _UUID_FORBIDDEN:
        yield f"uses uuid.{node.attr}, which is random"
    if isinstance(node, ast.Global):
        yield f"changes the module's own {', '.join(node.names)}"
    if isinstance(node, ast.ClassDef) and _is_unfrozen_struct(node):
        yield f"holds {node.name}, a msgspec.Struct without frozen=True"


def _is_unfrozen_struct(node: ast.ClassDef) -> bool:
    if not any(dotted(base) in {"msgspec.Struct", "Struct"} for base in node.bases):
        return False
    return not any(
        k.arg == "frozen" and isinstance(k.value, ast.Constant) and k.value.value for k in node.keywords
    )


@cache
def _imported_names(path: Path) -> set[str]:
    found = {alias.name for node in nodes(path) if isinstance(node, ast.Import) for alias in node.names}
    return found | {str(node.module) for node in nodes(path) if isinstance(node, ast.ImportFrom)}


def careless_money(root: Path) -> list[Fault]:
    """Floats near money, and rounding outside ``billing/money.py`` (P7)."""
    faults = []
    for module in sorted(imports(root)):
        top = module.split(".")[1] if "." in module else ""
        if top not in MONEY:
            continue
        path = path_of(root, module)
        faults += [
            Fault(relative(root, path), getattr(node, "lineno", 0), text)
            for node in nodes(path)
            for text in _carelessness(node, in_money=module == "billing.money", pure=is_pure(module))
        ]
    return faults


def _carelessness(node: ast.AST, *, in_money: bool, pure: bool) -> Iterator[str]:
    name = called_name(node)
    if name == "float" or (pure and isinstance(node, ast.Name) and node.id == "float"):
        yield "float near money: use Decimal or an integer of minor units"
    if pure and isinstance(node, ast.Constant) and isinstance(node.value, float):
        yield f"float constant {node.value} near money: write Decimal text or an integer"
    if not in_money and (name == "round" or name.rpartition(".")[2] in _ROUNDING_METHODS):
        yield f"{name}() rounds outside billing/money.py"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and _is_power_of_ten(node.right):
        yield "division by a power of ten: minor units are made in billing/money.py"


def _is_power_of_ten(node: ast.AST) -> bool:
    if not isinstance(node, ast.Constant) or not isinstance(node.value, int):
        return False
    return node.value > 1 and set(str(node.value)[1:]) == {"0"} and str(node.value)[0] == "1"
