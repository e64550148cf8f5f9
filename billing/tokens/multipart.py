"""A ``multipart/form-data`` body as far as metering must read it: where its small texts stand (RFC 7578, RFC 2046 §5.1).

Files are never copied or looked into: a form holds offsets, and an edited body is spliced from slices of the one that
came. What parsers of engines are known to read in different ways is refused, so that no engine can read another model or
another ``stream`` than was metered: names that stand twice or hold escapes, a text with a file's name or a charset of its
own, text before or after the parts, lines that do not end in CRLF, encoded parts.
"""

import re

import msgspec

from billing.errors import InvalidInput, Misconfigured
from billing.tokens.members import MODEL_LENGTH_MAX

PARTS_MAX = 128
HEADER_BYTES_MAX = 4096
HEADERS_MAX = 8
TEXT_BYTES_MAX = 1024
"""The longest field that is read here; others pass whatever their length."""

_MEDIA_TYPE = re.compile(rb"\s*multipart/form-data\s*;(.*)", re.IGNORECASE | re.DOTALL)
_BOUNDARY = re.compile(rb"boundary=(?:\"([^\"\\\r\n]{1,70})\"|([^\s\";,]{1,70}))\s*", re.IGNORECASE)
_BOUNDARY_CHARACTERS = re.compile(rb"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
_TOKEN = re.compile(rb"[0-9A-Za-z'+_\-.]+")
_DISPOSITION = re.compile(rb"form-data((?:; *[A-Za-z*]+=(?:\"[^\"\r\n]*\"|[^\s\";]*))+)", re.IGNORECASE)
_PARAMETER = re.compile(rb"; *([A-Za-z*]+)=(?:\"([^\"\r\n]*)\"|([^\s\";]*))")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PLAIN_ENCODINGS = {b"", b"7bit", b"8bit", b"binary"}
_PLAIN_CHARSETS = {b"", b"utf-8", b"us-ascii"}
_CHARSET = re.compile(rb"charset=\"?([^\s\";]*)", re.IGNORECASE)


class Field(msgspec.Struct, frozen=True):
    """One part: its name, and where it and its value stand in the body."""

    name: str
    start: int
    """Where its delimiter begins."""
    value: int
    end: int
    """Where its value ends."""
    is_file: bool
    charset: bytes = b""

    def __repr__(self) -> str:
        return f"<Field {'file' if self.is_file else 'text'} {self.end - self.value} B>"


class Form(msgspec.Struct, frozen=True):
    """The parts of a body, in their order."""

    body: bytes
    boundary: bytes
    fields: tuple[Field, ...]

    def __repr__(self) -> str:
        return f"<Form of {len(self.fields)} parts, {len(self.body)} B>"

    @property
    def content_type(self) -> bytes:
        """The header that says how the body is to be read, with nothing else of the one that came."""
        quoted = b"%b" if _TOKEN.fullmatch(self.boundary) else b'"%b"'
        return b"multipart/form-data; boundary=" + quoted % self.boundary

    def field(self, name: str) -> Field | None:
        """The one part of a name, None when there is none; raises ``InvalidInput`` when it stands twice."""
        found = [field for field in self.fields if field.name == name]
        if len(found) > 1:
            raise InvalidInput(f"{name} stands {len(found)} times in the form; send it once", name)
        return found[0] if found else None

    def text(self, name: str) -> str | None:
        """A field's text, None when it is absent; raises ``InvalidInput`` when it is no short text, or stands twice."""
        field = self.field(name)
        if field is None:
            return None
        if field.is_file:
            raise InvalidInput(f"{name} must be a text field, without a filename", name)
        if field.end - field.value > TEXT_BYTES_MAX:
            raise InvalidInput(
                f"{name} is {field.end - field.value} bytes long, more than {TEXT_BYTES_MAX}", name
            )
        if field.charset.lower() not in _PLAIN_CHARSETS:
            raise InvalidInput(f"{name} must be UTF-8 text; leave its charset out", name)
        try:
            return self.body[field.value : field.end].decode()
        except UnicodeDecodeError:
            raise InvalidInput(f"{name} must be UTF-8 text", name) from None

    def size_of_texts(self) -> int:
        """Bytes of all parts that are no files."""
        return sum(field.end - field.value for field in self.fields if not field.is_file)

    def file(self, name: str) -> memoryview | None:
        """The bytes of the one file of a name, not copied; None when it is absent or no file. Raises ``InvalidInput``."""
        field = self.field(name)
        return memoryview(self.body)[field.value : field.end] if field is not None and field.is_file else None

    def with_texts(self, changes: dict[str, str]) -> bytes:
        """The body with some text fields written anew, or put in front where the form has none of that name.

        Raises ``InvalidInput`` when such a field stands twice and ``Misconfigured`` when a text would break the form.
        """
        places = {name: self.field(name) for name in changes}
        added = [self._part(name, changes[name]) for name, field in places.items() if field is None]
        replaced = sorted(
            (field.start, field.end, self._part(name, changes[name])[:-2])
            for name, field in places.items()
            if field is not None
        )
        body, pieces, at = memoryview(self.body), list[bytes | memoryview](added), 0
        for start, end, part in replaced:
            pieces += [body[at:start], part]
            at = end
        return b"".join([*pieces, body[at:]])

    def _part(self, name: str, text: str) -> bytes:
        value = text.encode()
        if _CONTROL.search(text):
            raise Misconfigured(f"{name} cannot be written into a form: it holds a control character")
        if value.startswith(b"--" + self.boundary):
            raise InvalidInput("the boundary of the form begins a text; use a longer one")
        return b'--%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (
            self.boundary,
            name.encode(),
            value,
        )


