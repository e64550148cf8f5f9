"""Streams of every dialect and framing, with the request that asks for each and an engine that sends such: recorded ones, ones of
our own making, and those of the corpus where it is present.
"""

import re
from typing import Any, NamedTuple

import msgspec

from tests import corpus_kit, stream_kit
from tests.native_kit import sse
from tests.openai_kit import FORM, events, form

SSE, LINES, AUDIO = b"text/event-stream", b"application/x-ndjson", b"audio/mpeg"
DONE = b"data: [DONE]\n\n"
_LINE_END = re.compile(rb"(?<=\n)")
_BLANK_LINE = re.compile(rb"(?<=\n\n)")


class Stream(NamedTuple):
    """A stream as an engine sends it, and what asks for it; ``model`` is named after the engine."""

    name: str
    engine: str
    path: str
    request: bytes
    body: bytes
    media_type: bytes = SSE
    content_type: bytes = b"application/json"

    def __repr__(self) -> str:
        return f"<Stream {self.name} of {self.engine}, {len(self.body)} B>"

    @property
    def model(self) -> str:
        """The public name of the model that this engine serves."""
        return f"tiny-{self.engine}"

    def sent(self) -> tuple[str, bytes]:
        """Path and body of the request, with the name of the model."""
        path = self.path.replace("/tiny/", f"/{self.model}/")
        if not self.content_type.startswith(b"application/json"):
            return path, self.request.replace(b"tiny", self.model.encode())
        members = msgspec.json.decode(self.request)
        return path, msgspec.json.encode(members | {"model": self.model})

    def events(self) -> list[bytes]:
        """The body cut into its events; audio has none and is one."""
        if self.media_type == AUDIO:
            return [self.body]
        cut = _LINE_END if self.media_type == LINES else _BLANK_LINE
        return [event for event in cut.split(self.body) if event]


def asked(**members: Any) -> bytes:
    return msgspec.json.encode({"model": "tiny"} | members)


def lines(*values: dict[str, Any]) -> bytes:
    return b"".join(msgspec.json.encode(value) + b"\n" for value in values)


CHAT = asked(messages=[], stream=True)
ENGINES = {"llamacpp": "llama.cpp", "vllm": "vllm", "transformers_serve": "transformers"}
RECORDED = [
    Stream(
        f"{folder} {name}", ENGINES[folder], stream_kit.recorded(folder, name).path or "/v1/chat/completions",
        stream_kit.recorded(folder, name).request or CHAT, stream_kit.recorded(folder, name).body,
    )
    for folder, name in stream_kit.STREAMS
]  # fmt: skip
WHOLE_ASKED = [
    stream._replace(
        name=f"{stream.name}, assembled", engine=f"{stream.engine}-assembled", request=asked(messages=[])
    )
    for stream in RECORDED
    if stream.path.endswith("chat/completions") and "n2" not in stream.name
]
"""The same of clients that want no stream, at backends that assemble."""

