"""What every call does where its dialect says nothing else."""

import pytest

from billing.tokens.call import Asked, Call
from billing.tokens.engines import LLAMA_CPP
from billing.tokens.operation import Operation
from tests.call_kit import text_call

BODY = b'{"model":"tiny","messages":[{"role":"user","content":"secret"}],"n":2,"max_tokens":7}'
CALL = text_call(Operation.CHAT, BODY)


def test_a_call_is_an_idea_until_a_dialect_has_made_it() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Call(operation=Operation.CHAT, dialect=CALL.dialect, path="/", body=b"", model="m")


def test_neither_a_call_nor_what_was_asked_shows_a_prompt() -> None:
    assert "secret" not in repr(CALL)
    assert "secret" not in repr(Asked(Operation.CHAT, "/v1/chat/completions", BODY))


def test_every_choice_of_every_prompt_may_be_as_long_as_was_asked() -> None:
    assert CALL.output_bound(1_000) == 14
    assert text_call(Operation.CHAT, b'{"model":"m","messages":[],"n":3}').output_bound(100) == 300


def test_what_most_calls_have_not() -> None:
    assert (CALL.units(), CALL.prompt_bytes(), CALL.upstream_path("weights")) == (
        {},
        len(BODY),
        "/v1/chat/completions",
    )
    embeddings = text_call(Operation.EMBEDDINGS, b'{"model":"m","input":"x"}')
    assert embeddings.assembler(LLAMA_CPP) is None
    embeddings.check(LLAMA_CPP)
