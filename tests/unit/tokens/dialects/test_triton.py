"""A request to Triton names its model in the path, and is asked for counts where it would be understood."""

from typing import Any

import msgspec
import pytest

from billing.errors import InvalidInput
from billing.tokens.call import Asked
from billing.tokens.dialects.routes import PATHS, find
from billing.tokens.dialects.triton import TritonCall
from billing.tokens.engines import OLLAMA, TRITON
from billing.tokens.operation import Dialect, Framing, Operation

PATH = "/v2/models/tiny/generate"
BOTH = {"return_num_input_tokens": True, "return_num_output_tokens": True}


def parsed(path: str, body: bytes) -> TritonCall:
    route = find(path)
    assert route is not None
    made = route.parse(Asked(route.operation, path, body))
    assert isinstance(made, TritonCall)
    return made


def call(path: str = PATH, **members: Any) -> TritonCall:
    return parsed(path, msgspec.json.encode({"text_input": "x"} | members))


@pytest.mark.parametrize(
    ("path", "model", "stream", "upstream"),
    [
        (PATH, "tiny", False, "/v2/models/w%2F1%20%C3%A9/generate"),
        ("/v2/models/tiny/generate_stream", "tiny", True, "/v2/models/w%2F1%20%C3%A9/generate_stream"),
        ("/v2/models/tiny/versions/3/generate", "tiny", False, "/v2/models/w%2F1%20%C3%A9/versions/3/generate"),
        ("/v2/models/acme%2Ftiny/generate", "acme/tiny", False, "/v2/models/w%2F1%20%C3%A9/generate"),
        ("/v2/models/%C3%A9/versions/12/generate_stream", "é", True, "/v2/models/w%2F1%20%C3%A9/versions/12/generate_stream"),
    ],
)  # fmt: skip
def test_the_path_says_model_and_stream_and_keeps_its_version(
    path: str, model: str, upstream: str, *, stream: bool
) -> None:
    made = call(path)
    assert (made.model, made.stream, made.framing) == (model, stream, Framing.SSE)
    assert (made.operation, made.dialect) == (Operation.GENERATE, Dialect.TRITON)
    assert made.upstream_path("w/1 é") == upstream


@pytest.mark.parametrize("name", [".", "..", "...."])
def test_a_name_of_dots_is_no_step_in_the_path(name: str) -> None:
    assert call().upstream_path(name) == f"/v2/models/{name.replace('.', '%2E')}/generate"


@pytest.mark.parametrize(
    "path",
    [
        "/v2", "/v2/", "/v2/models", "/v2/models/", "/v2/models/tiny", "/v2/models//generate", "/v2/models/tiny/infer", "/v2/models/tiny/config",
        "/v2/models/tiny/generate/", "/v2/models/a/b/generate", "/v2/models/tiny/versions/x/generate", "/v2/models/tiny/versions/generate",
        "/v2/models/tiny/versions//generate", "/v2/models/tiny/generate_streams", "/v2/repository/models/tiny/load", "/v2/models/tiny/trace/setting",
        "/v2/models/tiny/generate\n", "x/v2/models/tiny/generate",
    ],
)  # fmt: skip
def test_no_other_path_of_triton_is_proxied(path: str) -> None:
    assert find(path) is None


def test_ordinary_paths_are_found_as_before() -> None:
    assert all(find(path) is route for path, route in PATHS.items())
    assert find("/v1/chat/completion") is None


def test_counts_are_asked_for_and_other_members_keep_their_bytes() -> None:
    body = b'{"text_input":"x","parameters":{"temperature":1e-1}}'
    assert parsed(PATH, body).upstream_body(TRITON, "w", stream=False) == (
        b'{"text_input":"x","parameters":{"temperature":1e-1},"return_num_input_tokens":true,"return_num_output_tokens":true}'
    )


@pytest.mark.parametrize("members", [BOTH, {"parameters": BOTH}, {"return_num_input_tokens": [True], "parameters": {"return_num_output_tokens": True}}])  # fmt: skip
def test_a_client_that_asked_for_counts_keeps_its_body_and_sees_them(members: dict[str, Any]) -> None:
    made = call(**members)
    assert made.upstream_body(TRITON, "w", stream=False) == made.body
    reply = b'{"num_input_tokens":7,"num_output_tokens":3,"text_output":"a"}'
    assert made.reply_meter(TRITON, reply).stripped(reply) == reply


def test_a_name_is_never_given_in_two_places() -> None:
    made = call(parameters={"return_num_input_tokens": False, "temperature": 0})
    assert msgspec.json.decode(made.upstream_body(TRITON, "w", stream=True)) == {
        "text_input": "x", "return_num_output_tokens": True,
        "parameters": {"return_num_input_tokens": True, "temperature": 0},
    }  # fmt: skip


def test_an_engine_that_is_not_to_be_asked_is_not() -> None:
    made = call()
    assert made.upstream_body(OLLAMA, "w", stream=False) == made.body
    reply = b'{"num_output_tokens":3}'
    assert made.reply_meter(OLLAMA, reply).stripped(reply) == reply


@pytest.mark.parametrize(
    ("members", "bound"),
    [
        ({}, 500), ({"max_tokens": 7}, 7), ({"parameters": {"max_tokens": 7}}, 7), ({"request_output_len": 7}, 7), ({"sampling_param_max_tokens": 7}, 7),
        ({"sampling_parameters": '{"max_tokens": 7, "n": 2}'}, 14), ({"sampling_parameters": "hello"}, 500), ({"sampling_parameters": 5}, 500),
        ({"sampling_parameters": "\\ud800"}, 500), ({"max_tokens": 7, "beam_width": 4}, 28), ({"max_tokens": 7, "n": 10**9}, 7 * 128), ({"max_tokens": -1, "n": 0}, 500),
        ({"max_tokens": 7, "text_input": ["a", "b"]}, 14), ({"max_tokens": 7, "text_input": []}, 7),
    ],
)  # fmt: skip
def test_the_output_is_bounded_by_what_the_known_backends_call_a_limit(
    members: dict[str, Any], bound: int
) -> None:
    assert call(**members).output_bound(500) == bound


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (PATH, b"[]", None), (PATH, b"", None), (PATH, b'{"parameters":[]}', "parameters"),
        ("/v2/models/" + "x" * 300 + "/generate", b"{}", "model"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(path: str, body: bytes, param: str | None) -> None:
    with pytest.raises(InvalidInput) as fault:
        parsed(path, body)
    assert fault.value.param == param
