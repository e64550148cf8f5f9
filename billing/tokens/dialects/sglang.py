"""SGLang's native ``/generate``: parsed for its usage, not proxied (SGLang 0.5.23; protocols.md §6).

Each event and each whole reply holds ``meta_info`` with counts that grow: the last says all, and a chunk is not a token.
The text grows, too. Several answers are a list, in a stream told apart by ``index``; each says the whole prompt.
"""

from typing import Any

import msgspec

from billing.tokens.meter import Edit, ReplyMeter, StreamMeter
from billing.tokens.salvage import is_array, read, read_each
from billing.tokens.sse import DONE
from billing.tokens.tally import Answer, Names, Tally
from billing.tokens.usage import Provenance, TokenUsage, clamp

NAMES = Names(
    input="meta_info.prompt_tokens", cached="meta_info.cached_tokens", output="meta_info.completion_tokens",
    reasoning="meta_info.reasoning_tokens",
)  # fmt: skip


class MetaInfo(msgspec.Struct, frozen=True):
    """The counts so far; ``finish_reason`` is an object, in old builds a word, and null before the end."""

    id: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    finish_reason: Any = None


class Generated(msgspec.Struct, frozen=True):
    """A whole reply, or one event of a stream."""

    index: int = 0
    text: str | None = None
    output_ids: Any = None
    meta_info: MetaInfo | None = None
    error: Any = None


_decoder = msgspec.json.Decoder(Generated)
_array_decoder = msgspec.json.Decoder(list[Generated])


def _count(answer: Answer, meta_info: MetaInfo) -> bool:
    """Take an answer's counts; whether its output has grown."""
    before = answer.output or 0
    answer.advance(
        meta_info.prompt_tokens, meta_info.cached_tokens, meta_info.completion_tokens, meta_info.reasoning_tokens
    )  # fmt: skip
    return (answer.output or 0) > before


class SglangStreamMeter(StreamMeter):
    """Follows a stream of one or several answers."""

    __slots__ = ("_expected", "_finished", "_tally")

    def __init__(self, choices: int = 1, prompts: int = 1) -> None:
        super().__init__()
        self._expected = choices * prompts
        self._finished: set[int] = set()
        self._tally = Tally(NAMES, choices, prompts)

    def see(self, data: bytes, now_us: int) -> Edit:
        """One event's data; the client sees all of it."""
        if data == DONE:
            self.done = True
            return Edit.KEEP
        event = read(_decoder, data)
        if event is None:
            return Edit.KEEP
        self.failed = self.failed or bool(event.error)
        meta_info = event.meta_info or MetaInfo()
        self.response_id = self.response_id or meta_info.id
        # The text is all that was said so far: what is new shows in the count.
        if _count(self._tally.answer(event.index), meta_info) and (event.text or event.output_ids):
            self.spoke(now_us, answer=True)
        if meta_info.finish_reason and len(self._finished) < self._expected:
            self._finished.add(event.index)
            self.finished = len(self._finished) >= self._expected
        return Edit.KEEP

    def usage(self) -> TokenUsage:
        """The counts as known now: reported once every answer has its reason to finish, else running."""
        return clamp(self._tally.usage(Provenance.REPORTED if self.finished else Provenance.RUNNING))


class SglangReplyMeter(ReplyMeter):
    """Reads one whole reply, or a list of them."""

    __slots__ = ("_id", "_tally")

    def __init__(self, body: bytes, choices: int = 1, prompts: int = 1) -> None:
        self._tally = Tally(NAMES, choices, prompts)
        self._id: str | None = None
        for number, reply in enumerate(_replies(body)):
            meta_info = reply.meta_info or MetaInfo()
            self._id = self._id or meta_info.id
            _count(self._tally.answer(number), meta_info)

    @property
    def response_id(self) -> str | None:
        """The engine's id of the first answer."""
        return self._id

    @property
    def response_model(self) -> str | None:
        """It does not say."""
        return None

    def usage(self) -> TokenUsage:
        """The counts that the reply reports; unknown ones when it reports none."""
        return clamp(self._tally.usage(Provenance.REPORTED))


def _replies(body: bytes) -> list[Generated]:
    if is_array(body):
        return read_each(_array_decoder, Generated, body) or []
    reply = read(_decoder, body)
    return [] if reply is None else [reply]
