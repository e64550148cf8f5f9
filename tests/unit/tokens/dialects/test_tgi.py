"""A request to TGI's own API is asked for details, and nothing else of it changes."""

from typing import Any

import msgspec
import pytest

from billing.errors import InvalidInput
from billing.tokens.call import Asked
from billing.tokens.dialects.routes import PATHS
from billing.tokens.dialects.tgi import TgiCall
from billing.tokens.engines import TGI
from billing.tokens.operation import Dialect, Framing, Operation

GENERATE, STREAM, ROOT = "/generate", "/generate_stream", "/"


def parsed(path: str, body: bytes) -> TgiCall:
    made = PATHS[path].parse(Asked(PATHS[path].operation, path, body))
    assert isinstance(made, TgiCall)
    return made


def call(path: str = GENERATE, **members: Any) -> TgiCall:
    return parsed(path, msgspec.json.encode({"inputs": "x"} | members))


def sent(made: TgiCall, *, stream: bool = False) -> Any:
    return msgspec.json.decode(made.upstream_body(TGI, "weights", stream=stream))


@pytest.mark.parametrize(
    ("path", "members", "stream"),
    [
        (GENERATE, {}, False), (GENERATE, {"stream": True}, False), (STREAM, {}, True), (STREAM, {"stream": False}, True),
        (ROOT, {}, False), (ROOT, {"stream": True}, True), (ROOT, {"stream": None}, False),
    ],
)  # fmt: skip
def test_the_path_decides_whether_it_streams_and_on_the_root_path_a_member(
    path: str, members: dict[str, Any], *, stream: bool
) -> None:
    made = call(path, **members)
    assert (made.stream, made.framing, made.dialect, made.operation) == (
        stream, Framing.SSE, Dialect.TGI, Operation.GENERATE,
    )  # fmt: skip


def test_no_model_is_named_and_one_that_is_reaches_only_the_gateway() -> None:
    assert call().model == ""
    assert call(model="tiny").model == "tiny"
    assert "model" not in sent(call(model="tiny"))


def test_details_are_asked_for_and_every_other_parameter_keeps_its_bytes() -> None:
    body = b'{"inputs":"x","parameters":{"temperature":1e-1,"seed":18446744073709551615}}'
    assert parsed(GENERATE, body).upstream_body(TGI, "w", stream=False) == (
        b'{"inputs":"x","parameters":{"temperature":1e-1,"seed":18446744073709551615,"details":true}}'
    )


def test_without_parameters_tgi_samples_and_must_go_on_to() -> None:
    assert sent(call())["parameters"] == {"do_sample": True, "details": True}
    assert sent(call(parameters={}))["parameters"] == {"details": True}
    assert sent(call(parameters={"details": False, "do_sample": False}))["parameters"] == {
        "details": True, "do_sample": False,
    }  # fmt: skip


@pytest.mark.parametrize("parameters", [{"details": True}, {"decoder_input_details": True}])
def test_a_client_that_asked_for_details_gets_them_and_its_body_as_it_is(parameters: dict[str, Any]) -> None:
    made = call(parameters=parameters)
    assert made.shows_details
    assert made.upstream_body(TGI, "w", stream=False) == made.body


def test_a_stream_on_the_root_path_can_be_asked_for_where_the_client_wants_a_whole_reply() -> None:
    assert sent(call(ROOT), stream=True)["stream"] is True
    assert "stream" not in sent(call(STREAM), stream=True)


def test_the_output_is_bounded_by_its_limit_and_by_the_sequences_that_are_made_for_one() -> None:
    assert call().output_bound(500) == 500
    assert call(parameters={"max_new_tokens": 7}).output_bound(500) == 7
    assert call(parameters={"max_new_tokens": 7, "best_of": 3}).output_bound(500) == 21


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"inputs": None}, "inputs"), ({"inputs": ["x"]}, "inputs"), ({"parameters": []}, "parameters"), ({"parameters": {"best_of": 0}}, "parameters.best_of"),
        ({"parameters": {"best_of": 10**9}}, "parameters.best_of"), ({"parameters": {"best_of": "2"}}, "best_of"),
        ({"parameters": {"details": 1}}, "details"), ({"model": 5}, "model"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_by_its_name(members: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidInput) as fault:
        call(**members)
    assert fault.value.param == param


def test_a_body_without_inputs_is_refused() -> None:
    with pytest.raises(InvalidInput, match="you must provide inputs"):
        parsed(GENERATE, b"{}")
