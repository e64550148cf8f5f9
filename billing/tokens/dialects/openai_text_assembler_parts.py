"""JSON objects that grow: what a stream says of one object, piece by piece, and the object that it makes.

Texts and arrays are joined as the engine wrote them, between their quotes and brackets: escapes, numbers and bytes that
are no UTF-8 stay as they are, and a surrogate pair that was cut in two is whole again. It all is text (P13): every
``add`` says by how many bytes it grew, so that the caller can bound it.
"""

import json
from typing import Any

import msgspec

from billing.tokens.wholes import Shape, Unsaid

Pieces = dict[str, msgspec.Raw]

MEMBER_BYTES = 128
"""What a member costs beside its name and value."""
INDEX_MAX = 2**31
NULL = b"null"
_NOTHING_NEW = (NULL, b'""')
"""What later pieces write where they have nothing to say; it does not erase what an earlier one said."""
_members = msgspec.json.Decoder(Pieces).decode
_elements = msgspec.json.Decoder(list[Pieces]).decode
_integer = msgspec.json.Decoder(int).decode
_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.encode


class Rule(msgspec.Struct, frozen=True):
    """How the pieces of one kind of object come together; a member without a rule is what was said of it last."""

    texts: frozenset[str] = frozenset()
    """Texts to be joined."""
    lists: frozenset[str] = frozenset()
    """Arrays to be joined."""
    objects: dict[str, "Rule"] = {}
    """Objects that themselves come in pieces."""
    indexed: dict[str, "Rule"] = {}
    """Arrays of such objects, told apart by their ``index``, which a whole reply does not have."""


_FUNCTION = Rule(texts=frozenset({"arguments"}))
_MESSAGE = Rule(
    texts=frozenset({"content", "reasoning_content", "reasoning", "refusal"}),
    lists=frozenset({"annotations"}),
    objects={"function_call": _FUNCTION, "audio": Rule(texts=frozenset({"transcript", "data"}))},
    indexed={"tool_calls": Rule(objects={"function": _FUNCTION})},
)
_LOGPROBS = Rule(
    lists=frozenset({"content", "refusal", "tokens", "token_logprobs", "top_logprobs", "text_offset"})
)
CHOICE = Rule(
    texts=frozenset({"text"}),
    lists=frozenset({"token_ids"}),
    objects={"message": _MESSAGE, "logprobs": _LOGPROBS},
)
PLAIN = Rule()


