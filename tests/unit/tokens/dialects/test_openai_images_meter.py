"""Images are counted in tokens where the reply says them, else by their number, streamed and whole."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.tokens.dialects.openai_images_meter import ImagesReplyMeter, ImagesStreamMeter
from billing.tokens.engines import OPENAI
from billing.tokens.usage import Part, TokenUsage
from tests.openai_kit import call_of, cases, events, fed, mismatches

PATH = "/v1/images/generations"
USAGE = {"input_tokens": 50, "output_tokens": 60, "total_tokens": 110, "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
         "output_tokens_details": {"image_tokens": 55, "text_tokens": 5}}  # fmt: skip
PARTIAL = {"type": "image_generation.partial_image", "b64_json": "AAAA", "partial_image_index": 0}


def completed(kind: str = "image_generation", **members: Any) -> dict[str, Any]:
    return {"type": f"{kind}.completed", "b64_json": "AAAA", "usage": USAGE} | members


def values(usage: TokenUsage) -> dict[str, int | None]:
    return {"input": usage.input.value, "output": usage.output.value} | {
        part.value: count.value for part, count in usage.parts.items()
    }


COUNTED = {"input": 50, "output": 60, "image_input": 40, "image_output": 55}


def test_the_corpus() -> None:
    for case in cases("openai.images"):
        if case.stream:
            relay, out = fed(call_of(PATH, model="tiny", prompt="a", stream=True), case.engine, [case.raw])
            usage = relay.meter.usage()
            assert (out + relay.terminal, relay.meter.done) == (case.raw, True)
        else:
            usage = ImagesReplyMeter(case.raw).usage()
        assert mismatches(usage, case.expect) == {}, case.name


def whole(**members: Any) -> dict[str, int | None]:
    return values(ImagesReplyMeter(msgspec.json.encode(members)).usage())


def test_whole_replies() -> None:
    nothing = {"input": None, "output": None}
    assert whole(data=[{"b64_json": "AAAA"}], usage=USAGE) == COUNTED
    assert whole(data=[{"url": "a"}, {"url": "b"}]) == nothing | {"image": 2}
    assert whole(data=[{"url": "a"}, None, 5], usage={"input_tokens": 0}) == nothing | {"image": 3}
    assert whole(created=1, data=[]) == nothing
    assert whole(data=[{}], usage=USAGE, svg_usage={"model": "m", "total_tokens": 9}) == COUNTED | {
        "hidden": 9
    }
    assert values(ImagesReplyMeter(b"<html>").usage()) == nothing


@pytest.mark.parametrize("kind", ["image_generation", "image_edit"])
def test_a_stream_ends_with_its_image(kind: str) -> None:
    body = events(PARTIAL, completed(kind))
    relay, out = fed(call_of(PATH, model="tiny", prompt="a", stream=True), OPENAI, [body[:100], body[100:]])
    assert (out, relay.terminal) == (events(PARTIAL), events(completed(kind)))
    assert values(relay.meter.usage()) == COUNTED
    assert (relay.meter.first_token_us, relay.meter.done) == (1, True)


def test_a_stream_of_several_images_adds_them_up() -> None:
    asked = call_of(PATH, model="tiny", prompt="a", stream=True, n=2)
    relay, _ = fed(asked, OPENAI, [events(PARTIAL, completed())])
    assert (relay.meter.done, relay.meter.finished, values(relay.meter.usage())) == (False, True, COUNTED)
    relay, _ = fed(asked, OPENAI, [events(completed(), completed(), completed())])
    assert relay.meter.done
    assert values(relay.meter.usage()) == {name: 2 * (value or 0) for name, value in COUNTED.items()}


def test_a_stream_without_usage_counts_its_images() -> None:
    relay, _ = fed(
        call_of(PATH, model="tiny", prompt="a", stream=True), OPENAI, [events(completed(usage=None))]
    )
    assert relay.meter.usage().parts[Part.IMAGE].value == 1


def test_a_stream_that_fails_or_ends_otherwise() -> None:
    relay, _ = fed(
        call_of(PATH, model="tiny", prompt="a", stream=True),
        OPENAI,
        [events({"type": "error", "message": "no"})],
    )
    assert (relay.meter.failed, relay.meter.done, relay.meter.usage()) == (True, False, TokenUsage())
    meter = ImagesStreamMeter(1)
    meter.see(b"null", 0)
    meter.see(b"[DONE]", 0)
    assert meter.done


@given(st.binary(max_size=80) | st.text(alphabet='{}[]":,type.completed0-1a \n', max_size=60).map(str.encode))
def test_no_payload_breaks_a_meter(data: bytes) -> None:
    meter = ImagesStreamMeter(1)
    meter.see(data, 0)
    assert repr(meter)
    assert repr(ImagesReplyMeter(data))
