"""Requests for images are understood as far as metering must, in JSON and as forms, and changed least."""

from typing import Any

import msgspec
import pytest

from billing.errors import InvalidInput
from billing.tokens.dialects.openai_images import IMAGES_MAX, ImagesCall
from billing.tokens.engines import OPENAI
from billing.tokens.multipart import form_of
from billing.tokens.operation import Framing, Operation
from billing.tokens.usage import Part
from tests.openai_kit import FORM, call_of, form

GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"
PICTURE = b"\x89PNG\r\n\x1a\n"


def call(path: str = GENERATIONS, **members: Any) -> ImagesCall:
    got = call_of(path, **({"model": "tiny", "prompt": "a cat"} | members))
    assert isinstance(got, ImagesCall)
    return got


def edit(*fields: tuple[str, bytes, str | None]) -> ImagesCall:
    pictures = (("image[]", PICTURE, "a.png"), ("image[]", PICTURE, "b.png"))
    got = call_of(EDITS, FORM, form(("model", b"tiny", None), ("prompt", b"a hat", None), *pictures, *fields))
    assert isinstance(got, ImagesCall)
    return got


def test_a_plain_request() -> None:
    got = call()
    assert (got.operation, got.model, got.stream, got.framing, got.choices) == (
        Operation.IMAGES, "tiny", False, Framing.SSE, 1,
    )  # fmt: skip
    assert (got.units(), got.content_type) == ({Part.IMAGE: 1}, b"application/json")
    assert got.prompt_bytes() == len(got.body)


def test_what_a_client_asks_for() -> None:
    got = call(n=3, stream=True, user="ada")
    assert (got.choices, got.stream, got.end_user, got.output_bound(100)) == (3, True, "ada", 300)
    assert call(user="ada", safety_identifier="bob").end_user == "bob"


def test_a_form_with_images_to_edit() -> None:
    got = edit(("n", b"2", None), ("stream", b"true", None), ("user", b"ada", None))
    assert (got.operation, got.model, got.choices, got.stream, got.end_user) == (
        Operation.IMAGE_EDITS, "tiny", 2, True, "ada",
    )  # fmt: skip
    assert (got.content_type, got.prompt_bytes()) == (FORM, len("tinya hat2trueada"))


def test_images_to_edit_may_be_named_in_json() -> None:
    got = call(EDITS, images=[{"file_id": "f"}])
    assert (got.operation, got.members is not None) == (Operation.IMAGE_EDITS, True)


def test_a_body_goes_as_it_came_or_with_the_backends_name() -> None:
    assert call().upstream_body(OPENAI, "tiny", stream=False) == call().body
    assert edit().upstream_body(OPENAI, "tiny", stream=False) == edit().body
    assert msgspec.json.decode(call().upstream_body(OPENAI, "org/tiny", stream=False))["model"] == "org/tiny"
    sent = form_of(FORM, edit().upstream_body(OPENAI, "org/tiny", stream=False))
    assert (sent.text("model"), sent.text("prompt"), len(sent.fields)) == ("org/tiny", "a hat", 4)


@pytest.mark.parametrize(
    ("members", "param"),
    [({"n": 0}, "n"), ({"n": IMAGES_MAX + 1}, "n"), ({"n": "2"}, "n"), ({"prompt": None}, "prompt"), ({"prompt": []}, "prompt"),
     ({"model": None}, "model"), ({"stream": 1}, "stream")],
)  # fmt: skip
def test_a_request_is_refused_by_the_name_of_what_is_wrong(members: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        call(**members)
    assert refused.value.param == param


def test_a_form_is_refused_by_the_name_of_what_is_wrong() -> None:
    with pytest.raises(InvalidInput, match="n must be 1"):
        edit(("n", b"999", None))
    with pytest.raises(InvalidInput, match="you must provide prompt"):
        call_of(EDITS, FORM, form(("model", b"tiny", None)))
    with pytest.raises(InvalidInput, match="multipart/form-data"):
        call_of(EDITS, b"text/plain", b"hello")
