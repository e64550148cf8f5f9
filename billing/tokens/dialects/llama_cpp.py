"""llama.cpp's own dialect: ``/completion``, ``/completions``, ``/infill``, ``/tokenize`` and ``/detokenize``.

Facts: ``tools/server`` of 0c1e57098 (protocols.md §3), measured again on xllamacpp 2026.10.11549. ``n_cmpl`` goes before
``n``, ``n_predict`` before the names of OpenAI; null is the same as absent. A prompt is a text, tokens, both mixed, or an
object with text and media; an array without a number in it is an array of prompts. Whole replies are exact here for several
answers, too: an array with one object for each.
"""

from typing import Any, ClassVar, Self

import msgspec

from billing.errors import InvalidInput
from billing.tokens.assembler import Assembler
from billing.tokens.call import Asked, Call
from billing.tokens.dialects.llama_cpp_assembler import NativeAssembler
from billing.tokens.dialects.llama_cpp_fields import View
from billing.tokens.dialects.llama_cpp_meter import TOKENIZED, NativeReplyMeter, NativeStreamMeter
from billing.tokens.engines import Engine
from billing.tokens.fixed import FixedReplyMeter, UnstreamedMeter
from billing.tokens.members import (
    Members,
    capped_members,
    count_of,
    flag,
    items_of,
    members_of,
    model_of,
    output_max,
    shown,
    start,
    whole_number,
    with_members,
)
from billing.tokens.operation import Dialect, Operation
from billing.tokens.tally import ANSWERS_MAX

CHOICES_MAX = 128
RESPONSE_FIELDS_MAX = 100
_CHOICES_NAMES = ("n_cmpl", "n")
_OUTPUT_MAX_NAMES = ("max_completion_tokens", "max_tokens")
_NUMBER_STARTS = frozenset(b"-0123456789")
_NULL = b"null"
_fields = msgspec.json.Decoder(list[str]).decode


class NativeCall(Call, frozen=True, kw_only=True):
    """One request for text after a prompt, or between two texts."""

    output_member: ClassVar[str] = "n_predict"
    members: Members
    view: View
    """What the client asked to see of the reply."""

    def capped(self, cap: int) -> Self:
        """The same call for answers of at most so many tokens."""
        if not self.is_longer(cap):
            return self
        members = capped_members(self.members, ("n_predict", *_OUTPUT_MAX_NAMES), "n_predict", cap)
        return msgspec.structs.replace(self, members=members, body=with_members(members, {}), output_max=cap)

    def output_bound(self, unsaid: int) -> int:
        """The most output tokens that the call may use: a limit of 0 still generates one (measured)."""
        return max(super().output_bound(unsaid), self.choices * self.prompts)

    def upstream_body(self, engine: Engine, backend_model: str, *, stream: bool) -> bytes:
        """The body to send: as it came where nothing must change, else with the model's name and the counts asked for."""
        changes: dict[str, Any] = {} if backend_model == self.model else {"model": backend_model}
        if stream:
            changes.update(engine.stream_fields)
            if not self.stream:
                changes["stream"] = True
        if self.view.fields:
            changes["response_fields"] = self.view.upstream_fields()
        return with_members(self.members, changes) if changes else self.body

    def stream_meter(self, engine: Engine) -> NativeStreamMeter:  # noqa: ARG002 - one engine speaks this dialect
        """What follows the streamed reply."""
        return NativeStreamMeter(self.choices, self.prompts, self.view)

    def reply_meter(self, engine: Engine, body: bytes) -> NativeReplyMeter:  # noqa: ARG002 - one engine speaks this dialect
        """What reads the whole reply."""
        return NativeReplyMeter(body, self.choices, self.prompts, self.view)

    def assembler(self, engine: Engine, *, always: bool = False) -> Assembler | None:  # noqa: ARG002 - one engine speaks this dialect
        """What makes the whole reply out of a stream, None for a call whose client wants the stream.

        None also where both a stop word and probabilities are asked for: of those of the stop word's tokens a whole reply
        leaves out as many as the word alone has, which a stream does not tell.
        """
        members = self.members
        # The engine counts what it sends whole, several answers too: only a hang-up needs the stream.
        if (
            self.stream
            or not always
            or (_said(members, "stop") and (_said(members, "n_probs") or _said(members, "logprobs")))
        ):
            return None
        return NativeAssembler(
            self.view, self.choices * self.prompts, tokens=_is_true(members, "return_tokens")
        )


