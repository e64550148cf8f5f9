"""The table of engines says what protocols and recordings say, and nothing else is known."""

import msgspec
import pytest

from billing.errors import Misconfigured
from billing.tokens.engines import ENGINES, LLAMA_CPP, NIM, VLLM, engine


def test_engines_are_found_by_name() -> None:
    assert engine("llama.cpp") is LLAMA_CPP
    assert engine("vllm") is VLLM
    assert engine("nim") is NIM
    assert set(ENGINES) == {"llama.cpp", "vllm", "nim"}


@pytest.mark.parametrize("name", ["", "VLLM", "llamacpp", "ollama", "vllm "])
def test_an_unknown_name_is_refused_with_the_names_there_are(name: str) -> None:
    with pytest.raises(Misconfigured, match=r"known are llama\.cpp, nim, vllm"):
        engine(name)


def test_llamacpp_is_asked_for_timings_and_usage_and_cannot_count_several_choices() -> None:
    assert LLAMA_CPP.stream_fields == {"timings_per_token": True}
    assert LLAMA_CPP.stream_options == {"include_usage": True}
    assert LLAMA_CPP.timings
    assert not LLAMA_CPP.several_choices_counted
    assert not LLAMA_CPP.reasoning_reported
    assert LLAMA_CPP.tokenize_path == "/tokenize"


def test_vllm_is_asked_for_usage_on_every_event() -> None:
    assert VLLM.stream_fields == {}
    assert VLLM.stream_options == {"include_usage": True, "continuous_usage_stats": True}
    assert VLLM.continuous_usage
    assert VLLM.several_choices_counted
    assert VLLM.reasoning_reported


def test_nim_reports_as_vllm() -> None:
    assert msgspec.structs.replace(NIM, name="vllm") == VLLM