def form_of(content_type: bytes, body: bytes) -> Form:
    """The parts of a body; raises ``InvalidInput`` that says what is wrong. Time grows with the body's length only."""
    boundary = boundary_of(content_type)
    delimiter = b"--" + boundary
    if not body.startswith(delimiter):
        raise InvalidInput("the form must begin with its boundary, as it stands in the content-type header")
    fields: list[Field] = []
    start = 0
    while True:
        at = start + len(delimiter)
        if body.startswith(b"--", at):
            _check_end(body, at + 2)
            return Form(body, boundary, tuple(fields))
        if not body.startswith(b"\r\n", at):
            raise InvalidInput("a boundary of the form must be followed by CRLF, or by -- at the end")
        if len(fields) == PARTS_MAX:
            raise InvalidInput(f"the form has more than {PARTS_MAX} parts")
        field = _field(body, start, at + 2, b"\r\n" + delimiter)
        fields.append(field)
        start = field.end + 2


def boundary_of(content_type: bytes) -> bytes:
    """The boundary that a content-type header names; raises ``InvalidInput`` when it is no multipart form."""
    found = _MEDIA_TYPE.fullmatch(content_type)
    if found is None:
        raise InvalidInput("the content-type must be multipart/form-data with a boundary")
    boundaries = [
        _BOUNDARY.fullmatch(parameter.strip())
        for parameter in found[1].split(b";")
        if parameter.strip()[:8].lower() == b"boundary"
    ]
    if len(boundaries) != 1 or boundaries[0] is None:
        raise InvalidInput("the content-type must name one boundary of 1 to 70 characters")
    boundary = boundaries[0][1] or boundaries[0][2]
    if not _BOUNDARY_CHARACTERS.fullmatch(boundary):
        raise InvalidInput("the boundary may hold only letters, digits and '()+_,-./:=?")
    return boundary


def model_of(form: Form) -> str:
    """The model's name; raises ``InvalidInput`` when it is missing, empty or too long."""
    model = form.text("model")
    if not model:
        raise InvalidInput("you must provide a model parameter", "model")
    if len(model) > MODEL_LENGTH_MAX:
        raise InvalidInput(f"model is {len(model)} characters long, more than {MODEL_LENGTH_MAX}", "model")
    return model


def flag(form: Form, name: str) -> bool:
    """A field that says true or false, false when it is absent or empty; raises ``InvalidInput``.

    Other words for true are refused: engines differ in which they know.
    """
    text = (form.text(name) or "false").lower()
    if text not in {"true", "false"}:
        raise InvalidInput(f"{name} must be true or false", name)
    return text == "true"


def whole_number(form: Form, name: str) -> int | None:
    """A field that is a whole number, None when it is absent or empty; raises ``InvalidInput``."""
    text = form.text(name)
    if not text:
        return None
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise InvalidInput(f"{name} must be a whole number", name)
    return int(text)


def _check_end(body: bytes, at: int) -> None:
    if body[at:] not in {b"", b"\r\n"}:
        raise InvalidInput("the form must end with its last boundary")


def _field(body: bytes, start: int, at: int, delimiter: bytes) -> Field:
    """The part whose headers begin at ``at``."""
    stop = body.find(b"\r\n\r\n", at, at + HEADER_BYTES_MAX)
    if stop < 0:
        raise InvalidInput(f"a part of the form has no end of its headers within {HEADER_BYTES_MAX} bytes")
    headers = _headers(body[at:stop])
    # Some parsers take the line end before a value for the one of a delimiter.
    if body.startswith(delimiter[2:], stop + 4):
        raise InvalidInput("a value of the form begins with its boundary; use a longer one")
    end = body.find(delimiter, stop + 4)
    if end < 0:
        raise InvalidInput("the form ends before its last boundary; was the body cut off?")
    if headers.get(b"content-transfer-encoding", b"").lower() not in _PLAIN_ENCODINGS:
        raise InvalidInput(
            "a part of the form is encoded; send it as it is, without content-transfer-encoding"
        )
    name, is_file = _name(headers.get(b"content-disposition", b""))
    charset = _CHARSET.search(headers.get(b"content-type", b""))
    return Field(name, start, stop + 4, end, is_file, charset[1] if charset else b"")


def _headers(block: bytes) -> dict[bytes, bytes]:
    lines = block.split(b"\r\n")
    if len(lines) > HEADERS_MAX:
        raise InvalidInput(f"a part of the form has {len(lines)} headers, more than {HEADERS_MAX}")
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name.strip() or name != name.strip() or b"\n" in line or b"\r" in line:
            raise InvalidInput("a part of the form has a header that is no `name: value` line")
        if name.lower() in headers:
            raise InvalidInput("a part of the form has the same header twice")
        headers[name.lower()] = value.strip()
    return headers


def _name(disposition: bytes) -> tuple[str, bool]:
    """A part's name, and whether it is a file."""
    found = _DISPOSITION.fullmatch(disposition)
    if found is None:
        raise InvalidInput('each part of the form needs a header `Content-Disposition: form-data; name="…"`')
    parameters: dict[bytes, bytes] = {}
    for parameter, quoted, plain in _PARAMETER.findall(found[1]):
        if parameter.lower() in parameters:
            raise InvalidInput(f"a part of the form has two parameters {parameter.decode()}")
        parameters[parameter.lower()] = quoted or plain
    try:
        name = parameters.get(b"name", b"").decode()
    except UnicodeDecodeError:
        raise InvalidInput("the name of a part of the form is not UTF-8") from None
    if not name or b"name*" in parameters or "\\" in name or _CONTROL.search(name):
        raise InvalidInput("each part of the form needs a plain name, without escapes")
    return name, b"filename" in parameters or b"filename*" in parameters
