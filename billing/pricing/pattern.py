"""Model patterns: an exact name, or text in which each ``*`` stands for any text, also none."""

import re

from billing.errors import InvalidInput

ANY = "*"
PATTERN_LENGTH_MAX = 128
ANYS_MAX = 8

_PATTERN = re.compile(r"[A-Za-z0-9._:/@+*-]+")

Specificity = tuple[bool, int]


def check_pattern(text: str, where: str) -> str:
    """A pattern as it must be written; raises ``InvalidInput`` naming ``where``."""
    if len(text) > PATTERN_LENGTH_MAX:
        raise InvalidInput(
            f"{where}: a model pattern has at most {PATTERN_LENGTH_MAX} characters, got {len(text)}", where
        )
    if not _PATTERN.fullmatch(text):
        raise InvalidInput(
            f'{where}: {text!r} is not a model name or pattern; write for example llama-3.1-8b or "llama-*"',
            where,
        )
    if "**" in text:
        raise InvalidInput(f"{where}: {text!r}: one * stands for any text already", where)
    if text.count(ANY) > ANYS_MAX:
        raise InvalidInput(f"{where}: a pattern has at most {ANYS_MAX} times *, got {text.count(ANY)}", where)
    return text


def matches(pattern: str, model: str) -> bool:
    """Whether a model's name is what a pattern says; capital and small letters differ."""
    first, *rest = pattern.split(ANY)
    if not rest:
        return pattern == model
    if not model.startswith(first):
        return False
    *middles, last = rest
    position = len(first)
    for part in middles:
        found = model.find(part, position)
        if found < 0:
            return False
        position = found + len(part)
    return len(model) - len(last) >= position and model.endswith(last)


def specificity(pattern: str) -> Specificity:
    """What orders patterns that match one model, the larger winning: an exact name, then more fixed characters."""
    return ANY not in pattern, len(pattern.replace(ANY, ""))


def can_match_the_same(one: str, other: str) -> bool:
    """Whether some name is matched by both of two patterns.

    With a ``*`` in both, everything between their first and last fixed parts can follow one after the other, so only
    the beginnings and the ends must agree.
    """
    if ANY not in one:
        return matches(other, one)
    if ANY not in other:
        return matches(one, other)
    begin_one, begin_other = one.partition(ANY)[0], other.partition(ANY)[0]
    end_one, end_other = one.rpartition(ANY)[2], other.rpartition(ANY)[2]
    begins_agree = begin_one.startswith(begin_other) or begin_other.startswith(begin_one)
    return begins_agree and (end_one.endswith(end_other) or end_other.endswith(end_one))
