"""A native stream becomes the whole reply that its client asked for."""

from typing import Any

import msgspec
import pytest

from billing.tokens.dialects.llama_cpp_assembler import NativeAssembler
from billing.tokens.dialects.llama_cpp_fields import COUNT_FIELDS, View


def partial(content: str, token: int, index: int = 0, **members: Any) -> dict[str, Any]:
    return {"index": index, "content": content, "tokens": [token], "stop": False, **members}


def final(index: int = 0, **members: Any) -> dict[str, Any]:
    return {
        "index": index, "content": "", "tokens": [], "stop": True, "tokens_predicted": 2,
        "generation_settings": {"stream": True, "timings_per_token": True}, "stop_type": "limit", **members,
    }  # fmt: skip


def whole(content: str, index: int = 0, tokens: list[int] | None = None, **members: Any) -> dict[str, Any]:
    settings = {"stream": False, "timings_per_token": False}
    return (
        final(index) | {"content": content, "tokens": tokens or [], "generation_settings": settings} | members
    )


def assembled(*events: object, view: View | None = None, expected: int = 1, tokens: bool = False) -> Any:
    assembler = NativeAssembler(view or View(), expected, tokens=tokens)
    for event in events:
        assembler.feed(msgspec.json.encode(event))
    return msgspec.json.decode(assembler.body())


def test_text_is_joined_and_the_settings_say_that_nothing_was_streamed() -> None:
    assert assembled(partial("a", 1), partial("b", 2), final()) == whole("ab")


def test_tokens_are_there_if_they_were_asked_for() -> None:
    assert assembled(partial("a", 1), partial("b", 2), final(), tokens=True) == whole("ab", tokens=[1, 2])


def test_progress_of_the_prompt_adds_no_token() -> None:
    progress = partial("", 0, prompt_progress={"total": 4})
    assert assembled(progress, partial("a", 1), final(), tokens=True) == whole("a", tokens=[1])


def test_probabilities_stand_last() -> None:
    probabilities = [{"id": 1, "logprob": 0.0}], [{"id": 2, "logprob": -0.5}]
    events = [partial("a", n, completion_probabilities=each) for n, each in enumerate(probabilities, 1)]
    got = assembled(*events, final())
    assert got == whole("aa", completion_probabilities=[*probabilities[0], *probabilities[1]])
    assert list(got)[-1] == "completion_probabilities"


def test_several_answers_are_an_array_in_their_order() -> None:
    events = [None, partial("b", 2, 1), partial("a", 1, 0), final(1), final(0)]
    assert assembled(*events, expected=2) == [whole("a", 0), whole("b", 1)]


def test_the_reply_is_reduced_to_the_fields_that_were_asked_for() -> None:
    view = View(("completion_probabilities", "stop_type", "content", "generation_settings/stream"))
    reduced = {
        "stop_type": "limit", "content": "", "generation_settings/stream": True, "index": 0, "stop": True,
        "tokens_predicted": 1, "tokens_evaluated": 4, "timings/cache_n": 3,
    }  # fmt: skip
    assert set(COUNT_FIELDS) < reduced.keys()
    got = assembled(partial("a", 1, completion_probabilities=[{"id": 1}]), reduced, view=view)
    assert list(got.items()) == [
        ("completion_probabilities", [{"id": 1}]), ("stop_type", "limit"), ("content", "a"), ("generation_settings/stream", False),
    ]  # fmt: skip


def test_fields_without_the_text_leave_it_out() -> None:
    reduced = {
        "stop_type": "limit",
        "index": 0,
        "stop": True,
        "tokens_predicted": 1,
        "tokens_evaluated": 4,
        "timings/cache_n": 3,
    }
    assert assembled(partial("a", 1), reduced, view=View(("stop_type",))) == {"stop_type": "limit"}


def test_an_error_is_the_reply() -> None:
    error = {"error": {"code": 500, "message": "x", "type": "server_error"}}
    assert assembled(partial("a", 1), error) == error


@pytest.mark.parametrize("noise", [b"null", b"5", b"", b"\xff", b"[" * 100_000])
def test_noise_is_passed_over(noise: bytes) -> None:
    assembler = NativeAssembler(View(), 1, tokens=False)
    for data in (noise, msgspec.json.encode(partial("a", 1)), noise, msgspec.json.encode(final()), noise):
        assembler.feed(data)
    assert msgspec.json.decode(assembler.body()) == whole("a")


def test_its_size_is_told() -> None:
    assembler = NativeAssembler(View(), 1, tokens=False)
    data = msgspec.json.encode(partial("a", 1))
    assembler.feed(data)
    assert assembler.size() == len(data)
    assert repr(assembler) == f"<NativeAssembler 1 of 1, {len(data)} B>"
