"""The table of engines says what protocols and recordings say, and nothing else is known."""

import msgspec
import pytest

from billing.errors import Misconfigured
from billing.tokens.engines import ENGINES, GENERIC, LLAMA_CPP, NIM, OLLAMA, OPENAI, VLLM, Merge, Says, engine
from billing.tokens.operation import Dialect, Operation


def test_engines_are_found_by_name() -> None:
    assert engine("llama.cpp") is LLAMA_CPP
    assert engine("vllm") is VLLM
    assert engine("nim") is NIM
    assert set(ENGINES) == {
        "llama.cpp", "vllm", "nim", "nim-1", "sglang", "tensorrt-llm", "tgi", "ollama", "triton", "openai", "transformers",
        "generic",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["", "VLLM", "llamacpp", "nim2", "vllm "])
def test_an_unknown_name_is_refused_with_the_names_there_are(name: str) -> None:
    with pytest.raises(Misconfigured, match=r"known are generic, llama\.cpp, nim, nim-1, ollama"):
        engine(name)


def test_llamacpp_is_asked_for_timings_and_usage_and_cannot_count_several_choices_whole() -> None:
    assert LLAMA_CPP.stream_fields == {"timings_per_token": True}
    assert LLAMA_CPP.stream_options == {"include_usage": True}
    assert LLAMA_CPP.timings
    assert not LLAMA_CPP.several_counted_whole
    assert (LLAMA_CPP.choices, LLAMA_CPP.prompts) == (Merge.PER_CHOICE, Merge.PER_PROMPT)
    assert LLAMA_CPP.reasoning is Says.NO
    assert LLAMA_CPP.tokenize is not None
    assert LLAMA_CPP.tokenize.path == "/tokenize"


def test_vllm_is_asked_for_usage_on_every_event() -> None:
    assert VLLM.stream_fields == {}
    assert VLLM.stream_options == {"include_usage": True, "continuous_usage_stats": True}
    assert VLLM.continuous_usage
    assert VLLM.several_counted_whole


def test_nim_2_reports_as_vllm() -> None:
    same = (
        "stream_fields",
        "stream_options",
        "continuous_usage",
        "reasoning",
        "choices",
        "prompts",
        "tokenize",
    )
    assert all(getattr(NIM, name) == getattr(VLLM, name) for name in same)


def test_only_an_engine_of_unknown_kind_is_probed() -> None:
    assert [each.name for each in ENGINES.values() if each.probed] == [GENERIC.name]


def test_each_engine_has_somewhere_to_ask_for_its_health_and_its_own_counters_where_it_has_any() -> None:
    assert all(each.health_path.startswith("/") for each in ENGINES.values())
    assert all(each.counters.path.startswith("/") for each in ENGINES.values() if each.counters is not None)
    assert OLLAMA.counters is OPENAI.counters is None


def test_a_dialect_of_one_engine_is_served_by_that_engine_alone() -> None:
    for dialect, name in ((Dialect.LLAMA_CPP, "llama.cpp"), (Dialect.TGI, "tgi"), (Dialect.TRITON, "triton")):
        assert [each.name for each in ENGINES.values() if any(at is dialect for at, _ in each.serves)] == [
            name
        ]
    assert (Dialect.OLLAMA, Operation.CHAT) in OLLAMA.serves


def test_the_table_is_a_value() -> None:
    assert msgspec.structs.replace(VLLM) == VLLM
