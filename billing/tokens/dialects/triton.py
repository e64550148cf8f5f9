"""Triton's generate extension: the model stands in the path (triton-inference-server/server@e1db8a60 ``docs/protocol``).

A member of a request becomes the input tensor of its name, or, where the model has none, a parameter that most models do
not look at. So the counts are asked for everywhere (``Engine.stream_fields``) and taken out again where the client did not
ask. The one backend known to refuse is vLLM's from before it had them: it takes every parameter for one of sampling.
"""

import re
from typing import Any, Self
from urllib.parse import quote, unquote

import msgspec

from billing.errors import InvalidInput
from billing.tokens.call import Asked, Call
from billing.tokens.dialects.triton_meter import INPUT, OUTPUT, TritonReplyMeter, TritonStreamMeter
from billing.tokens.engines import Engine
from billing.tokens.members import (
    MODEL_LENGTH_MAX,
    Members,
    count_of,
    items_of,
    member,
    members_of,
    output_max,
    start,
    text_of,
    with_members,
)
from billing.tokens.operation import Dialect, Framing

PATH = re.compile(
    r"/v2/models/(?P<model>[^/]+)(?P<version>/versions/[0-9]+)?/(?P<verb>generate|generate_stream)"
)
PATH_PREFIX = "/v2/models/"
CHOICES_MAX = 128
_ASKING = {f"return_{name}": name for name in (INPUT, OUTPUT)}
"""What a request says to get a count, and the member of the reply that holds it."""
_OUTPUT_MAX_NAMES = ("max_tokens", "request_output_len", "sampling_param_max_tokens")
_CHOICES_NAMES = ("n", "best_of", "beam_width", "num_return_sequences", "sampling_param_best_of")
_NO_ECHO_NAMES = ("exclude_input_in_output", "sampling_param_exclude_input_from_output")
_decode_parameters = msgspec.json.Decoder(Members | None).decode
_decode_members = msgspec.json.Decoder(Members).decode
_TRUE = b"true"


class TritonCall(Call, frozen=True, kw_only=True):
    """One request to generate text."""

    members: Members
    parameters: Members
    """What stands in ``parameters``: read by the server as if it stood beside it."""

    def capped(self, cap: int) -> Self:
        """The same call; raises ``InvalidInput`` for longer answers: where their length stands is the deployment's choice."""
        if self.is_longer(cap):
            raise InvalidInput(
                f"answers of this model have at most {cap:,} tokens; set `{self.output_member}` to at most {cap}",
                self.output_member,
            )
        return self

    def upstream_body(self, engine: Engine, backend_model: str, *, stream: bool) -> bytes:  # noqa: ARG002 - the path says both
        """The body to send: as it came where nothing must change, else with the counts asked for."""
        asking = {name: value for name, value in engine.stream_fields.items() if not self._says(name)}
        # A name that stood in both places would be one input given twice, which the server refuses.
        inside = {name: value for name, value in asking.items() if name in self.parameters}
        changes: dict[str, Any] = {name: value for name, value in asking.items() if name not in inside}
        if inside:
            changes["parameters"] = {**self.parameters, **inside}
        return with_members(self.members, changes) if changes else self.body

    def upstream_path(self, backend_model: str) -> str:
        """The path at the engine, with its own name for the model."""
        # A name of dots alone would be a step in the path.
        name = (
            quote(backend_model, safe="") if backend_model.strip(".") else backend_model.replace(".", "%2E")
        )
        parts = PATH.fullmatch(self.path)
        version, verb = (parts["version"] or "", parts["verb"]) if parts else ("", "generate")
        return f"{PATH_PREFIX}{name}{version}/{verb}"

    def stream_meter(self, engine: Engine) -> TritonStreamMeter:
        """What follows the streamed reply."""
        return TritonStreamMeter(self._hidden(engine))

    def reply_meter(self, engine: Engine, body: bytes) -> TritonReplyMeter:
        """What reads the whole reply."""
        prompt = "" if any(self._says(name) for name in _NO_ECHO_NAMES) else _prompt(self.members)
        return TritonReplyMeter(body, self._hidden(engine), prompt)

    def _hidden(self, engine: Engine) -> frozenset[str]:
        """The members of a reply that only metering asked for."""
        return frozenset(
            name
            for asking, name in _ASKING.items()
            if asking in engine.stream_fields and not self._says(asking)
        )

    def _says(self, name: str) -> bool:
        """Whether the client wrote a flag as true."""
        return any(
            bytes(place.get(name, b"")) in {_TRUE, b"[true]"} for place in (self.members, self.parameters)
        )


def parse(asked: Asked) -> TritonCall:
    """The call of a request body; raises ``InvalidInput`` that names the member and says what to write."""
    members = members_of(asked.body)
    parts = PATH.fullmatch(asked.path)
    parameters = member(members, "parameters", _decode_parameters, "an object") or {}
    places = [members, parameters, _sampling(members)]
    named = [output_max(place, *_OUTPUT_MAX_NAMES) for place in places]
    return TritonCall(
        operation=asked.operation,
        dialect=Dialect.TRITON,
        path=asked.path,
        body=asked.body,
        content_type=asked.content_type,
        model=_model(parts["model"] if parts else ""),
        stream=parts is not None and parts["verb"] == "generate_stream",
        framing=Framing.SSE,
        choices=_choices(places),
        prompts=_prompts(members),
        output_max=max((tokens for tokens in named if tokens is not None), default=None),
        members=members,
        parameters=parameters,
    )


def _model(segment: str) -> str:
    name = unquote(segment)
    if not name:
        raise InvalidInput("the path must name a model: /v2/models/{model}/generate", "model")
    if len(name) > MODEL_LENGTH_MAX:
        raise InvalidInput(
            f"the model's name is {len(name)} characters long, more than {MODEL_LENGTH_MAX}", "model"
        )
    return name


def _sampling(members: Members) -> Members:
    """The parameters that vLLM takes as one text of JSON; empty when there is none, or none that can be read."""
    raw = members.get("sampling_parameters")
    if raw is None or start(raw, 1) != b'"':
        return {}
    try:
        return _decode_members((text_of(members, "sampling_parameters") or "").encode())
    except (msgspec.DecodeError, RecursionError):
        return {}


def _choices(places: list[Members]) -> int:
    """How many sequences are generated for one prompt, as far as the bound of the request wants to know."""
    named = [count_of(place, name) for place in places for name in _CHOICES_NAMES]
    return min(max((number for number in named if number), default=1), CHOICES_MAX)


def _prompts(members: Members) -> int:
    text = members.get("text_input")
    return max(1, len(items_of(members, "text_input"))) if text is not None and start(text, 1) == b"[" else 1


def _prompt(members: Members) -> str:
    """The text asked about; empty where it is no text, or one that no reply could repeat."""
    text = members.get("text_input")
    try:
        return (text_of(members, "text_input") or "") if text is not None and start(text, 1) == b'"' else ""
    except InvalidInput:
        return ""
