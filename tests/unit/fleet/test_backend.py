import pytest

from billing.errors import InvalidInput
from billing.fleet import backend
from billing.fleet.backend import Credential, EngineKind, OnHangUp
from billing.tokens.engines import ENGINES


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("https://gpu-1.internal", "https://gpu-1.internal"),
        ("http://localhost:1/", "http://localhost:1"),
        ("http://[::1]:65535/engines/a/", "http://[::1]:65535/engines/a"),
        ("http://vllm_0:8000/base", "http://vllm_0:8000/base"),
    ],
)
def test_an_address_is_scheme_host_port_and_perhaps_a_path(text: str, address: str) -> None:
    assert backend.check_url(text) == address


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("127.0.0.1:8080", "url: '127.0.0.1:8080' does not begin with http:// or https://"),
        ("ftp://host", "url: 'ftp://host' does not begin with http:// or https://"),
        ("http://", "url: 'http://' is not an address"),
        ("http://:80", "url: 'http://:80' is not an address"),
        ("http://host:port", "url: 'http://host:port' is not an address"),
        ("http://a b", "url: 'http://a b' is not an address"),
        ("http://host\r\nx: y", "url: 'http://host\\r\\nx: y' is not an address"),
        ("http://host\n", "url: 'http://host\\n' is not an address"),
        ("http://host/?a=b", "url: an address of a server has no ? and no #"),
        ("http://host:0", "url: a port is 1 to 65535, got 0"),
        ("http://host:65536", "url: a port is 1 to 65535, got 65536"),
        ("http://host/v1", "url: leave out the final /v1, the gateway adds the path of each API"),
        ("http://host/v1/", "url: leave out the final /v1, the gateway adds the path of each API"),
        ("http://" + "a" * 500, "url: an address has at most 500 characters, got 507"),
    ],
)
def test_what_is_no_address_is_refused_with_its_fault(text: str, fault: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        backend.check_url(text)
    assert str(refused.value).partition("; write for")[0] == fault


@pytest.mark.parametrize(
    "text", ["http://user:hunter2@host", "http://hunter2@host:1/x", "http://host/?key=hunter2"]
)
def test_a_password_in_an_address_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        backend.check_url(text)
    assert "hunter2" not in str(refused.value)


def test_a_credential_is_in_no_text_but_its_own() -> None:
    credential = backend.check_credential("hunter2")
    assert credential == Credential("hunter2")
    assert "hunter2" not in f"{credential} {credential!r} {[credential]} {credential.__rich_repr__()}"


@pytest.mark.parametrize("text", ["", "hunter2\n", "hunter 2", "hünter2", "hunter2\x00", "x" * 4097])
def test_a_credential_that_could_break_a_header_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        backend.check_credential(text)
    assert "nter" not in str(refused.value)


@pytest.mark.parametrize("name", ["gpu-1", "h100.a", "0", "a" * 63])
def test_a_name_is_plain(name: str) -> None:
    assert backend.check_name(name) == name


@pytest.mark.parametrize("name", ["", "GPU", "-a", "a b", "a/b", "a" * 64, "a\n"])
def test_another_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="is not a backend name"):
        backend.check_name(name)


def test_an_engine_is_one_of_those_known() -> None:
    assert backend.check_engine("llama.cpp") is EngineKind.LLAMA_CPP
    with pytest.raises(
        InvalidInput, match=r"'llamacpp' is not a known engine; known are llama\.cpp, vllm, nim"
    ):
        backend.check_engine("llamacpp")


def test_the_kinds_are_the_engines_of_the_table() -> None:
    assert {kind.value for kind in EngineKind} == set(ENGINES)
    assert EngineKind.SGLANG.facts.title == "SGLang"


def test_what_becomes_of_a_hang_up_is_one_of_three() -> None:
    assert [backend.check_on_hang_up(each) for each in OnHangUp] == ["abort", "drain", "stream_and_assemble"]
    with pytest.raises(
        InvalidInput,
        match="on_hang_up: 'ignore' says nothing of a hang-up; known are abort, drain, stream_and_assemble",
    ):
        backend.check_on_hang_up("ignore")


def test_concurrency_is_absent_or_a_positive_number() -> None:
    assert backend.check_concurrency(None) is None
    assert backend.check_concurrency(256) == 256
    for count in (0, -1, 100_001):
        with pytest.raises(InvalidInput, match=f"between 1 and 100000 requests at once, got {count}"):
            backend.check_concurrency(count)
