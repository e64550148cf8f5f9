"""Ollama's own API: chat, generate, embed, embeddings and show (ollama/ollama@fb307609 ``api/types.go``, ``server/routes.go``).

Its counts are part of every reply, so nothing is asked for besides. A request streams unless it says otherwise.
"""

from typing import Any, ClassVar, Self

import msgspec

from billing.tokens.call import Asked, Call
from billing.tokens.dialects.ollama_meter import (
    EmbeddedReplyMeter,
    OllamaReplyMeter,
    OllamaStreamMeter,
)
from billing.tokens.engines import Engine
from billing.tokens.fixed import FixedReplyMeter
from billing.tokens.members import (
    Members,
    an_object,
    check_spelling,
    flag,
    members_of,
    model_of,
    text_of,
    with_members,
)
from billing.tokens.meter import ReplyMeter
from billing.tokens.operation import Dialect, Framing, Operation
from billing.tokens.usage import COUNT_MAX, Count, Provenance, TokenUsage

_TEXT = frozenset({Operation.CHAT, Operation.GENERATE})
_NO_OUTPUT = Count(0, Provenance.REPORTED, "embeddings generate nothing")
_NO_TOKENS = Count(0, Provenance.REPORTED, "a model is described, not asked")
_KNOWN = {
    Operation.EMBEDDINGS: TokenUsage(output=_NO_OUTPUT),
    Operation.SHOW: TokenUsage(input=_NO_TOKENS, output=_NO_TOKENS),
}
"""What is sure of an operation before its reply."""


class OllamaCall(Call, frozen=True, kw_only=True):
    """One request to Ollama's own API."""

    output_member: ClassVar[str] = "options.num_predict"
    members: Members

    def output_bound(self, unsaid: int) -> int:
        """The most output tokens that the call may use; embeddings and descriptions have none."""
        return super().output_bound(unsaid) if self.operation in _TEXT else 0

    def capped(self, cap: int) -> Self:
        """The same call for answers of at most so many tokens."""
        if not self.is_longer(cap):
            return self
        options = an_object(self.members, "options") | {"num_predict": cap}
        body = with_members(self.members, {"options": options})
        return msgspec.structs.replace(self, members=members_of(body), body=body, output_max=cap)

    def upstream_body(self, engine: Engine, backend_model: str, *, stream: bool) -> bytes:
        """The body to send: as it came unless the model has another name there, or a stream is wanted for a whole reply."""
        changes: dict[str, Any] = (
            {} if backend_model == self.model else {"model": backend_model, "name": None}
        )
        if stream and not self.stream:
            changes["stream"] = True
        changes.update(dict.fromkeys(engine.members_removed & self.members.keys()))
        return with_members(self.members, changes) if changes else self.body

    def stream_meter(self, engine: Engine) -> OllamaStreamMeter:  # noqa: ARG002 - every engine of this dialect reports alike
        """What follows the streamed reply."""
        return OllamaStreamMeter(self._known())

    def reply_meter(self, engine: Engine, body: bytes) -> ReplyMeter:  # noqa: ARG002 - every engine of this dialect reports alike
        """What reads the whole reply; a request to stream is answered whole where its prompt is empty."""
        if self.operation is Operation.SHOW:
            return FixedReplyMeter(self._known())
        if self.operation is Operation.EMBEDDINGS:
            return EmbeddedReplyMeter(body, self._known())
        return OllamaReplyMeter(body, self._known())

    def _known(self) -> TokenUsage:
        return _KNOWN.get(self.operation) or TokenUsage()


def parse(asked: Asked) -> OllamaCall:
    """The call of a request body; raises ``InvalidInput`` that names the member and says what to write."""
    members = members_of(asked.body)
    check_spelling(members)
    return OllamaCall(
        operation=asked.operation,
        dialect=Dialect.OLLAMA,
        path=asked.path,
        body=asked.body,
        content_type=asked.content_type,
        model=_model(asked.operation, members),
        stream=asked.operation in _TEXT and flag(members, "stream", unsaid=True),
        framing=Framing.NDJSON,
        output_max=_output_max(an_object(members, "options").get("num_predict")),
        members=members,
    )


def _model(operation: Operation, members: Members) -> str:
    """The model's name; ``show`` has an older word for it, which counts where the newer one is empty."""
    if operation is Operation.SHOW and "name" in members and not text_of(members, "model"):
        return model_of({"model": members["name"]})
    return model_of(members)


def _output_max(asked: object) -> int | None:
    """The most tokens that may be generated; 0, -1 and -2 set no such limit, and a fraction is cut off."""
    if isinstance(asked, bool) or not isinstance(asked, int | float):
        return None
    return int(asked) if 1 <= asked <= COUNT_MAX else None
