"""Meters of replies whose usage does not stand in them: it is known beforehand, or there is nothing to follow (pure)."""

from billing.tokens.meter import Edit, ReplyMeter, StreamMeter
from billing.tokens.usage import Count, Provenance, TokenUsage

NOTHING_GENERATED = Count(0, Provenance.REPORTED, "this operation generates nothing")
"""The output of an operation that only reads."""


class FixedReplyMeter(ReplyMeter):
    """A whole reply of fixed usage, whatever stands in it."""

    __slots__ = ("_usage",)

    def __init__(self, usage: TokenUsage) -> None:
        self._usage = usage

    @property
    def response_id(self) -> str | None:
        """None is read."""
        return None

    @property
    def response_model(self) -> str | None:
        """None is read."""
        return None

    def usage(self) -> TokenUsage:
        """The fixed usage."""
        return self._usage


class UnstreamedMeter(StreamMeter):
    """Stands where a stream's meter is expected though the operation has no streams: an event tells it nothing."""

    __slots__ = ()

    def see(self, data: bytes, now_us: int) -> Edit:  # noqa: ARG002 - nothing is known of such an event
        """Every event passes."""
        return Edit.KEEP

    def usage(self) -> TokenUsage:
        """Unknown."""
        return TokenUsage()
