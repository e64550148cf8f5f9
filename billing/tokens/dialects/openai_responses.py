"""OpenAI's ``/v1/responses``, ``/v1/responses/compact`` and counting a prompt's tokens (openai-openapi; protocols.md §5)."""

from typing import Any, ClassVar, Self

import msgspec

from billing.errors import InvalidInput
from billing.tokens.call import Asked, Call
from billing.tokens.dialects.openai_responses_assembler import ResponsesAssembler
from billing.tokens.dialects.openai_responses_meter import ResponsesReplyMeter, ResponsesStreamMeter
from billing.tokens.engines import Engine
from billing.tokens.fixed import NOTHING_GENERATED, FixedReplyMeter, UnstreamedMeter
from billing.tokens.members import (
    Members,
    capped_members,
    end_user_of,
    flag,
    members_of,
    model_of,
    output_max,
    shown,
    start,
    text_of,
    whole_number,
    with_members,
)
from billing.tokens.meter import ReplyMeter, StreamMeter
from billing.tokens.operation import Dialect
from billing.tokens.usage import TokenUsage

_NULL = b"null"
_SUBJECTS = ("input", "prompt", "conversation", "previous_response_id")
"""A response goes on from at least one of these."""
_NAMES_OF_N = ("n", "n_cmpl", "best_of")
"""The dialect has none of these, but llama.cpp makes several responses and answers with an array (measured on xllamacpp 2026.10.11549)."""
_OUTPUT_MAX_NAMES = ("max_output_tokens", "max_completion_tokens", "max_tokens", "n_predict")


class ResponsesCall(Call, frozen=True, kw_only=True):
    """One request for a response, or for a shorter conversation in its place (``compact``)."""

    output_member: ClassVar[str] = "max_output_tokens"
    members: Members
    timings_asked: bool = False
    """The client itself asked for llama.cpp's running counts."""

    def capped(self, cap: int) -> Self:
        """The same call for answers of at most so many tokens."""
        if not self.is_longer(cap):
            return self
        members = capped_members(self.members, _OUTPUT_MAX_NAMES, "max_output_tokens", cap)
        return msgspec.structs.replace(self, members=members, body=with_members(members, {}), output_max=cap)

    def upstream_body(self, engine: Engine, backend_model: str, *, stream: bool) -> bytes:
        """The body to send: as it came where nothing must change, else with the model's name and the counts asked for."""
        changes: dict[str, Any] = {} if backend_model == self.model else {"model": backend_model}
        if stream:
            changes.update(engine.stream_fields)
            if not self.stream:
                changes["stream"] = True
        changes.update(dict.fromkeys(engine.members_removed & self.members.keys()))
        return with_members(self.members, changes) if changes else self.body

    def stream_meter(self, engine: Engine) -> ResponsesStreamMeter:
        """What follows the streamed reply."""
        return ResponsesStreamMeter(engine, timings_asked=self.timings_asked)

    def reply_meter(self, engine: Engine, body: bytes) -> ResponsesReplyMeter:
        """What reads the whole reply."""
        return ResponsesReplyMeter(engine, body)

    def assembler(self, engine: Engine, *, always: bool = False) -> ResponsesAssembler | None:  # noqa: ARG002 - every engine ends its stream with the whole reply
        """What makes the whole reply out of a stream; a compaction cannot be streamed."""
        return (
            ResponsesAssembler()
            if always and not self.stream and not self.path.endswith("/compact")
            else None
        )


class CountCall(Call, frozen=True, kw_only=True):
    """One request that counts a prompt's tokens and generates nothing."""

    members: Members

    def output_bound(self, unsaid: int) -> int:  # noqa: ARG002 - nothing is generated, whatever is not said
        """No output."""
        return 0

    def upstream_body(self, engine: Engine, backend_model: str, *, stream: bool) -> bytes:  # noqa: ARG002 - the same for every engine
        """The body to send: as it came, or with the model's name."""
        if backend_model == self.model:
            return self.body
        return with_members(self.members, {"model": backend_model})

    def stream_meter(self, engine: Engine) -> StreamMeter:  # noqa: ARG002 - no engine streams it
        """Never asked: such a reply is not streamed."""
        return UnstreamedMeter()

    def reply_meter(self, engine: Engine, body: bytes) -> ReplyMeter:  # noqa: ARG002 - no engine says more
        """What reads the whole reply: nothing is generated, and the counted prompt is no usage."""
        return FixedReplyMeter(TokenUsage(output=NOTHING_GENERATED))


def parse(asked: Asked) -> ResponsesCall:
    """The call of a request for a response; raises ``InvalidInput`` that names the member and says what to write."""
    members = members_of(asked.body)
    model = model_of(members)
    if flag(members, "background"):
        raise InvalidInput(
            "background must be false: what such a response used would be told later, to a request that does not pass "
            "this gateway's metering; leave it out, and use stream for a long answer",
            "background",
        )
    _check_subject(members)
    return _call(asked, members, model, stream=flag(members, "stream"))


def parse_compact(asked: Asked) -> ResponsesCall:
    """The call of a request to compact a conversation; raises ``InvalidInput``."""
    members = members_of(asked.body)
    model = model_of(members)
    if flag(members, "stream"):
        raise InvalidInput("a compaction cannot be streamed; leave out stream", "stream")
    _check_subject(members)
    return _call(asked, members, model, stream=False)


def parse_count(asked: Asked) -> CountCall:
    """The call of a request that counts the input of a response or of a chat; raises ``InvalidInput``."""
    members = members_of(asked.body)
    model = model_of(members, required=False)
    if flag(members, "stream"):
        raise InvalidInput("a count of tokens cannot be streamed; leave out stream", "stream")
    return CountCall(
        operation=asked.operation, dialect=Dialect.OPENAI, path=asked.path, body=asked.body, model=model, members=members
    )  # fmt: skip


def _call(asked: Asked, members: Members, model: str, *, stream: bool) -> ResponsesCall:
    named = end_user_of(text_of(members, "safety_identifier"), "safety_identifier")
    return ResponsesCall(
        operation=asked.operation,
        dialect=Dialect.OPENAI,
        path=asked.path,
        body=asked.body,
        model=model,
        stream=stream,
        output_max=output_max(members, *_OUTPUT_MAX_NAMES),
        end_user=named or end_user_of(text_of(members, "user")),
        members=members,
        timings_asked=flag(members, "timings_per_token"),
    )


def _check_subject(members: Members) -> None:
    given = [name for name in _SUBJECTS if name in members and bytes(start(members[name], 4)) != _NULL]
    if not given:
        raise InvalidInput("you must provide input", "input")
    for name in _NAMES_OF_N:
        if (number := whole_number(members, name)) is not None and number != 1:
            raise InvalidInput(f"{name} must be 1: a response has one answer; send several requests", name)
    if "input" in given and start(members["input"], 1) not in {b'"', b"["}:
        raise InvalidInput(f"input must be a string or an array, got {shown(members['input'])}", "input")
