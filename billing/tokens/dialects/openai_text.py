"""OpenAI's dialect of text: chat completions, completions and embeddings (openai-openapi ``openapi.yaml``; protocols.md §5)."""

from typing import Any, Self

import msgspec

from billing.errors import InvalidInput
from billing.tokens.call import Asked, Call
from billing.tokens.dialects.openai_text_assembler import TextAssembler
from billing.tokens.dialects.openai_text_meter import TextStreamMeter, Wish
from billing.tokens.dialects.openai_text_reply_meter import TextReplyMeter
from billing.tokens.engines import Engine, Merge
from billing.tokens.members import (
    Members,
    an_object,
    capped_members,
    end_user_of,
    flag,
    items_of,
    members_of,
    model_of,
    output_max,
    shown,
    start,
    text_of,
    whole_number,
    with_members,
)
from billing.tokens.merging import CHOICES_TRACKED_MAX
from billing.tokens.operation import Dialect, Operation

CHOICES_MAX = 128
_PROMPT_STARTS = {b'"', b"[", b"{"}
_SUBJECT = {Operation.CHAT: "messages", Operation.COMPLETIONS: "prompt", Operation.EMBEDDINGS: "input"}
_NAMES_OF_N = ("n", "n_cmpl", "best_of")
"""llama.cpp takes ``n_cmpl`` before ``n`` (measured on 0c1e57098); older servers have ``best_of``."""
_NAMES_OF_LOGPROBS = ("logprobs", "n_probs")
"""``n_probs`` is llama.cpp's own word."""
_NO_LOGPROBS = frozenset({b"nu", b"fa", b"0"})
"""How null, false and 0 begin."""
_OUTPUT_MAX_NAMES = ("max_completion_tokens", "max_tokens", "n_predict")
"""How a client says how much may be generated; ``n_predict`` is llama.cpp's own word."""


class TextCall(Call, frozen=True, kw_only=True):
    """One request for text, or for embeddings of it."""

    members: Members
    wish: Wish
    """What the client itself asked to be told in a stream."""

    def capped(self, cap: int) -> Self:
        """The same call for answers of at most so many tokens."""
        if not self.is_longer(cap):
            return self
        members = capped_members(self.members, _OUTPUT_MAX_NAMES, "max_tokens", cap)
        return msgspec.structs.replace(self, members=members, body=with_members(members, {}), output_max=cap)

    def check(self, engine: Engine) -> None:
        """Raises ``InvalidInput`` for a request whose reply the engine does not count whole."""
        if self.operation is Operation.EMBEDDINGS:
            return
        several = self.choices_at(engine) * self.prompts
        if several > CHOICES_TRACKED_MAX:
            raise InvalidInput(
                f"prompt asks for {several} choices, more than {CHOICES_TRACKED_MAX} at once for {self.model}",
                "prompt",
            )
        if not engine.several_counted_whole:
            self._check_several(engine, several)

    def _check_several(self, engine: Engine, several: int) -> None:
        """The same for an engine whose whole reply does not count several choices or prompts."""
        for name in _NAMES_OF_N:
            named = whole_number(self.members, name)
            if named is None or named == 1:
                continue
            if name not in engine.choices_names or engine.choices is Merge.UNKNOWN:
                raise InvalidInput(f"{name} must be 1 for {self.model}: {_uncounted(engine)}", name)
            # llama.cpp cuts a number to 32 bits: 2 - 2**32 is 2 to it.
            if not 1 <= named <= CHOICES_MAX:
                raise InvalidInput(f"{name} must be 1 to {CHOICES_MAX}, got {named}", name)
        if self.prompts > 1 and engine.choices is Merge.UNKNOWN:
            raise InvalidInput(f"prompt must be one prompt for {self.model}: {_uncounted(engine)}", "prompt")
        if several > 1 and not self.stream and not self._assembles(engine):
            raise InvalidInput(
                f"logprobs of several choices must be streamed for {self.model}: its engine ({engine.title}) does not "
                "count them in a whole reply; send stream: true, or one request for each",
                "logprobs",
            )

    def telling_usage(self) -> Self:
        """The same call of a client that wants a stream's usage told."""
        return msgspec.structs.replace(self, wish=msgspec.structs.replace(self.wish, usage=True))

    def choices_at(self, engine: Engine) -> int:
        """How many choices an engine makes of each prompt; raises ``InvalidInput`` where that is no whole number."""
        for name in engine.choices_names:
            if name in self.members and (choices := whole_number(self.members, name)) is not None:
                return choices
        return 1

    def assembler(self, engine: Engine, *, always: bool = False) -> TextAssembler | None:
        """What makes the whole reply out of a stream, where only a stream is counted; with ``always`` of any such reply.

        None for a call that is not so asked: the client wants the stream itself, or the engine counts the whole reply.
        """
        if self.stream or self.operation is Operation.EMBEDDINGS:
            return None
        if not always and engine.several_counted_whole:
            return None
        choices = self.choices_at(engine)
        if (not always and choices * self.prompts == 1) or not self._assembles(engine):
            return None
        return TextAssembler(engine, self.operation, choices, self.prompts)

    def _assembles(self, engine: Engine) -> bool:
        """Whether a stream has all that the whole reply has."""
        asked = (start(self.members[name], 2) for name in _NAMES_OF_LOGPROBS if name in self.members)
        return engine.logprobs_streamed or all(first in _NO_LOGPROBS for first in asked)

    def output_bound(self, unsaid: int) -> int:
        """The most output tokens that the call may use; embeddings have none."""
        if self.operation is Operation.EMBEDDINGS:
            return 0
        each = unsaid if self.output_max is None else self.output_max
        # Asked for none, llama.cpp makes one (measured on 0c1e57098).
        return max(1, each) * self.answers()

    def upstream_body(self, engine: Engine, backend_model: str, *, stream: bool) -> bytes:
        """The body to send: as it came where nothing must change, else with the model's name and the counts asked for."""
        changes: dict[str, Any] = {} if backend_model == self.model else {"model": backend_model}
        if stream:
            changes.update(engine.stream_fields)
            asked = an_object(self.members, "stream_options")
            # The last timings stand on the usage event where there is one: a client that wants those only would lose them.
            only_timings = self.stream and engine.timings and self.wish.timings and not self.wish.usage
            added = {} if only_timings else engine.stream_options
            if options := asked | added:
                changes["stream_options"] = options
            if not self.stream:
                changes["stream"] = True
        changes.update(dict.fromkeys(engine.members_removed & self.members.keys()))
        return with_members(self.members, changes) if changes else self.body

    def stream_meter(self, engine: Engine) -> TextStreamMeter:
        """What follows the streamed reply."""
        return TextStreamMeter(engine, self.operation, self.choices_at(engine), self.prompts, self.wish)

    def reply_meter(self, engine: Engine, body: bytes) -> TextReplyMeter:
        """What reads the whole reply."""
        return TextReplyMeter(engine, body, self.prompts)


