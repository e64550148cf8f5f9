"""Somebody else's names for things, fit for a record (pure)."""

import re

LABEL_LENGTH_MAX = 256
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def label(text: str | None) -> str | None:
    """A name of bounded length and without control characters.

    Postgres refuses NUL, and what a terminal takes for a command has no place in an operator's list.
    """
    return None if text is None else _CONTROL.sub("", text[:LABEL_LENGTH_MAX])
