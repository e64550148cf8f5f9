"""TGI's own API: ``/generate``, ``/generate_stream`` and the root path (text-generation-inference@db931fcf ``router/src``).

No model stands in a request, since a server has one. Counts come in ``details`` only, so details are asked for, and taken
out again where the client did not.
"""

from typing import Any, ClassVar, Self

import msgspec

from billing.errors import InvalidInput
from billing.tokens.call import Asked, Call
from billing.tokens.dialects.tgi_meter import TgiReplyMeter, TgiStreamMeter
from billing.tokens.engines import Engine
from billing.tokens.members import (
    Members,
    capped_members,
    flag,
    member,
    members_of,
    model_of,
    output_max,
    shown,
    start,
    whole_number,
    with_members,
)
from billing.tokens.operation import Dialect, Framing

ROOT_PATH = "/"
STREAM_PATH = "/generate_stream"
BEST_OF_MAX = 128
_DETAILS = msgspec.Raw(b"true")
_SAMPLED = msgspec.Raw(b"true")
"""Without ``parameters`` TGI samples, and with them it does not unless they say so (``default_parameters``)."""
_decode_parameters = msgspec.json.Decoder(Members | None).decode


class TgiCall(Call, frozen=True, kw_only=True):
    """One request for text after a prompt."""

    output_member: ClassVar[str] = "parameters.max_new_tokens"
    members: Members
    parameters: Members | None
    """None where the request has none, which is not the same as empty ones."""
    shows_details: bool
    """Whether the client itself asked for details."""

    def capped(self, cap: int) -> Self:
        """The same call for answers of at most so many tokens."""
        if not self.is_longer(cap):
            return self
        parameters = capped_members(self.parameters or {}, (), "max_new_tokens", cap)
        body = with_members(self.members, {"parameters": parameters})
        return msgspec.structs.replace(
            self, members=members_of(body), parameters=parameters, body=body, output_max=cap
        )

    def upstream_body(self, engine: Engine, backend_model: str, *, stream: bool) -> bytes:  # noqa: ARG002 - TGI knows no model
        """The body to send, with details asked for; whether it streams, the path says, and on the root path ``stream``."""
        changes: dict[str, Any] = {"model": None} if "model" in self.members else {}
        if not self.shows_details:
            changes["parameters"] = self._parameters()
        if self.path == ROOT_PATH and stream and not self.stream:
            changes["stream"] = True
        return with_members(self.members, changes) if changes else self.body

    def _parameters(self) -> Members:
        given = {"do_sample": _SAMPLED} if self.parameters is None else self.parameters
        return given | {"details": _DETAILS}

    def stream_meter(self, engine: Engine) -> TgiStreamMeter:  # noqa: ARG002 - every engine of this dialect reports alike
        """What follows the streamed reply."""
        return TgiStreamMeter(shows_details=self.shows_details)

    def reply_meter(self, engine: Engine, body: bytes) -> TgiReplyMeter:  # noqa: ARG002 - every engine of this dialect reports alike
        """What reads the whole reply."""
        return TgiReplyMeter(body, best_of=self.choices, shows_details=self.shows_details)


def parse(asked: Asked) -> TgiCall:
    """The call of a request body; raises ``InvalidInput`` that names the member and says what to write."""
    members = members_of(asked.body)
    _check_inputs(members)
    parameters = member(members, "parameters", _decode_parameters, "an object")
    known = parameters or {}
    stream = asked.path == STREAM_PATH or (asked.path == ROOT_PATH and flag(members, "stream"))
    # Whole replies hold details also when only those of the prompt were asked for.
    shows_details = flag(known, "details") or (not stream and flag(known, "decoder_input_details"))
    return TgiCall(
        operation=asked.operation,
        dialect=Dialect.TGI,
        path=asked.path,
        body=asked.body,
        content_type=asked.content_type,
        model=model_of(members, required=False),
        stream=stream,
        framing=Framing.SSE,
        choices=_best_of(known),
        output_max=output_max(known, "max_new_tokens"),
        members=members,
        parameters=parameters,
        shows_details=shows_details,
    )


def _check_inputs(members: Members) -> None:
    if "inputs" not in members:
        raise InvalidInput("you must provide inputs", "inputs")
    if start(members["inputs"], 1) != b'"':
        raise InvalidInput(f"inputs must be a string, got {shown(members['inputs'])}", "inputs")


def _best_of(parameters: Members) -> int:
    """How many sequences are generated for the one that is shown."""
    best_of = whole_number(parameters, "best_of")
    if best_of is not None and not 1 <= best_of <= BEST_OF_MAX:
        raise InvalidInput(f"best_of must be 1 to {BEST_OF_MAX}, got {best_of}", "parameters.best_of")
    return best_of or 1
