"""Random requests in every dialect that llama.cpp serves, each the same for the same seed and number."""

import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tests.e2e.clients_kit import CITY, MESSAGES

Body = dict[str, Any]
WORDS = [
    "what",
    "does",
    "a",
    "token",
    "cost",
    "in",
    "the",
    "café",
    "🚀",
    "42",
    '{"x": 1}',
    "<think>",
    "list",
    "日本",
]
CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
MESSAGE, NATIVE, INFILL, EMBEDDINGS = "/v1/messages", "/completion", "/infill", "/v1/embeddings"
NO_THINKING: Body = {"chat_template_kwargs": {"enable_thinking": False}}
SCHEMA: Body = {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": CITY}}}
TOOL = {"name": "weather", "parameters": CITY}
TOOLS: Body = {"tools": [{"type": "function", "function": TOOL}], "tool_choice": "required"}
CLAUDE_TOOLS: Body = {"tools": [{"name": "weather", "input_schema": CITY}], "tool_choice": {"type": "any"}}
UNFIT: Body = {"temperature": "hot"}
"""The engine refuses this one."""


class Request(NamedTuple):
    """One request, and when its client hangs up: after so many events of a stream, or so many seconds; None for never."""

    path: str
    body: Body
    events: int | None = None
    seconds: float | None = None

    @property
    def is_broken_off(self) -> bool:
        """Whether its client hangs up."""
        return self.events is not None or self.seconds is not None

    @property
    def is_stream(self) -> bool:
        """Whether its client wants the reply as a stream."""
        return self.body.get("stream") is True

    @property
    def has_prompts(self) -> bool:
        """Whether there are several prompts: an array without a number in it."""
        prompt = self.body.get("prompt")
        return (
            isinstance(prompt, list)
            and len(prompt) > 1
            and all(isinstance(each, str | list) for each in prompt)
        )

    @property
    def answers(self) -> int:
        """How many answers the engine makes: choices of each prompt."""
        prompts = len(self.body["prompt"]) if self.has_prompts else 1
        return int(self.body.get("n_cmpl") or self.body.get("n") or 1) * prompts

    def __str__(self) -> str:
        """The dialect's path and how the request goes, without its text."""
        left = "" if not self.is_broken_off else f", left after {self.events or f'{self.seconds:.2f} s'}"
        return f"{self.path}{' stream' if self.is_stream else ''}, {self.answers} answers{left}"


def text(chance: random.Random) -> str:
    return " ".join(chance.choices(WORDS, k=chance.randint(1, 12)))


def tokens(chance: random.Random) -> list[int]:
    return [chance.randrange(3, 1_000) for _ in range(chance.randint(1, 12))]


def length(chance: random.Random) -> int:
    """A limit of the answer; the golden model's whole answer is 53 tokens long."""
    return chance.choice([0, 1, 2, 10, 30, 60, 90])


def chat(chance: random.Random, model: str) -> Request:
    body: Body = {
        "messages": [MESSAGES[0], {"role": "user", "content": text(chance)}],
        "max_tokens": length(chance),
    }
    body |= chance.choice(
        [{}, {}, NO_THINKING, SCHEMA, TOOLS, {"reasoning_format": "none"}, {"stop": [" a5", " r3"]}]
    )
    if chance.random() < 0.3:
        body["n"] = chance.randint(1, 3)
    if chance.random() < 0.1:
        body |= {"logprobs": True, "stream": True}
    return _asked(
        chance, CHAT, model, body | chance.choice([{}, {"stream_options": {"include_usage": True}}])
    )


def completions(chance: random.Random, model: str) -> Request:
    prompts = [text(chance) for _ in range(chance.randint(1, 4))]
    prompt = chance.choice([text(chance), tokens(chance), prompts, [tokens(chance), tokens(chance)]])
    body: Body = {"prompt": prompt, "max_tokens": length(chance), "n": chance.choice([1, 1, 2])}
    return _asked(chance, COMPLETIONS, model, body)


def responses(chance: random.Random, model: str) -> Request:
    spoken = [{"role": "user", "content": [{"type": "input_text", "text": text(chance)}]}]
    body: Body = {"input": chance.choice([text(chance), spoken]), "max_output_tokens": length(chance)}
    return _asked(chance, RESPONSES, model, body)


def message(chance: random.Random, model: str) -> Request:
    body: Body = {"messages": [{"role": "user", "content": text(chance)}], "max_tokens": length(chance)}
    return _asked(
        chance, MESSAGE, model, body | chance.choice([{}, {}, CLAUDE_TOOLS, {"system": text(chance)}])
    )


def native(chance: random.Random, model: str) -> Request:
    mixed = [text(chance), *tokens(chance)]
    prompt = chance.choice(
        [text(chance), tokens(chance), mixed, [text(chance), text(chance)], [tokens(chance)]]
    )
    body: Body = {"prompt": prompt, "n_predict": length(chance)}
    if chance.random() < 0.3:
        body["n_cmpl"] = chance.randint(1, 3)
    if chance.random() < 0.2:
        body["response_fields"] = ["content", "model"]
    return _asked(chance, NATIVE, model, body)


def infill(chance: random.Random, model: str) -> Request:
    body: Body = {"input_prefix": text(chance), "input_suffix": text(chance), "n_predict": length(chance)}
    return _asked(chance, INFILL, model, body | chance.choice([{}, {"prompt": text(chance)}]))


def counting(chance: random.Random, model: str) -> Request:
    """What counts or cuts text and generates nothing."""
    said = [{"role": "user", "content": text(chance)}]
    counted: list[tuple[str, Body]] = [
        ("/tokenize", {"content": text(chance)}),
        ("/detokenize", {"tokens": tokens(chance)}),
        ("/v1/messages/count_tokens", {"messages": said, "max_tokens": 9}),
        ("/v1/chat/completions/input_tokens", {"messages": said}),
        ("/v1/responses/input_tokens", {"input": text(chance)}),
    ]  # fmt: skip
    path, body = chance.choice(counted)
    return Request(path, {"model": model} | body)


def embeddings(chance: random.Random, model: str) -> Request:
    several = [text(chance) for _ in range(chance.randint(1, 5))]
    given = chance.choice([text(chance), several, tokens(chance), [tokens(chance), tokens(chance)]])
    form = chance.choice([{}, {"encoding_format": "base64"}])
    return Request(EMBEDDINGS, {"model": model, "input": given} | form)


def unfit(chance: random.Random, model: str) -> Request:
    made = chance.choice([chat, completions, message])(chance, model)
    return made._replace(body=made.body | UNFIT)


Maker = Callable[[random.Random, str], Request]
FINISHED: Sequence[Maker] = [
    chat, chat, chat, completions, completions, responses, responses, message, message, native, native, infill, counting,
    unfit,
]  # fmt: skip


def finished(seed: str, models: Sequence[str], count: int) -> list[Request]:
    """Requests whose clients stay to the end."""
    made = []
    for number in range(count):
        chance = random.Random(f"{seed} {number}")
        made.append(chance.choice(FINISHED)(chance, chance.choice(models)))
    return made


def embedded(seed: str, model: str, count: int) -> list[Request]:
    """Texts to embed, or to tokenize at the same server."""
    makers: Sequence[Maker] = [embeddings, embeddings, embeddings, embeddings, counting_text]
    chances = [random.Random(f"{seed} {number}") for number in range(count)]
    return [chance.choice(makers)(chance, model) for chance in chances]


def counting_text(chance: random.Random, model: str) -> Request:
    return Request("/tokenize", {"model": model, "content": text(chance)})


COUNTED: Sequence[Maker] = [chat, completions, responses, native, infill]
"""Dialects in which llama.cpp tells its running count."""
LONG, SHORT = 300, 20
"""Tokens of an answer that the slow model is seconds at, and of one whose client stays."""
UNSEEN_MAX = 80
"""Of one that the engine goes on with when its client has left."""


def streams_left(seed: str, model: str, count: int, events_max: int) -> list[Request]:
    """Streams, most of them left after some of their events."""
    made = []
    for number in range(count):
        chance = random.Random(f"{seed} {number}")
        events = chance.choice([None, *[chance.randint(1, events_max)] * 4])
        request = chance.choice(COUNTED)(chance, model)
        made.append(_cut(request, LONG if events else SHORT, stream=True)._replace(events=events))
    return made


def wholes_left(seed: str, model: str, count: int, seconds: tuple[float, float]) -> list[Request]:
    """Replies that are not streamed, most of their clients gone before they are there."""
    made = []
    for number in range(count):
        chance = random.Random(f"{seed} {number}")
        after = chance.choice([None, *[chance.uniform(*seconds)] * 4])
        request = chance.choice(COUNTED)(chance, model)
        made.append(_cut(request, LONG if after else SHORT, stream=False)._replace(seconds=after))
    return made


def others_left(seed: str, model: str, count: int) -> list[Request]:
    """Clients that leave where no count is told before the end: Anthropic's streams, whole replies that are not assembled."""
    made = []
    for number in range(count):
        chance = random.Random(f"{seed} {number}")
        stream = chance.random() < 0.5
        maker = message if stream else chance.choice([message, *COUNTED])
        request = _cut(maker(chance, model), LONG if stream else UNSEEN_MAX, stream=stream)
        if stream:
            made.append(request._replace(events=chance.randint(1, 20)))
        else:
            made.append(request._replace(seconds=chance.uniform(0.05, 0.4)))
    return made


def _cut(request: Request, tokens_max: int, *, stream: bool) -> Request:
    """The same request with another length, streamed or not; nothing else in it makes it end early."""
    body = {name: value for name, value in request.body.items() if name not in {"logprobs", "stop", "stream"}}
    for name in ("max_tokens", "max_output_tokens", "n_predict"):
        if name in body:
            body[name] = tokens_max
    return request._replace(body=body | ({"stream": True} if stream else {}))


def _asked(chance: random.Random, path: str, model: str, body: Body) -> Request:
    stream: Body = {"stream": True} if chance.random() < 0.5 else {}
    return Request(path, {"model": model} | stream | body)
