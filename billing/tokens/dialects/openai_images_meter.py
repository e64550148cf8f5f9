"""Counts the replies of image generations and edits, streamed and whole (openai-openapi; protocols.md §5)."""

import msgspec

from billing.tokens.dialects.openai_usage import Usage, summed, usage_of
from billing.tokens.meter import Edit, ReplyMeter, StreamMeter
from billing.tokens.payload import count
from billing.tokens.salvage import is_said, read
from billing.tokens.sse import DONE
from billing.tokens.usage import Count, Part, Provenance, TokenUsage, clamp

_COMPLETED = frozenset({"image_generation.completed", "image_edit.completed"})
_PARTIAL = ".partial_image"


class Picture(msgspec.Struct, frozen=True):
    """One element of ``data``: that it is there is all that is read of it."""


class SvgUsage(msgspec.Struct, frozen=True):
    """``svg_usage``: what a second model used, beside ``usage``."""

    total_tokens: int | None = None


class Images(msgspec.Struct, frozen=True):
    """A whole reply, or an event of a stream."""

    type: str | None = None
    data: list[Picture] = []
    usage: Usage | None = None
    svg_usage: SvgUsage | None = None
    error: msgspec.Raw = msgspec.Raw()


_IMAGES = msgspec.json.Decoder(Images)


def counted(reply: Images, images: int) -> TokenUsage:
    """Tokens where the reply says them, else its images. What a second model used is shown as hidden."""
    usage = TokenUsage()
    if reply.usage is not None and not reply.usage.empty:
        usage = usage_of(reply.usage)
    elif images:
        usage = TokenUsage(parts={Part.IMAGE: Count(images, Provenance.REPORTED, "images of the reply")})
    second = count(
        reply.svg_usage.total_tokens if reply.svg_usage else None,
        Provenance.REPORTED,
        "svg_usage.total_tokens",
    )
    return clamp(
        msgspec.structs.replace(usage, parts=usage.parts | {Part.HIDDEN: second}) if second.value else usage
    )


class ImagesStreamMeter(StreamMeter):
    """Follows ``image_generation.…`` or ``image_edit.…`` events: each image ends with a completed one that has its usage."""

    __slots__ = ("_images", "_usages")

    def __init__(self, images: int) -> None:
        super().__init__()
        self._images = images
        self._usages: list[TokenUsage] = []

    def see(self, data: bytes, now_us: int) -> Edit:
        """One event's data; every byte of it is the client's."""
        if data == DONE:
            self.done = True
            return Edit.KEEP
        event = read(_IMAGES, data)
        if event is None:
            return Edit.KEEP
        kind = event.type or ""
        if kind == "error" or is_said(event.error):
            self.failed = True
        if kind in _COMPLETED or kind.endswith(_PARTIAL):
            self.spoke(now_us, answer=True)
        if kind in _COMPLETED and len(self._usages) < self._images:
            self._usages.append(counted(event, 1))
            self.finished = True
            self.done = len(self._usages) == self._images
        return Edit.KEEP

    def usage(self) -> TokenUsage:
        """The usage of the images that are complete, added up; unknown before the first is."""
        return clamp(summed(self._usages)) if self._usages else TokenUsage()


class ImagesReplyMeter(ReplyMeter):
    """Reads the counts of one whole reply."""

    __slots__ = ("_reply",)

    response_id = None
    response_model = None

    def __init__(self, body: bytes) -> None:
        self._reply = read(_IMAGES, body) or Images()

    def usage(self) -> TokenUsage:
        """The counts that the reply reports, else the number of its images; unknown when it has neither."""
        return counted(self._reply, len(self._reply.data))
