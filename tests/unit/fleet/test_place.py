import pytest

from billing.fleet.backend import EngineKind, check_name
from billing.fleet.place import backend_name, place_of, public_name


@pytest.mark.parametrize(
    ("engine", "url", "name"),
    [
        (EngineKind.LLAMA_CPP, "http://127.0.0.1:8080", "llama-cpp-8080"),
        (EngineKind.VLLM, "http://localhost:8000", "vllm-8000"),
        (EngineKind.VLLM, "http://[::1]:8000", "vllm-8000"),
        (EngineKind.NIM_1, "http://127.0.0.1:8000", "nim-1-8000"),
        (EngineKind.NIM, "https://gpu-7.Example.org", "nim-gpu-7.example.org-443"),
        (EngineKind.VLLM, "http://gpu-7:8000/pool/3/", "vllm-gpu-7-8000-pool-3"),
        (EngineKind.VLLM, "http://[2001:db8::1]:8000", "vllm-2001-db8-1-8000"),
        (EngineKind.VLLM, f"http://{'long.' * 30}org:8000", "vllm-" + "long." * 11 + "lon"),
    ],
)
def test_a_backend_is_named_by_engine_and_port_and_away_from_here_by_host(
    engine: EngineKind, url: str, name: str
) -> None:
    assert check_name(backend_name(engine, url)) == name


def test_two_ways_of_writing_an_address_are_one_place() -> None:
    assert place_of("http://localhost:8000/") == place_of("http://127.0.0.1:8000")
    assert place_of("http://gpu-7") == place_of("http://GPU-7:80")
    assert place_of("http://gpu-7:8000") != place_of("https://gpu-7:8000")


@pytest.mark.parametrize(
    ("model", "public"),
    [
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("llama3.2:latest", "llama3.2:latest"),
        ("/models/llama-3.1-8b.gguf", "llama-3.1-8b.gguf"),
        ("./tiny", "tiny"),
        ("/models/my model", None),
        ("/", None),
    ],
)
def test_a_model_keeps_its_name_or_gets_the_last_part_of_its_path(model: str, public: str | None) -> None:
    assert public_name(model) == public
