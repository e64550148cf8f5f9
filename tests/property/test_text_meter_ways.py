"""The quick way of a text meter, for the events that nearly all are, does exactly what the long way does."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from billing.tokens.dialects.openai_text_meter import TextStreamMeter, Wish
from billing.tokens.engines import LLAMA_CPP, SGLANG, VLLM, Engine
from billing.tokens.meter import Edit
from billing.tokens.operation import Operation
from billing.tokens.payload import Event

tokens = st.one_of(st.integers(0, 9), st.none(), st.just(-1), st.just(2**70))
texts = st.one_of(st.sampled_from(["", "a", "<think>", 'x,"usage":{"prompt_tokens":1}}']), st.none())
usages = st.one_of(
    st.none(),
    st.just({}),
    st.fixed_dictionaries(
        {"prompt_tokens": tokens, "completion_tokens": tokens},
        optional={"reasoning_tokens": tokens, "prompt_tokens_details": st.just({"cached_tokens": 1})},
    ),
)
timings = st.fixed_dictionaries({"prompt_n": tokens, "predicted_n": tokens}, optional={"cache_n": tokens})
deltas = st.fixed_dictionaries(
    {"content": texts},
    optional={"reasoning_content": texts, "tool_calls": st.sampled_from([[], [{"index": 0}]])},
)
choices = st.fixed_dictionaries(
    {"index": st.integers(0, 1)},
    optional={
        "delta": deltas,
        "text": texts,
        "finish_reason": st.sampled_from([None, "stop"]),
        "usage": usages,
    },
)
streams = st.lists(
    st.fixed_dictionaries(
        {"choices": st.lists(choices, max_size=2)},
        optional={
            "id": st.just("c-1"),
            "usage": usages,
            "timings": timings,
            "error": st.sampled_from([None, {"message": "no"}]),
            "later": usages,
        },
    ),
    max_size=12,
)
wishes = st.builds(Wish, st.booleans(), st.booleans(), st.booleans())


class LongWay(TextStreamMeter):
    """Takes no event the quick way."""

    __slots__ = ()

    def _goes_on(self, event: Event, usage: Any, timings: Any, now_us: int) -> bool:
        return False


def state_of(meter: TextStreamMeter) -> dict[str, Any]:
    names = [name for kind in TextStreamMeter.__mro__ for name in getattr(kind, "__slots__", ())]
    return {name: repr(getattr(meter, name)) for name in names}


@given(
    engine=st.sampled_from([VLLM, LLAMA_CPP, SGLANG]),
    wish=wishes,
    stream=streams,
    gaps=st.lists(st.integers(-5, 1_000), min_size=12, max_size=12),
)
def test_both_ways_know_and_show_the_same(
    engine: Engine, wish: Wish, stream: list[dict[str, Any]], gaps: list[int]
) -> None:
    quick, long = (kind(engine, Operation.CHAT, 1, 1, wish) for kind in (TextStreamMeter, LongWay))
    now_us = 1_000
    for event, gap in zip(stream, gaps, strict=False):
        data, now_us = msgspec.json.encode(event), now_us + gap
        assert quick.see(data, now_us) is long.see(data, now_us)
        assert state_of(quick) == state_of(long)
        assert quick.usage() == long.usage()


@given(engine=st.sampled_from([VLLM, LLAMA_CPP, SGLANG]), wish=wishes, stream=streams, compact=st.booleans())
def test_what_is_hidden_is_cut_out_and_every_other_byte_stays(
    engine: Engine, wish: Wish, stream: list[dict[str, Any]], *, compact: bool
) -> None:
    meter = TextStreamMeter(engine, Operation.CHAT, 1, 1, wish)
    for event in stream:
        data = msgspec.json.encode(event)
        data = data if compact else msgspec.json.format(data, indent=1)
        if meter.see(data, 0) is Edit.STRIP:
            seen: dict[str, Any] = msgspec.json.decode(
                data[: -meter.cut] + b"}" if meter.cut else meter.strip(data)
            )
            hidden = event.keys() - seen.keys()
            assert hidden <= {"usage", "timings"}
            assert seen == {name: value for name, value in event.items() if name not in hidden}
            assert "timings" not in seen or wish.timings
            assert seen.get("usage") is None or wish.usage
