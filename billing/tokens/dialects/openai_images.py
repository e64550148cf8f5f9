"""OpenAI's ``/v1/images/generations`` and ``/v1/images/edits`` (openai-openapi; protocols.md §5)."""

from billing.errors import InvalidInput
from billing.tokens import multipart
from billing.tokens.call import JSON, Asked, Call
from billing.tokens.dialects.openai_images_meter import ImagesReplyMeter, ImagesStreamMeter
from billing.tokens.engines import Engine
from billing.tokens.members import (
    Members,
    end_user_of,
    flag,
    members_of,
    model_of,
    text_of,
    whole_number,
    with_members,
)
from billing.tokens.multipart import Form, form_of
from billing.tokens.operation import Dialect
from billing.tokens.usage import Part

IMAGES_MAX = 128


class ImagesCall(Call, frozen=True, kw_only=True):
    """One request for images: JSON, or a form with images to edit. ``choices`` are the images asked for."""

    members: Members | None = None
    form: Form | None = None

    def units(self) -> dict[Part, int]:
        """Images to make."""
        return {Part.IMAGE: self.choices}

    def prompt_bytes(self) -> int:
        """Bytes of text in the request: a picture's are no measure of its tokens."""
        return len(self.body) if self.form is None else self.form.size_of_texts()

    def upstream_body(self, engine: Engine, backend_model: str, *, stream: bool) -> bytes:  # noqa: ARG002 - nothing is asked for
        """The body to send: as it came, or with the model's name."""
        if backend_model == self.model:
            return self.body
        if self.form is not None:
            return self.form.with_texts({"model": backend_model})
        return with_members(self.members or {}, {"model": backend_model})

    def stream_meter(self, engine: Engine) -> ImagesStreamMeter:  # noqa: ARG002 - the same for every engine
        """What follows the streamed reply."""
        return ImagesStreamMeter(self.choices)

    def reply_meter(self, engine: Engine, body: bytes) -> ImagesReplyMeter:  # noqa: ARG002 - the same for every engine
        """What reads the whole reply."""
        return ImagesReplyMeter(body)


def parse(asked: Asked) -> ImagesCall:
    """The call of a request in JSON; raises ``InvalidInput`` that names the member and says what to write."""
    members = members_of(asked.body)
    model = model_of(members)
    if text_of(members, "prompt") is None:
        raise InvalidInput("you must provide prompt", "prompt")
    named = end_user_of(text_of(members, "safety_identifier"), "safety_identifier")
    return ImagesCall(
        operation=asked.operation,
        dialect=Dialect.OPENAI,
        path=asked.path,
        body=asked.body,
        content_type=JSON,
        model=model,
        stream=flag(members, "stream"),
        choices=_images(whole_number(members, "n")),
        end_user=named or end_user_of(text_of(members, "user")),
        members=members,
    )


def parse_edit(asked: Asked) -> ImagesCall:
    """The call of images to edit: a form, or JSON that names them; raises ``InvalidInput``."""
    if asked.content_type.lstrip().lower().startswith(JSON):
        return parse(asked)
    form = form_of(asked.content_type, asked.body)
    model = multipart.model_of(form)
    if form.field("prompt") is None:
        raise InvalidInput("you must provide prompt", "prompt")
    return ImagesCall(
        operation=asked.operation,
        dialect=Dialect.OPENAI,
        path=asked.path,
        body=asked.body,
        content_type=form.content_type,
        model=model,
        stream=multipart.flag(form, "stream"),
        choices=_images(multipart.whole_number(form, "n")),
        end_user=end_user_of(form.text("user")),
        form=form,
    )


def _images(number: int | None) -> int:
    if number is not None and not 1 <= number <= IMAGES_MAX:
        raise InvalidInput(f"n must be 1 to {IMAGES_MAX}, got {number}", "n")
    return 1 if number is None else number