def _uncounted(engine: Engine) -> str:
    return f"its engine ({engine.title}) does not count several in one reply; send one request for each"


def parse(asked: Asked) -> TextCall:
    """The call of a request body; raises ``InvalidInput`` that names the member and says what to write."""
    members = members_of(asked.body)
    model = model_of(members)
    stream = flag(members, "stream")
    if stream and asked.operation is Operation.EMBEDDINGS:
        raise InvalidInput("embeddings cannot be streamed; leave out stream", "stream")
    _check_subject(asked.operation, members)
    options = an_object(members, "stream_options")
    choices = whole_number(members, "n")
    if choices is not None and not 1 <= choices <= CHOICES_MAX:
        raise InvalidInput(f"n must be 1 to {CHOICES_MAX}, got {choices}", "n")
    return TextCall(
        operation=asked.operation,
        dialect=Dialect.OPENAI,
        path=asked.path,
        body=asked.body,
        model=model,
        stream=stream,
        choices=1 if choices is None else choices,
        made=max(choices or 1, output_max(members, *_NAMES_OF_N) or 1),
        prompts=_prompts(asked.operation, members),
        output_max=output_max(members, *_OUTPUT_MAX_NAMES),
        end_user=end_user_of(text_of(members, "user")),
        members=members,
        wish=Wish(
            usage=options.get("include_usage") is True,
            continuous_usage=options.get("continuous_usage_stats") is True,
            timings=flag(members, "timings_per_token"),
        ),
    )


def _check_subject(operation: Operation, members: Members) -> None:
    name = _SUBJECT[operation]
    if name not in members:
        raise InvalidInput(f"you must provide {name}", name)
    first = start(members[name], 1)
    if operation is Operation.CHAT and first != b"[":
        raise InvalidInput(f"messages must be an array of objects, got {shown(members[name])}", name)
    if operation is not Operation.CHAT and first not in {b'"', b"["}:
        raise InvalidInput(f"{name} must be a string or an array, got {shown(members[name])}", name)


def _prompts(operation: Operation, members: Members) -> int:
    """How many prompts a completion asks for: an array of numbers is one prompt, already tokenized."""
    if operation is not Operation.COMPLETIONS or start(members["prompt"], 1) != b"[":
        return 1
    items = items_of(members, "prompt")
    if not items:
        raise InvalidInput("prompt is an empty array; write at least one prompt", "prompt")
    if len(items) > CHOICES_TRACKED_MAX and start(items[0], 1) in _PROMPT_STARTS:
        raise InvalidInput(
            f"prompt is an array of {len(items)} prompts, more than {CHOICES_TRACKED_MAX}", "prompt"
        )
    # A single number among texts makes one prompt of them all (measured on llama.cpp 0c1e57098).
    return len(items) if all(start(item, 1) in _PROMPT_STARTS for item in items) else 1