class TokenizeCall(Call, frozen=True, kw_only=True):
    """The tokens of a text, or the text of tokens: nothing is used."""

    members: Members

    def output_bound(self, unsaid: int) -> int:  # noqa: ARG002 - there is no output
        """None."""
        return 0

    def upstream_body(self, engine: Engine, backend_model: str, *, stream: bool) -> bytes:  # noqa: ARG002 - all engines are asked alike
        """The body as it came, with the backend's name of the model."""
        if backend_model == self.model:
            return self.body
        return with_members(self.members, {"model": backend_model})

    def stream_meter(self, engine: Engine) -> UnstreamedMeter:  # noqa: ARG002 - there are no streams
        """It is never streamed."""
        return UnstreamedMeter()

    def reply_meter(self, engine: Engine, body: bytes) -> FixedReplyMeter:  # noqa: ARG002 - nothing is read
        """Nothing was used."""
        return FixedReplyMeter(TOKENIZED)


def parse(asked: Asked) -> NativeCall | TokenizeCall:
    """The call of a request body; raises ``InvalidInput`` that names the member and says what to write."""
    members = members_of(asked.body)
    if asked.operation in {Operation.TOKENIZE, Operation.DETOKENIZE}:
        return TokenizeCall(
            operation=asked.operation,
            dialect=Dialect.LLAMA_CPP,
            path=asked.path,
            body=asked.body,
            model=model_of(members, required=False),
            members=members,
        )
    choices, prompts = _choices(members), _prompts(asked.operation, members)
    if choices * prompts > ANSWERS_MAX:
        raise InvalidInput(
            f"{prompts} prompts with {choices} answers each are more than {ANSWERS_MAX} answers", "prompt"
        )
    return NativeCall(
        operation=asked.operation,
        dialect=Dialect.LLAMA_CPP,
        path=asked.path,
        body=asked.body,
        model=model_of(members, required=False),
        stream=flag(members, "stream"),
        choices=choices,
        prompts=prompts,
        output_max=_output_max(members),
        members=members,
        view=View(fields=_response_fields(members), timed=flag(members, "timings_per_token")),
    )


def _choices(members: Members) -> int:
    for name in _CHOICES_NAMES:
        choices = whole_number(members, name)
        if choices is not None and not 1 <= choices <= CHOICES_MAX:
            raise InvalidInput(f"{name} must be 1 to {CHOICES_MAX}, got {choices}", name)
        if choices is not None:
            return choices
    return 1


def _output_max(members: Members) -> int | None:
    """A negative ``n_predict`` is endless, whatever the other names say; which of those holds depends on the build."""
    if _said(members, "n_predict"):
        return count_of(members, "n_predict")
    return output_max(members, *_OUTPUT_MAX_NAMES)


def _prompts(operation: Operation, members: Members) -> int:
    """How many prompts are asked for: an array with a number in it is one prompt, tokens or tokens and texts."""
    if operation is Operation.INFILL:
        return 1
    if "prompt" not in members:
        raise InvalidInput("you must provide prompt", "prompt")
    kind = start(members["prompt"], 1)
    if kind not in {b'"', b"[", b"{"}:
        raise InvalidInput(
            f"prompt must be a string, an array or an object, got {shown(members['prompt'])}", "prompt"
        )
    if kind != b"[":
        return 1
    items = items_of(members, "prompt")
    if not items:
        raise InvalidInput("prompt is an empty array; write at least one prompt", "prompt")
    return 1 if any(start(item, 1)[0] in _NUMBER_STARTS for item in items) else len(items)


def _response_fields(members: Members) -> tuple[str, ...]:
    """The members of the reply that the client names; what is no list of names asks for all of them, as the engine reads it."""
    try:
        fields = _fields(members.get("response_fields", _NULL))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ()
    if len(fields) > RESPONSE_FIELDS_MAX:
        raise InvalidInput(
            f"response_fields names {len(fields)} fields, more than {RESPONSE_FIELDS_MAX}", "response_fields"
        )
    return tuple(fields)


def _said(members: Members, name: str) -> bool:
    return name in members and start(members[name], 4) != _NULL


def _is_true(members: Members, name: str) -> bool:
    return name in members and start(members[name], 4) == b"true"
