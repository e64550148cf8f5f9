"""However the streams of engines' own dialects are cut, broken off or disturbed, their counts and bytes are right."""

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.tokens.dialects.cohere import CohereStreamMeter
from billing.tokens.dialects.llama_cpp_fields import View
from billing.tokens.dialects.llama_cpp_meter import NativeStreamMeter
from billing.tokens.dialects.sglang import SglangStreamMeter
from billing.tokens.meter import StreamMeter
from tests.native_kit import counts, cut, events_of, relayed, sse

TIMINGS = {"cache_n": 3, "prompt_n": 1, "predicted_ms": 0.5}


def _native(prompts: int, *, reduced: bool) -> bytes:
    """What llama.cpp sends for three tokens each, asked for timings as the gateway does."""
    events: list[object] = [None] if prompts > 1 else []
    for predicted, text in enumerate((" grün", "", "🚀"), 1):
        events += [
            {"index": index, "content": text, "tokens": [7], "stop": False, "tokens_predicted": predicted,
             "tokens_evaluated": 4 + index, "timings": TIMINGS | {"predicted_n": predicted}}
            for index in range(prompts)
        ]  # fmt: skip
    for index in reversed(range(prompts)):
        known = {
            "content": "",
            "index": index,
            "stop": True,
            "tokens_predicted": 3,
            "tokens_evaluated": 4 + index,
        }
        rest = (
            {"timings/cache_n": 3}
            if reduced
            else {"model": "tiny", "prompt": "é", "timings": TIMINGS | {"predicted_n": 3}}
        )
        events.append(known | rest)
    return sse(*events)


class Stream(NamedTuple):
    """A stream, its meter's kind, and its counts when whole."""

    body: bytes
    kind: str
    counts: tuple[int | None, ...]

    def meter(self) -> StreamMeter:
        if self.kind == "sglang":
            return SglangStreamMeter()
        if self.kind == "cohere":
            return CohereStreamMeter()
        prompts = 2 if "two" in self.kind else 1
        return NativeStreamMeter(1, prompts, View(("content",) if "reduced" in self.kind else ()))


SGLANG = sse(*[
    {"text": "é" * predicted, "meta_info": {"prompt_tokens": 6, "completion_tokens": predicted, "finish_reason": reason}}
    for predicted, reason in ((1, None), (9, None), (20, "length"))
])  # fmt: skip
COHERE = sse(
    {"type": "message-start", "id": "c"}, {"type": "content-delta", "delta": {"message": {"content": {"text": "é"}}}},
    {"type": "message-end", "delta": {"usage": {"tokens": {"input_tokens": 69, "output_tokens": 89}}}},
)  # fmt: skip
DONE = b"data: [DONE]\n\n"
STREAMS = [
    Stream(_native(1, reduced=False), "native", (4, 3, 3, None)),
    Stream(_native(2, reduced=False), "native two", (9, 6, 6, None)),
    Stream(_native(1, reduced=True), "native reduced", (4, 3, 3, None)),
    Stream(_native(2, reduced=True), "native two reduced", (9, 6, 6, None)),
    Stream(SGLANG + DONE, "sglang", (6, None, 20, None)),
    Stream(COHERE + DONE, "cohere", (69, None, 89, None)),
]
streams = st.sampled_from(STREAMS)
NOISE = [
    b": ping\n\n", b":\n\n", b"data: null\n\n", b"data: hello\n\n", b"data: \xff\xfe\n\n", b"\n\n", b"event: ping\nid: 1\n\n",
    b"data: 5\n\n", b"data: []\n\n", b"data: {}\n\n", b'data: {"index":"x","stop":null,"tokens_predicted":true}\n\n',
    b'data: {"meta_info":{"completion_tokens":-5},"timings":[]}\n\n', b"data: {\n\n",
]  # fmt: skip


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.kind)
def test_two_reads_cut_anywhere_give_the_same(stream: Stream) -> None:
    meter = stream.meter()
    whole = relayed(meter, stream.body)
    assert (counts(meter.usage()), meter.done) == (stream.counts, True)
    for offset in range(len(stream.body)):
        meter = stream.meter()
        assert relayed(meter, stream.body[:offset], stream.body[offset:]) == whole, offset
        assert counts(meter.usage()) == stream.counts


@given(streams, st.lists(st.integers(min_value=0), max_size=12))
def test_many_reads_cut_anywhere_give_the_same(stream: Stream, offsets: list[int]) -> None:
    meter = stream.meter()
    assert relayed(meter, *cut(stream.body, offsets)) == relayed(stream.meter(), stream.body)
    assert counts(meter.usage()) == stream.counts


@given(streams)
def test_line_ends_of_another_kind_change_nothing(stream: Stream) -> None:
    meter = stream.meter()
    relayed(meter, stream.body.replace(b"\n", b"\r\n"))
    assert (counts(meter.usage()), meter.done) == (stream.counts, True)


@given(streams, st.integers(min_value=1, max_value=8))
def test_without_the_last_events_what_was_said_stands(stream: Stream, dropped: int) -> None:
    events = events_of(stream.body)[:-dropped]
    meter = stream.meter()
    relayed(meter, b"".join(events))
    assert not meter.done
    for known, full in zip(counts(meter.usage()), stream.counts, strict=True):
        assert known is None or (full is not None and known <= full)
    if stream.kind in {"native", "native reduced"}:
        seen = min(3, len(events))
        assert counts(meter.usage()) == ((4, 3, seen, None) if seen else (None,) * 4)


@given(streams, st.lists(st.tuples(st.integers(min_value=0), st.sampled_from(NOISE)), max_size=6))
def test_noise_between_events_reaches_the_client_and_changes_no_count(
    stream: Stream, noise: list[tuple[int, bytes]]
) -> None:
    pieces = events_of(stream.body)
    for place, piece in noise:
        pieces.insert(place % len(pieces), piece)
    meter = stream.meter()
    out, terminal = relayed(meter, b"".join(pieces))
    assert counts(meter.usage()) == stream.counts
    assert terminal == relayed(stream.meter(), stream.body)[1]
    assert all(piece in out for _, piece in noise)


@given(streams, st.binary(max_size=40))
def test_any_bytes_pass_and_raise_nothing(stream: Stream, garbage: bytes) -> None:
    meter = stream.meter()
    out, terminal = relayed(
        meter, b"data: " + garbage.replace(b"\n", b"").replace(b"\r", b"") + b"\n\n" + stream.body
    )
    assert terminal == relayed(stream.meter(), stream.body)[1]
    assert out.startswith(b"data: ")
