"""Anthropic's dialect: messages, and counting the tokens of one that is not sent (Anthropic's SDK ``types``; protocols.md §5)."""

from typing import Any, Self

import msgspec

from billing.errors import InvalidInput
from billing.tokens.call import Asked, Call
from billing.tokens.dialects.anthropic_meter import (
    CountTokensReplyMeter,
    CountTokensStreamMeter,
    MessageReplyMeter,
    MessageStreamMeter,
)
from billing.tokens.engines import Engine
from billing.tokens.members import (
    Members,
    capped_members,
    end_user_of,
    flag,
    member,
    members_of,
    model_of,
    output_max,
    shown,
    start,
    text_of,
    with_members,
)
from billing.tokens.meter import ReplyMeter, StreamMeter
from billing.tokens.operation import Dialect, Operation

_END_USER = "metadata.user_id"
_object = msgspec.json.Decoder(Members | None).decode


class AnthropicCall(Call, frozen=True, kw_only=True):
    """One message to be answered, or only to be counted.

    Nothing has to be asked for: usage is part of the protocol. Several choices do not exist in it; llama.cpp passes over
    ``n``, ``n_cmpl`` and ``n_predict`` here (measured on 0c1e57098: one answer, whatever they said).
    """

    members: Members

    def upstream_body(self, engine: Engine, backend_model: str, *, stream: bool) -> bytes:
        """The body to send: as it came where nothing must change, else with the model's name at the backend."""
        changes: dict[str, Any] = {} if backend_model == self.model else {"model": backend_model}
        if stream and not self.stream:
            changes["stream"] = True
        changes.update(dict.fromkeys(engine.members_removed & self.members.keys()))
        return with_members(self.members, changes) if changes else self.body


class MessageCall(AnthropicCall, frozen=True, kw_only=True):
    """One message to be answered."""

    def capped(self, cap: int) -> Self:
        """The same call for answers of at most so many tokens."""
        if not self.is_longer(cap):
            return self
        members = capped_members(self.members, ("max_tokens",), "max_tokens", cap)
        return msgspec.structs.replace(self, members=members, body=with_members(members, {}), output_max=cap)

    def stream_meter(self, engine: Engine) -> StreamMeter:
        """What follows the streamed reply."""
        return MessageStreamMeter(engine)

    def reply_meter(self, engine: Engine, body: bytes) -> ReplyMeter:
        """What reads the whole reply."""
        return MessageReplyMeter(engine, body)


class CountTokensCall(AnthropicCall, frozen=True, kw_only=True):
    """One message whose tokens are to be counted: nothing is generated, and it is no usage."""

    def output_bound(self, unsaid: int) -> int:  # noqa: ARG002 - no answer is made, whatever the caller says
        """No output."""
        return 0

    def stream_meter(self, engine: Engine) -> StreamMeter:  # noqa: ARG002 - no engine's reply holds usage
        """What follows a reply that no engine streams."""
        return CountTokensStreamMeter()

    def reply_meter(self, engine: Engine, body: bytes) -> ReplyMeter:  # noqa: ARG002 - no engine's reply holds usage
        """What reads the whole reply."""
        return CountTokensReplyMeter(body)


def parse(asked: Asked) -> AnthropicCall:
    """The call of a request body; raises ``InvalidInput`` that names the member and says what to write."""
    members = members_of(asked.body)
    is_counted_only = asked.operation is Operation.COUNT_TOKENS
    kind = CountTokensCall if is_counted_only else MessageCall
    model = model_of(members)
    _check_messages(members)
    return kind(
        operation=asked.operation,
        dialect=Dialect.ANTHROPIC,
        path=asked.path,
        body=asked.body,
        model=model,
        # Engines pass over `stream` where they only count.
        stream=not is_counted_only and flag(members, "stream"),
        output_max=output_max(members, "max_tokens"),
        end_user=_end_user(members),
        members=members,
    )


def _check_messages(members: Members) -> None:
    if "messages" not in members:
        raise InvalidInput("you must provide messages", "messages")
    if start(members["messages"], 1) != b"[":
        raise InvalidInput(
            f"messages must be an array of objects, got {shown(members['messages'])}", "messages"
        )


def _end_user(members: Members) -> str | None:
    """Whom the caller serves: ``metadata.user_id``, which Anthropic calls an opaque identifier."""
    metadata: Members = member(members, "metadata", _object, "an object") or {}
    named = {_END_USER: metadata["user_id"]} if "user_id" in metadata else {}
    return end_user_of(text_of(named, _END_USER), _END_USER)
