"""A form's small texts are found without touching its files, edited by splicing, and refused where parsers would differ."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.errors import InvalidInput, Misconfigured
from billing.tokens import multipart
from billing.tokens.multipart import (
    HEADER_BYTES_MAX,
    HEADERS_MAX,
    PARTS_MAX,
    TEXT_BYTES_MAX,
    Form,
    boundary_of,
    form_of,
)
from tests.openai_kit import BOUNDARY, FORM, form

AUDIO = bytes(range(256)) * 40 + b"\r\n--cut-her\r\n--\r\n\n--cut-here"
DELIMITER = b"--" + BOUNDARY.encode()


def whole(*extra: tuple[str, bytes, str | None]) -> bytes:
    return form(("model", b"tiny", None), ("file", AUDIO, "a.wav"), *extra)


def read(body: bytes, content_type: bytes = FORM) -> Form:
    return form_of(content_type, body)


def file_of(got: Form) -> bytes | None:
    file = got.file("file")
    return None if file is None else bytes(file)


def test_texts_and_files_are_found() -> None:
    got = read(whole(("stream", b"true", None), ("prompt", b"", None)))
    assert (got.text("model"), got.text("stream"), got.text("prompt"), got.text("language")) == (
        "tiny",
        "true",
        "",
        None,
    )
    assert (file_of(got), got.file("model"), got.file("mask")) == (AUDIO, None, None)
    assert got.size_of_texts() == len(b"tinytrue")
    assert repr(got) == f"<Form of 4 parts, {len(got.body)} B>"
    assert [repr(field) for field in got.fields][:2] == ["<Field text 4 B>", f"<Field file {len(AUDIO)} B>"]


def test_an_edited_form_differs_in_nothing_else() -> None:
    body = whole(("stream", b"false", None))
    edited = read(body).with_texts({"model": "other/model", "stream": "true", "extra": "yes"})
    again = read(edited)
    assert {name: again.text(name) for name in ("model", "stream", "extra")} == {
        "model": "other/model", "stream": "true", "extra": "yes",
    }  # fmt: skip
    assert file_of(again) == AUDIO
    assert read(body).with_texts({}) == body
    assert read(edited).with_texts({"model": "tiny", "stream": "false"}).endswith(body)


def test_a_form_without_parts_takes_texts() -> None:
    assert read(read(DELIMITER + b"--").with_texts({"model": "tiny"})).text("model") == "tiny"


@pytest.mark.parametrize("model", ["a\r\nb", "a\0"])
def test_a_text_that_would_break_the_form_is_not_written(model: str) -> None:
    with pytest.raises(Misconfigured, match="control character"):
        read(whole()).with_texts({"model": model})


def test_a_text_that_begins_as_the_boundary_does_is_not_written() -> None:
    with pytest.raises(InvalidInput, match="longer one"):
        read(whole()).with_texts({"model": f"--{BOUNDARY}"})


def part(headers: bytes, value: bytes = b"tiny") -> bytes:
    return DELIMITER + b"\r\n" + headers + b"\r\n\r\n" + value + b"\r\n" + DELIMITER + b"--\r\n"


NAMED = b'Content-Disposition: form-data; name="model"'


@pytest.mark.parametrize(
    "headers",
    [
        NAMED,
        b"content-disposition:form-data;name=model",
        NAMED + b"\r\nContent-Type: text/plain; charset=UTF-8\r\nContent-Length: 4",
        NAMED + b"\r\nContent-Transfer-Encoding: 8bit",
    ],
)
def test_the_ways_that_clients_write_a_text(headers: bytes) -> None:
    assert multipart.model_of(read(part(headers))) == "tiny"


@pytest.mark.parametrize(
    "disposition",
    [b'; filename="C:\\music\\a.wav"', b"; filename*=utf-8''%e2%82%ac.wav", b'; filename=""; filename*=x'],
)
def test_the_ways_that_clients_name_a_file(disposition: bytes) -> None:
    assert file_of(read(part(b'Content-Disposition: form-data; name="file"' + disposition))) == b"tiny"


BROKEN = {
    "nothing": b"",
    "another boundary": b"--other--",
    "text before it": b"hello\r\n" + whole(),
    "text after it": whole() + b"--cut-here\r\n",
    "no end": whole()[:-20],
    "a boundary with a tail": whole().replace(b'--cut-here\r\nContent-Disposition: form-data; name="file"',
                                              b'--cut-hereafter\r\nContent-Disposition: form-data; name="file"'),
    "a boundary with blanks behind it": whole().replace(b"--cut-here\r\n", b"--cut-here \r\n", 1),
    "line feeds alone": whole().replace(b"\r\n", b"\n"),
    "no headers": DELIMITER + b"\r\n\r\nvalue\r\n" + DELIMITER + b"--",
    "headers without end": DELIMITER + b"\r\n" + b"a" * (HEADER_BYTES_MAX + 1) + b"\r\n\r\n",
    "too many headers": part(b"\r\n".join([NAMED, *(b"h%d: x" % number for number in range(HEADERS_MAX))])),
    "a header twice": part(NAMED + b"\r\n" + NAMED),
    "a folded header": part(NAMED + b"\r\n ; filename=a"),
    "a header with a line feed": part(NAMED + b"\nContent-Type: a"),
    "a header without a name": part(NAMED + b"\r\n: a"),
    "no disposition": part(b"Content-Type: text/plain"),
    "another disposition": part(b'Content-Disposition: attachment; name="model"'),
    "no name": part(b'Content-Disposition: form-data; filename="a"'),
    "an empty name": part(b'Content-Disposition: form-data; name=""'),
    "two names": part(NAMED + b'; name="other"'),
    "an escaped name": part(b'Content-Disposition: form-data; name="mo\\del"'),
    "a name with a charset": part(NAMED + b"; name*=utf-8''other"),
    "a name of no UTF-8": part(b'Content-Disposition: form-data; name="\xff"'),
    "a quote inside a name": part(b'Content-Disposition: form-data; name="mo\\"del"'),
    "an encoded part": part(NAMED + b"\r\nContent-Transfer-Encoding: base64"),
    "a value that begins with the boundary": part(NAMED, DELIMITER + b"x"),
    "too many parts": form(*[("a", b"", None)] * (PARTS_MAX + 1)),
}  # fmt: skip


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
def test_what_parsers_read_in_different_ways_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        read(body)


def test_the_largest_form_is_read() -> None:
    assert len(read(form(*[("a", b"", None)] * PARTS_MAX)).fields) == PARTS_MAX


TEXTS = {
    "twice": whole(("model", b"other", None)),
    "as a file": form(("model", b"tiny", "model.txt")),
    "of no UTF-8": form(("model", b"\xff", None)),
    "in another charset": part(NAMED + b"\r\nContent-Type: text/plain; charset=utf-16"),
    "too long to be read": form(("model", b"m" * (TEXT_BYTES_MAX + 1), None)),
    "too long for a name": form(("model", b"m" * 257, None)),
    "empty": form(("model", b"", None)),
    "absent": form(("file", AUDIO, "a.wav")),
}


@pytest.mark.parametrize("body", TEXTS.values(), ids=TEXTS)
def test_a_model_that_engines_might_read_otherwise_is_refused_by_name(body: bytes) -> None:
    with pytest.raises(InvalidInput) as refused:
        multipart.model_of(read(body))
    assert refused.value.param == "model"


def test_a_long_text_that_is_not_read_passes() -> None:
    assert read(form(("prompt", b"p" * 5000, None))).size_of_texts() == 5000


@pytest.mark.parametrize(
    ("value", "flag"), [(b"true", True), (b"True", True), (b"false", False), (b"", False)]
)
def test_a_field_that_says_true_or_false(value: bytes, *, flag: bool) -> None:
    assert multipart.flag(read(form(("stream", value, None))), "stream") is flag
    assert multipart.flag(read(whole()), "stream") is False


@pytest.mark.parametrize("value", [b"1", b"yes", b"on", b" true"])
def test_other_words_for_true_are_refused(value: bytes) -> None:
    with pytest.raises(InvalidInput, match="stream must be true or false"):
        multipart.flag(read(form(("stream", value, None))), "stream")


def test_a_field_that_is_a_number() -> None:
    assert multipart.whole_number(read(form(("n", b"12", None))), "n") == 12
    assert multipart.whole_number(read(form(("n", b"", None))), "n") is None
    with pytest.raises(InvalidInput, match="n must be a whole number"):
        multipart.whole_number(read(form(("n", b"1.5", None))), "n")


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        (b"multipart/form-data; boundary=abc", b"abc"),
        (b"Multipart/Form-Data;charset=utf-8; BOUNDARY=a.b-c_d", b"a.b-c_d"),
        (b'multipart/form-data; boundary="a b:c"', b"a b:c"),
    ],
)
def test_the_boundary_of_a_content_type(content_type: bytes, boundary: bytes) -> None:
    assert boundary_of(content_type) == boundary
    got = form_of(content_type, b"--" + boundary + b"--")
    assert boundary_of(got.content_type) == boundary


@pytest.mark.parametrize(
    "content_type",
    [
        b"", b"application/json", b"multipart/form-data", b"multipart/form-data; boundary=",
        b"multipart/form-data; boundary=a; boundary=b", b"multipart/form-data; boundary*=utf-8''a",
        b"multipart/form-data; boundary=" + b"a" * 71, b'multipart/form-data; boundary="a"b"',
        b'multipart/form-data; boundary="a\xff"', b'multipart/form-data; boundary="a "',
        b"multipart/form-data; boundary*0=a; boundary=b",
    ],
)  # fmt: skip
def test_a_content_type_that_names_no_one_boundary_is_refused(content_type: bytes) -> None:
    with pytest.raises(InvalidInput):
        boundary_of(content_type)


def seconds_of(body: bytes) -> float:
    begin = time.process_time()
    with pytest.raises(InvalidInput):
        read(body)
    return time.process_time() - begin


@pytest.mark.parametrize(
    "unit",
    [b"\r\n--cut-her", b"\r\n", b"\r\n\r\n", b'; name="', b"\r\n--cut-here\r\n", b"a: b\r\n", b"-"],
)
def test_hostile_bodies_cost_time_that_grows_with_their_length_only(unit: bytes) -> None:
    body = DELIMITER + b"\r\n" + NAMED + b"\r\n\r\n" + unit * (8_000_000 // len(unit))
    assert seconds_of(body) < 2


@given(st.binary(max_size=200), st.binary(max_size=20), st.integers(0, 400), st.integers(0, 30))
def test_no_damage_raises_anything_but_a_refusal(value: bytes, put_in: bytes, at: int, out: int) -> None:
    body = form(("model", b"tiny", None), ("file", value, "a.wav"), ("stream", b"true", None))
    damaged = body[:at] + put_in + body[at + out :]
    try:
        got = read(damaged)
        edited = got.with_texts({"model": "other"})
    except InvalidInput:
        return
    assert read(edited).text("model") == "other"


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "model"]), st.binary(max_size=60)), max_size=6))
def test_what_is_put_in_comes_out(parts: list[tuple[str, bytes]]) -> None:
    named = [(name, value, "f" if name == "a" else None) for name, value in parts if DELIMITER not in value]
    got = read(form(*named))
    assert [(field.name, got.body[field.value : field.end]) for field in got.fields] == [
        (name, value) for name, value, _ in named
    ]
