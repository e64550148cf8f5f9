"""What a plan's text must be at each place: keys, lists, lines of text and whole numbers, or a message with the path."""

import difflib
import re
from collections.abc import Iterable

from billing.errors import InvalidInput
from billing.pricing.yaml_text import Tree

TEXT_LENGTH_MAX = 200
WHOLE_MAX = 10**15
"""Far above what anybody uses in a period, and within what every place that keeps it can hold."""

_WHOLE = re.compile(r"[0-9]{1,16}")


def keys(tree: Tree, where: str, known: tuple[str, ...]) -> dict[str, Tree]:
    """A mapping with known keys; ``where`` is empty at the root. Raises ``InvalidInput``, as everything here does."""
    if not isinstance(tree, dict):
        place = where or "the file"
        raise InvalidInput(f"{place}: expected keys ({', '.join(known[:4])}, …), got {_kind(tree)}", place)
    for key in tree:
        if key not in known:
            place = below(where, key)[:TEXT_LENGTH_MAX]
            raise InvalidInput(f"{place}: unknown key; {_suggestion(key, known)}", place)
    return tree


def below(where: str, key: str) -> str:
    """The path of a key."""
    return f"{where}.{key}" if where else key


def _suggestion(key: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(key[:TEXT_LENGTH_MAX].lower(), known, n=1)
    return f"did you mean {close[0]}?" if close else f"known keys are {', '.join(known)}"


def needed(mapping: dict[str, Tree], key: str, where: str) -> Tree:
    """What stands under a key that must be there."""
    if key not in mapping:
        place = below(where, key)
        raise InvalidInput(f"{place}: missing", place)
    return mapping[key]


def items(tree: Tree, where: str, length_max: int) -> list[Tree]:
    """A list that is not empty."""
    if not isinstance(tree, list):
        raise InvalidInput(f"{where}: expected a list (lines that begin with -), got {_kind(tree)}", where)
    if not 1 <= len(tree) <= length_max:
        raise InvalidInput(f"{where}: expected 1 to {length_max} entries, got {len(tree)}", where)
    return tree


def line(tree: Tree, where: str) -> str:
    """One line of text, without the spaces around it."""
    if not isinstance(tree, str):
        raise InvalidInput(f"{where}: expected one value, got {_kind(tree)}", where)
    text = tree.strip()
    if not text:
        raise InvalidInput(f"{where}: empty", where)
    if len(text) > TEXT_LENGTH_MAX or not text.isprintable():
        raise InvalidInput(
            f"{where}: expected at most {TEXT_LENGTH_MAX} printable characters on one line", where
        )
    return text


def whole(tree: Tree, where: str, unit: str) -> int:
    """A number of whole ``unit``, which are many: ``tokens``."""
    text = line(tree, where)
    if not _WHOLE.fullmatch(text) or int(text) > WHOLE_MAX:
        raise InvalidInput(
            f"{where}: {text[:40]!r} is not a number of {unit}; write for example 1000000", where
        )
    return int(text)


def choices(values: Iterable[object]) -> str:
    """Values as a sentence lists them."""
    *most, last = map(str, values)
    return f"{', '.join(most)} or {last}"


def _kind(tree: Tree) -> str:
    if isinstance(tree, str):
        return f"{tree[:40]!r}" if tree else "nothing"
    return "a list" if isinstance(tree, list) else "keys"