TIMINGS = {"cache_n": 3, "prompt_n": 1, "predicted_ms": 0.5}
RESPONSE = {"id": "resp_1", "object": "response", "model": "tiny"}
RESPONSES = events(
    {"type": "response.created", "response": RESPONSE | {"status": "in_progress", "usage": None}},
    {"type": "response.reasoning_text.delta", "delta": "é", "item_id": "r", "timings": TIMINGS | {"predicted_n": 2}},
    {"type": "response.output_text.delta", "delta": "🚀", "item_id": "m", "timings": TIMINGS | {"predicted_n": 4}},
    {"type": "response.completed", "response": RESPONSE | {"status": "completed", "output": [], "usage": {
        "input_tokens": 4, "output_tokens": 5, "total_tokens": 9, "input_tokens_details": {"cached_tokens": 3}}}},
)  # fmt: skip
BEGUN = {
    "id": "msg_1",
    "model": "tiny",
    "content": [],
    "usage": {"input_tokens": 7, "cache_read_input_tokens": 2},
}
MESSAGE = events(
    {"type": "message_start", "message": BEGUN},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "grün"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 12}},
    {"type": "message_stop"},
)
NATIVE = sse(
    *[{"index": 0, "content": text, "tokens": [7], "stop": False, "tokens_predicted": number, "tokens_evaluated": 4,
       "timings": TIMINGS | {"predicted_n": number}} for number, text in enumerate((" é", "", "🚀"), 1)],
    {"index": 0, "content": "", "stop": True, "tokens_predicted": 3, "tokens_evaluated": 4, "model": "tiny",
     "timings": TIMINGS | {"predicted_n": 3}},
)  # fmt: skip
TWO_PROMPTS = sse(
    None,
    *[{"index": index, "content": "é", "tokens": [7], "stop": False, "tokens_predicted": 1, "tokens_evaluated": 4,
       "timings": TIMINGS | {"predicted_n": 1}} for index in (0, 1)],
    *[{"index": index, "content": "", "stop": True, "tokens_predicted": 2, "tokens_evaluated": 4,
       "timings": TIMINGS | {"predicted_n": 2}} for index in (1, 0)],
)  # fmt: skip
OLLAMA_DONE = {"done": True, "done_reason": "stop", "prompt_eval_count": 26, "eval_count": 28}
OLLAMA_CHAT = lines(
    {"model": "tiny", "message": {"role": "assistant", "content": "", "thinking": "é…"}, "done": False},
    {"model": "tiny", "message": {"role": "assistant", "content": "🚀"}, "done": False},
    {"model": "tiny", "message": {"role": "assistant", "content": ""}} | OLLAMA_DONE,
)
OLLAMA_TEXT = lines(
    {"model": "tiny", "response": "é", "done": False},
    {"model": "tiny", "response": "", "context": [1, 2]} | OLLAMA_DONE,
)
TGI = sse(
    {"index": 1, "token": {"id": 5, "text": "é", "special": False}, "generated_text": None, "details": None},
    {"index": 2, "token": {"id": 2, "text": "", "special": True}, "generated_text": "é", "details": {
        "finish_reason": "eos_token", "generated_tokens": 2, "input_length": 3}},
)  # fmt: skip
TRITON = sse(*[
    {"model_name": "tiny", "text_output": text, "num_input_tokens": 5, "num_output_tokens": 1} for text in ("é", "🚀", "")
])  # fmt: skip
TRANSCRIBED = events(
    {"type": "transcript.text.delta", "delta": "grün"},
    {"type": "transcript.text.done", "text": "grün", "usage": {
        "type": "tokens", "input_tokens": 14, "output_tokens": 3, "total_tokens": 17,
        "input_token_details": {"text_tokens": 0, "audio_tokens": 14}}},
)  # fmt: skip
SPOKEN = events(
    {"type": "speech.audio.delta", "audio": "AAAA"},
    {"type": "speech.audio.done", "usage": {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}},
)
PAINTED = events(
    {"type": "image_generation.partial_image", "b64_json": "AAAA", "partial_image_index": 0},
    {"type": "image_generation.completed", "b64_json": "AAAA", "usage": {
        "input_tokens": 9, "output_tokens": 272, "total_tokens": 281, "input_tokens_details": {"text_tokens": 9}}},
)  # fmt: skip
SPEECH = asked(input="grün", voice="v")
AUDIO_FORM = form(("model", b"tiny", None), ("stream", b"true", None), ("file", b"RIFF", "a.wav"))
OWN = [
    *[Stream(f"responses {engine}", engine, "/v1/responses", asked(input="x", stream=True), RESPONSES)
      for engine in ("llama.cpp", "vllm", "openai", "generic")],
    *[Stream(f"messages {engine}", engine, "/v1/messages", asked(messages=[], max_tokens=9, stream=True), MESSAGE)
      for engine in ("llama.cpp", "vllm", "ollama", "generic")],
    Stream("completion", "llama.cpp", "/completion", asked(prompt="x", stream=True), NATIVE),
    Stream("completion, timed", "llama.cpp", "/completion", asked(prompt="x", stream=True, timings_per_token=True), NATIVE),
    Stream("completion, part", "llama.cpp", "/completion", asked(prompt="x", stream=True, response_fields=["content"]), NATIVE),
    Stream("two prompts", "llama.cpp", "/completion", asked(prompt=["x", "y"], stream=True), TWO_PROMPTS),
    Stream("infill", "llama.cpp", "/infill", asked(input_prefix="x", input_suffix="y", stream=True), NATIVE),
    Stream("chat of ollama", "ollama", "/api/chat", asked(messages=[]), OLLAMA_CHAT, LINES),
    Stream("text of ollama", "ollama", "/api/generate", asked(prompt="x"), OLLAMA_TEXT, LINES),
    Stream("tgi", "tgi", "/generate_stream", asked(inputs="x"), TGI),
    Stream("tgi with details", "tgi", "/generate_stream", asked(inputs="x", parameters={"details": True}), TGI),
    Stream("triton", "triton", "/v2/models/tiny/generate_stream", asked(text_input="x"), TRITON),
    Stream("transcription", "openai", "/v1/audio/transcriptions", AUDIO_FORM, TRANSCRIBED, SSE, FORM),
    Stream("speech in events", "openai", "/v1/audio/speech", asked(input="x", voice="v", stream_format="sse"), SPOKEN),
    Stream("speech", "openai", "/v1/audio/speech", SPEECH, bytes(range(256)) * 20, AUDIO),
    Stream("images", "openai", "/v1/images/generations", asked(prompt="x", stream=True), PAINTED),
]  # fmt: skip


def _of_corpus() -> list[Stream]:
    """The streams of the corpus whose dialect is proxied and whose engine is known to serve it."""
    found = []
    for case in corpus_kit.cases():
        call = case.call
        if call is None or not case.is_stream or (call.dialect, call.operation) not in case.engine.serves:
            continue
        media_type = LINES if call.framing == "ndjson" else SSE
        found.append(Stream(
            case.name, case.engine.name, call.path, call.body, case.raw, media_type, call.content_type,
        ))  # fmt: skip
    return found


STREAMS = [*RECORDED, *WHOLE_ASKED, *OWN, *_of_corpus()]
