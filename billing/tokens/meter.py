"""What counts the tokens of one reply as it passes, and says which of its bytes the client must not see.

A meter holds counts and instants only, never text (P13), except where reasoning must be counted by a tokenizer: that
text is bounded and ends with the meter. Instants are microseconds; the caller supplies them.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from enum import Enum, auto

from billing.tokens.tags import Tags
from billing.tokens.usage import UNKNOWN, Count, TokenUsage


class Edit(Enum):
    """What becomes of an event on its way to the client."""

    KEEP = auto()
    STRIP = auto()
    """Take out the members that only metering asked for."""
    DROP = auto()
    """The event exists only because metering asked for it."""


class StreamMeter(ABC):
    """Follows the events of one stream. ``see`` each event's data in order, then read ``usage`` and the latencies.

    When ``done`` becomes true the event just seen is the stream's terminal one: the record must be on disk before it
    leaves (P2).
    """

    __slots__ = (
        "cut", "done", "events_spoken", "failed", "finished", "first_answer_us", "first_token_us", "gap_max_us", "last_token_us", "response_id",
        "response_model",
    )  # fmt: skip

    def __init__(self) -> None:
        self.response_id: str | None = None
        self.response_model: str | None = None
        self.first_token_us: int | None = None
        """When the first generated text was seen, reasoning or answer."""
        self.first_answer_us: int | None = None
        """When the first text of the answer was seen, after reasoning."""
        self.last_token_us: int | None = None
        self.gap_max_us = 0
        """The longest time between two events with text; one of them may hold several tokens."""
        self.events_spoken = 0
        """Events with generated text."""
        self.finished = False
        """Every choice has given its reason to finish: usage is on its way."""
        self.failed = False
        """The engine sent an error inside the stream."""
        self.done = False
        self.cut = 0
        """Where all that ``strip`` takes out of the event just seen is the last member of its JSON: how many bytes of its end.

        That member, its comma and the closing brace; 0 where it stands elsewhere, or nobody has looked.
        """

    def __repr__(self) -> str:
        state = (
            "done" if self.done else "failed" if self.failed else "finished" if self.finished else "running"
        )
        return f"<{type(self).__name__} {state} output={self.usage().output}>"

    @abstractmethod
    def see(self, data: bytes, now_us: int) -> Edit:
        """One event's data; what the client may see of it."""

    @abstractmethod
    def usage(self) -> TokenUsage:
        """The counts as known now: the engine's final usage if it came, else its last running counts."""

    def strip(self, data: bytes) -> bytes:
        """An event's data without the members that the client did not ask for; every other member's bytes stay."""
        return data

    def watch_reasoning(self, *, keeps: bool, tags: Tags | None) -> None:  # noqa: B027 - most replies hold no reasoning
        """Before the first event: ``keeps`` the text of reasoning for a tokenizer; ``tags`` that mark it in an answer."""

    def reasoning_text(self) -> str | None:
        """The kept reasoning text; None when the count is known, when there is no such text, or not all of it was kept."""
        return None

    def reasoning_estimate(self) -> Count:
        """Reasoning tokens where no tokenizer counts them, better than by the length of the text; most replies have none."""
        return UNKNOWN

    def forget(self) -> None:  # noqa: B027 - most meters keep no text
        """Drop the text that is kept (P13)."""

    def spoke(self, now_us: int, *, answer: bool) -> None:
        """Generated text was seen; ``answer`` whether any of it was not reasoning."""
        self.events_spoken += 1
        if self.last_token_us is None:
            self.first_token_us = now_us
        elif now_us - self.last_token_us > self.gap_max_us:
            self.gap_max_us = now_us - self.last_token_us
        self.last_token_us = now_us
        if answer and self.first_answer_us is None:
            self.first_answer_us = now_us

    def itl_us(self) -> int | None:
        """Mean time per output token after the first, (last − first) / (n − 1); None below two tokens."""
        output = self.usage().output.value
        if self.first_token_us is None or self.last_token_us is None or output is None or output < 2:  # noqa: PLR2004 - one gap needs two tokens
            return None
        return (self.last_token_us - self.first_token_us) // (output - 1)


class ReplyMeter(ABC):
    """Reads the counts of one whole, not streamed reply."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.usage().output}>"

    @property
    @abstractmethod
    def response_id(self) -> str | None:
        """The engine's id of the reply."""

    @property
    @abstractmethod
    def response_model(self) -> str | None:
        """What the engine calls its model; never what is priced."""

    @abstractmethod
    def usage(self) -> TokenUsage:
        """The counts that the reply reports; unknown ones when it reports none."""

    @property
    def failed(self) -> bool:
        """Whether the reply is an error though its status says success, as some servers answer."""
        return False

    def heard(self, headers: Iterable[tuple[bytes, bytes]]) -> None:  # noqa: B027 - most engines count in the body
        """Take what the reply's headers say (names in lower case); before ``usage`` is read."""

    def reasoning_text(self) -> str | None:
        """The reasoning text to be counted by a tokenizer; None when the count is reported or there is no such text."""
        return None

    def reasoning_estimate(self) -> Count:
        """Reasoning tokens where no tokenizer counts them, better than by the length of the text; most replies have none."""
        return UNKNOWN

    def split_reasoning(self, tags: Tags) -> None:  # noqa: B027 - most replies hold no reasoning
        """Take ``tags`` for what marks reasoning in an answer; before ``usage`` is read."""

    def stripped(self, body: bytes) -> bytes:
        """The reply without what only metering asked for."""
        return body
