"""YAML as plain text values: no numbers, no dates, no aliases, no tags, no key twice, and a limit on everything.

Scalars stay the text that was written, so a price never passes through a float.
"""

from collections.abc import Iterator
from typing import Any, TypeAlias

import yaml

from billing.errors import InvalidInput

BYTES_MAX = 256 * 1024
DEPTH_MAX = 8
VALUES_MAX = 20_000

Tree: TypeAlias = "str | list[Tree] | dict[str, Tree]"


class _Reader:
    """Builds the tree from a stream of YAML events, as far as the limits allow and no further."""

    def __init__(self, events: Iterator[yaml.Event]) -> None:
        self._events = events
        self._values = 0

    def next(self) -> yaml.Event:
        event = next(self._events)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _fault(
                event, "anchors (&) and aliases (*) are not accepted; put text that begins with * into quotes"
            )
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise _fault(event, f"tags (!) are not accepted, got {tag}")
        return event

    def value(self, event: yaml.Event, depth: int = 0) -> Tree:
        self._values += 1
        if self._values > VALUES_MAX:
            raise _fault(event, f"more than {VALUES_MAX} values")
        if depth > DEPTH_MAX:
            raise _fault(event, f"nested deeper than {DEPTH_MAX} levels")
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(depth)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(depth)
        if isinstance(event, yaml.ScalarEvent):
            return str(event.value)
        raise _fault(event, "expected a value")

    def _mapping(self, depth: int) -> Tree:
        mapping: dict[str, Tree] = {}
        while not isinstance(event := self.next(), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise _fault(event, "a key must be plain text")
            if event.value in mapping:
                raise _fault(event, f"the key {event.value!r} is there twice")
            mapping[event.value] = self.value(self.next(), depth + 1)
        return mapping

    def _sequence(self, depth: int) -> Tree:
        items: list[Tree] = []
        while not isinstance(event := self.next(), yaml.SequenceEndEvent):
            items.append(self.value(event, depth + 1))
        return items


def load(text: str) -> Tree:
    """The tree of one YAML document; raises ``InvalidInput`` with line and column for anything else."""
    if len(text.encode("utf-8", "replace")) > BYTES_MAX:
        raise InvalidInput(f"the file is larger than {BYTES_MAX // 1024} KiB")
    reader = _Reader(yaml.parse(text, Loader=yaml.BaseLoader))
    try:
        reader.next()
        document = reader.next()
        if not isinstance(document, yaml.DocumentStartEvent):
            raise InvalidInput("the file is empty")
        tree = reader.value(reader.next())
        reader.next()
        another = reader.next()
    except yaml.MarkedYAMLError as fault:
        raise InvalidInput(_syntax(fault)) from None
    except yaml.YAMLError as fault:
        raise InvalidInput(f"not YAML: {str(fault).splitlines()[0]}") from None
    if not isinstance(another, yaml.StreamEndEvent):
        raise _fault(another, "a second document (---) is not accepted")
    return tree


def _fault(event: yaml.Event, what: str) -> InvalidInput:
    return InvalidInput(f"{_place(event.start_mark)}{what}")


def _syntax(fault: yaml.MarkedYAMLError) -> str:
    return f"{_place(fault.problem_mark)}{fault.problem or 'this is not YAML'}"


def _place(mark: Any) -> str:
    """Line and column as editors count them; the mark of PyYAML's own or of libyaml's reader."""
    return f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