def members_of(data: bytes | msgspec.Raw) -> Pieces | None:
    """The members of an object; None when the text is none."""
    try:
        return _members(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        whole = _salvaged(data)
        return _pieces(whole) if isinstance(whole, dict) else None


def elements_of(data: bytes | msgspec.Raw) -> list[Pieces]:
    """The objects of an array; none when the text is no array."""
    try:
        return _elements(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        whole = _salvaged(data)
        return (
            [_pieces(element) for element in whole if isinstance(element, dict)]
            if isinstance(whole, list)
            else []
        )


def index_of(pieces: Pieces) -> int | None:
    """The ``index`` that an object names; None when that is no index."""
    raw = pieces.get("index")
    try:
        index: int | None = None if raw is None else _integer(raw)
    except msgspec.DecodeError:
        return None
    return index if index is not None and 0 <= index <= INDEX_MAX else None


def _salvaged(data: bytes | msgspec.Raw) -> Any:
    """What JSON text holds that a strict reader refuses: half a surrogate, bytes that are no UTF-8; else None."""
    try:
        return json.loads(bytes(data).decode(errors="replace"))
    except (ValueError, RecursionError):
        return None


def _pieces(members: dict[str, Any]) -> Pieces:
    return {_valid(name): msgspec.Raw(json.dumps(value).encode()) for name, value in members.items()}


def _valid(name: str) -> str:
    return name.encode(errors="replace").decode()


class Joined:
    """A text or an array in the making."""

    __slots__ = ("_held", "_opening")

    def __init__(self, opening: bytes) -> None:
        self._opening = opening
        self._held = bytearray()

    def __repr__(self) -> str:
        return f"<Joined {'array' if self._opening == b'[' else 'text'} {len(self._held)} B>"

    def add(self, value: bytes) -> int:
        """One more piece; what is of another kind is passed over."""
        if not value.startswith(self._opening):
            return 0
        before = len(self._held)
        if self._opening == b'"':
            self._held += value[1:-1]
        elif piece := value[1:-1].strip():
            self._held += b"," + piece if self._held else piece
        return len(self._held) - before

    def rendered(self, unsaid: object) -> bytes | None:
        """The whole of it as JSON text."""
        if self._opening == b"[":
            return b"[%b]" % bytes(self._held)
        if unsaid is Unsaid.NULL_IF_EMPTY and not self._held:
            return NULL
        whole = b'"%b"' % bytes(self._held)
        return _trimmed(whole) if unsaid is Unsaid.TRIMMED else whole


class Indexed:
    """An array of objects in the making."""

    __slots__ = ("_elements", "_rule")

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._elements: dict[int, Parts] = {}

    def __repr__(self) -> str:
        return f"<Indexed {len(self._elements)} objects>"

    def add(self, value: bytes) -> int:
        """Pieces of some elements; one without an index begins an element when it has an id, else it goes on with the last."""
        return sum(self._add(pieces) for pieces in elements_of(value))

    def _add(self, pieces: Pieces) -> int:
        index = index_of(pieces)
        if index is None:
            last = max(self._elements, default=-1)
            index = last if last >= 0 and not pieces.get("id") else last + 1
        pieces.pop("index", None)
        element = self._elements.get(index)
        if element is None:
            element = self._elements[index] = Parts(self._rule)
            return MEMBER_BYTES + element.feed(pieces)
        return element.feed(pieces)

    def rendered(self, unsaid: object) -> bytes | None:
        """The array in the order of the indices, as JSON text; what the shape says of it when it is empty."""
        if not self._elements:
            return None if isinstance(unsaid, list) else b"[]"
        shape: Shape = unsaid[0] if isinstance(unsaid, list) else {}
        return b"[%b]" % b",".join(self._elements[index].whole(shape) for index in sorted(self._elements))


class Parts:
    """An object in the making."""

    __slots__ = ("_members", "_rule")

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._members: dict[str, bytes | Joined | Indexed | Parts] = {}

    def __repr__(self) -> str:
        return f"<Parts {' '.join(self._members)}>"

    def add(self, value: bytes) -> int:
        """One more piece as JSON text; what is no object is passed over."""
        pieces = members_of(value)
        return 0 if pieces is None else self.feed(pieces)

    def feed(self, pieces: Pieces) -> int:
        """One more piece; how many bytes it added to what is held."""
        grown, members = 0, self._members
        for name, raw in pieces.items():
            value = bytes(raw)
            # Most members of most events say what they said before.
            if members.get(name) != value:
                grown += self._add(name, value)
        return grown

    def _add(self, name: str, value: bytes) -> int:
        held = self._members.get(name)
        if held is not None and not isinstance(held, bytes):
            return held.add(value)
        begun = self._begun(name, value)
        if begun is not None:
            self._members[name] = begun
            return MEMBER_BYTES + begun.add(value)
        if held is not None and value in _NOTHING_NEW:
            return 0
        self._members[name] = value
        return len(value) + MEMBER_BYTES + len(name) if held is None else len(value) - len(held)

    def _begun(self, name: str, value: bytes) -> "Joined | Indexed | Parts | None":
        opening, rule = value[:1], self._rule
        if opening == b'"' and name in rule.texts:
            return Joined(opening)
        if opening == b"[" and name in rule.lists:
            return Joined(opening)
        if opening == b"[" and name in rule.indexed:
            return Indexed(rule.indexed[name])
        if opening == b"{" and name in rule.objects:
            return Parts(rule.objects[name])
        return None

    def rendered(self, unsaid: object) -> bytes | None:
        """The object as JSON text."""
        return self.whole(unsaid if isinstance(unsaid, dict) else {})

    def whole(self, shape: Shape, **besides: bytes | None) -> bytes:
        """The object as JSON text, members in the order of a shape; ``besides`` are members known from elsewhere."""
        return _whole(self._members | {name: value for name, value in besides.items() if value}, shape)


def _whole(members: "dict[str, bytes | Joined | Indexed | Parts]", shape: Shape) -> bytes:
    texts = {name: _rendered(members.get(name), shape.get(name, Unsaid.ABSENT)) for name in shape | members}
    return b"{%b}" % b",".join(
        b"%b:%b" % (_encode(name), text) for name, text in texts.items() if text is not None
    )


def _rendered(value: "bytes | Joined | Indexed | Parts | None", unsaid: object) -> bytes | None:
    """A member as JSON text, None when the reply does not have it."""
    if unsaid is Unsaid.LEFT_OUT:
        return None
    if value is None or value == NULL:
        default = _default(unsaid)
        return value if default is None else default
    if not isinstance(value, bytes):
        return value.rendered(unsaid)
    pieces = members_of(value) if isinstance(unsaid, dict) else None
    return value if pieces is None else _whole({name: bytes(raw) for name, raw in pieces.items()}, unsaid)  # type: ignore[arg-type]  # pieces is None unless it is a shape


def _default(unsaid: object) -> bytes | None:
    if isinstance(unsaid, dict) or unsaid is Unsaid.NULL_IF_EMPTY:
        return NULL
    return None if isinstance(unsaid, (Unsaid, list)) else _encode(unsaid)


def _trimmed(text: bytes) -> bytes:
    try:
        return _encode(_text(text).strip())
    except (msgspec.DecodeError, UnicodeDecodeError, UnicodeEncodeError):
        return text
