"""The shapes of whole replies are those of recorded ones: the same members in the same order."""

from typing import Any

import msgspec
import pytest

from billing.tokens.wholes import LLAMA_CPP, PLAIN, TRANSFORMERS, VLLM, Shape, Unsaid
from tests.gateway.recordings import recording

RECORDED: dict[str, tuple[Shape, str, str]] = {
    "llama.cpp": (LLAMA_CPP.chat, "llamacpp", "chat_nonstream"),
    "llama.cpp, completion": (LLAMA_CPP.completions, "llamacpp", "completions_nonstream"),
    "vLLM": (VLLM.chat, "vllm", "chat_nonstream_maxtok10"),
    "vLLM with token ids": (VLLM.chat, "vllm", "chat_nonstream_vllm_ignore_eos_min"),
    "vLLM, completion": (VLLM.completions, "vllm", "completions_batch_prompts"),
    "transformers serve": (TRANSFORMERS.chat, "transformers_serve", "chat_nonstream"),
    "transformers serve, completion": (TRANSFORMERS.completions, "transformers_serve", "completions"),
}


def assert_fits(value: dict[str, Any], shape: Shape) -> None:
    assert [name for name in shape if name in value] == list(value)
    for name, unsaid in shape.items():
        held = value.get(name)
        if isinstance(unsaid, dict) and held is not None:
            assert_fits(held, unsaid)
        elif isinstance(unsaid, list):
            for element in held or []:
                assert_fits(element, unsaid[0])
        else:
            assert (name in value) or unsaid in {Unsaid.ABSENT, Unsaid.LEFT_OUT, Unsaid.TRIMMED}


@pytest.mark.parametrize(("shape", "folder", "name"), RECORDED.values(), ids=RECORDED)
def test_a_recorded_reply_has_the_members_of_its_shape_in_their_order(
    shape: Shape, folder: str, name: str
) -> None:
    assert_fits(msgspec.json.decode(recording(folder, name).body), shape)


def test_both_operations_say_what_they_are() -> None:
    for whole in (LLAMA_CPP, VLLM, TRANSFORMERS, PLAIN):
        assert (whole.chat["object"], whole.completions["object"]) == ("chat.completion", "text_completion")
