"""What answers at an address: which engine it is and which models it has, from what it says of itself (pure).

First it is asked for its models, then, round by round, what :func:`further` chooses by the answers so far; then
:func:`conclude` decides. No question makes an engine generate anything or load a model.

Sources: protocols.md §2, §3, §4, §6; our recordings of llama.cpp and vLLM; NVIDIA's API references of NIM 1.x and 2.x
(``/v1/metadata``); TGI's router (``/info``); Triton's server metadata, model repository and model metadata extensions
(``/v2``); Ollama's ``/api/show``; SGLang's ``/get_model_info``; the routes of ``transformers serve``; ``owned_by`` as
vLLM, SGLang, llama.cpp and TensorRT-LLM write it.
"""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from billing.fleet.backend import EngineKind
from billing.fleet.deployment import BACKEND_MODEL_LENGTH_MAX
from billing.fleet.place import place_of

USUAL_PORTS = (8000, 8080, 11434, 30000)
"""Where engines listen unless they are told otherwise: vLLM, NIM, TensorRT-LLM, Triton and transformers; llama.cpp;
Ollama; SGLang."""
MODELS_MAX = 100
"""Models of one server that are taken; more of them are an operator's to add."""
MODELS_ASKED_MAX = 16
"""Models of one server that are asked about one by one; what the others are for is not known."""
ROUNDS_MAX = 3
"""Times that :func:`further` may choose questions: by the list of models, by the engine, by the engine's models."""

_OK, _BAD_REQUEST, _NOT_FOUND, _METHOD_NOT_ALLOWED = 200, 400, 404, 405
_REFUSED = {401, 403}
_OPENAI_HOST = "api.openai.com"


class Question(msgspec.Struct, frozen=True):
    """One harmless request."""

    method: str
    path: str
    body: bytes = b""


MODELS = Question("GET", "/v1/models")
PROPS = Question("GET", "/props")
"""llama.cpp lists its models to anybody and shows this only to holders of its API key."""
VERSION = Question("GET", "/version")
"""vLLM answers this to anybody, also where its other paths want an API key."""
METADATA = Question("GET", "/v1/metadata")
"""NIM has it, with its own version; plain vLLM has not."""
TGI_INFO = Question("GET", "/info")
OLLAMA_VERSION = Question("GET", "/api/version")
TRITON = Question("GET", "/v2")
TRITON_INDEX = Question("POST", "/v2/repository/index", b'{"ready":true}')
LOAD_ROUTE = Question("GET", "/load_model")
"""``transformers serve`` takes POST here and at :data:`RESET_ROUTE`, so this is answered 405 and does nothing."""
RESET_ROUTE = Question("GET", "/reset")
CHAT_ROUTE = Question("GET", "/v1/chat/completions")
"""405 says that the route is there, 404 that it is not."""
EMBEDDING_ROUTE = Question("GET", "/v1/embeddings")
EMPTY_EMBEDDING = Question("POST", "/v1/embeddings", b"{}")
"""llama.cpp answers 501 unless it serves embeddings, and then 400 because of what is missing."""
SGLANG_INFO = Question("GET", "/get_model_info")

_ROUTES = (CHAT_ROUTE, EMBEDDING_ROUTE)
_CLOSED = (VERSION, PROPS, METADATA, TGI_INFO)
"""What may tell the kind of a server that does not list its models to just anybody."""
_UNLISTED = (OLLAMA_VERSION, TGI_INFO, TRITON)
"""What may tell the kind of a server that has no list of models."""


class Answer(msgspec.Struct, frozen=True):
    """What came back; ``status`` 0 means nothing that could be read. ``server`` is the header of that name."""

    status: int = 0
    server: str = ""
    body: bytes = b""


SILENCE = Answer()
Answers = Mapping[Question, Answer]


class Found(msgspec.Struct, frozen=True):
    """A model server. ``engine`` None: it lets nobody in and shows nothing of itself."""

    engine: EngineKind | None
    models: tuple[str, ...] = ()
    """As the server itself calls them."""
    needs_credential: bool = False
    embedding: frozenset[str] = frozenset()
    """Those models that are there for embeddings and not for chat, as far as that can be told."""

    @property
    def title(self) -> str:
        """What people call it."""
        return "something" if self.engine is None else self.engine.facts.title


class _Card(msgspec.Struct, frozen=True):
    id: str
    owned_by: str | None = None


class _Cards(msgspec.Struct, frozen=True):
    data: list[_Card]


class _Named(msgspec.Struct, frozen=True):
    name: str


class _TritonModel(msgspec.Struct, frozen=True):
    inputs: list[_Named]


_OWNERS = {
    "llamacpp": EngineKind.LLAMA_CPP,
    "vllm": EngineKind.VLLM,
    "sglang": EngineKind.SGLANG,
    "tensorrt_llm": EngineKind.TENSORRT_LLM,
}
"""What engines write into ``owned_by``. NIM writes ``vllm`` or ``system``, Ollama and TGI the name of a model's author."""
_TRITON_TEXT = "text_input"
"""The input of a Triton model that its ``generate`` route can be asked with text."""


def further(url: str, answers: Answers) -> tuple[Question, ...]:
    """What is to be asked next of a server that was asked for its models; nothing once enough is known."""
    return tuple(question for question in _worth_asking(url, answers) if question not in answers)


def _worth_asking(url: str, answers: Answers) -> Iterable[Question]:
    listed = _of(answers, MODELS)
    if _is_openai(url):
        return ()
    if listed.status in _REFUSED:
        return _CLOSED
    return (*_who_is_it(listed), *_what_has_it(_engine(url, answers), answers))


def _who_is_it(listed: Answer) -> Iterable[Question]:
    """What tells which engine lists models so, and what they are for."""
    if _is_llama_cpp(listed):
        return (PROPS, EMPTY_EMBEDDING)
    if _cards(listed) is None:
        return _UNLISTED
    owner = _owner(listed)
    if owner == "sglang":
        return (SGLANG_INFO, CHAT_ROUTE)
    if owner in _OWNERS:
        return (METADATA, *_ROUTES)
    return (OLLAMA_VERSION, TGI_INFO, METADATA, LOAD_ROUTE, RESET_ROUTE, *_ROUTES)


def _what_has_it(engine: EngineKind | None, answers: Answers) -> Iterable[Question]:
    """What tells of its models where its list says too little, once the engine is known."""
    if engine is EngineKind.OLLAMA:
        return [_shown(model) for model in _models(_of(answers, MODELS))[:MODELS_ASKED_MAX]]
    if engine is EngineKind.TRITON:
        ready = _ready(_of(answers, TRITON_INDEX))
        return [TRITON_INDEX, *(_triton_model(name) for name in ready[:MODELS_ASKED_MAX])]
    return ()


def conclude(url: str, answers: Answers) -> Found | None:
    """What answers at an address; None when it is no model server."""
    listed = _of(answers, MODELS)
    if listed.status in _REFUSED or (_is_openai(url) and listed.status != _OK):
        return Found(_closed(url, answers), needs_credential=True)
    engine = _engine(url, answers)
    if engine is None:
        return None
    models = _triton_models(answers) if engine is EngineKind.TRITON else _models(listed)
    return Found(
        engine,
        models,
        needs_credential=any(_of(answers, asked).status in _REFUSED for asked in (PROPS, *_ROUTES)),
        embedding=frozenset(model for model in models if _embeds(engine, model, answers)),
    )


def _closed(url: str, answers: Answers) -> EngineKind | None:
    """What refuses to list its models, by the little that it shows."""
    if _is_openai(url):
        return EngineKind.OPENAI
    if _is_llama_cpp(_of(answers, MODELS)) or _is_llama_cpp(_of(answers, PROPS)):
        return EngineKind.LLAMA_CPP
    if _is_nim(answers):
        return _nim(answers)
    if _is_tgi(answers):
        return EngineKind.TGI
    return EngineKind.VLLM if _says_text(_of(answers, VERSION), "version") else None


def _engine(url: str, answers: Answers) -> EngineKind | None:
    listed = _of(answers, MODELS)
    if _is_openai(url):
        return EngineKind.OPENAI
    if _is_llama_cpp(listed):
        return EngineKind.LLAMA_CPP
    if _is_nim(answers):
        return _nim(answers)
    return _OWNERS.get(_owner(listed)) or _by_its_own_routes(answers) or _by_its_list(listed)


def _by_its_own_routes(answers: Answers) -> EngineKind | None:
    if _is_tgi(answers):
        return EngineKind.TGI
    if _says_text(_of(answers, OLLAMA_VERSION), "version"):
        return EngineKind.OLLAMA
    if _is_triton(_of(answers, TRITON)):
        return EngineKind.TRITON
    routes = {_of(answers, asked).status for asked in (LOAD_ROUTE, RESET_ROUTE, CHAT_ROUTE)}
    return EngineKind.TRANSFORMERS if routes == {_METHOD_NOT_ALLOWED} else None


def _by_its_list(listed: Answer) -> EngineKind | None:
    """Whatever lists models as OpenAI does is taken to speak as OpenAI does."""
    return None if _cards(listed) is None else EngineKind.GENERIC


def _is_openai(url: str) -> bool:
    host = place_of(url).host
    return host == _OPENAI_HOST or host.endswith(f".{_OPENAI_HOST}")


def _is_llama_cpp(answer: Answer) -> bool:
    return answer.server == "llama.cpp" or _owner(answer) == "llamacpp"


def _is_tgi(answers: Answers) -> bool:
    return str(_object(_of(answers, TGI_INFO)).get("router", "")).startswith("text-generation-router")


def _is_triton(answer: Answer) -> bool:
    """By its extensions, which other servers of the same protocol have not; its name is whatever it was started with."""
    extensions = _object(answer).get("extensions")
    return isinstance(extensions, list) and "model_repository" in extensions


def _is_nim(answers: Answers) -> bool:
    said = _object(_of(answers, METADATA))
    return isinstance(said.get("version"), str) and isinstance(said.get("modelInfo"), list)


def _nim(answers: Answers) -> EngineKind:
    """NIM of which generation: the first had a server of its own, the second serves with vLLM."""
    version = str(_object(_of(answers, METADATA)).get("version"))
    return EngineKind.NIM_1 if version.partition(".")[0] in {"0", "1"} else EngineKind.NIM


def _embeds(engine: EngineKind, model: str, answers: Answers) -> bool:
    """Whether a model is there for embeddings and not for chat."""
    if engine is EngineKind.LLAMA_CPP:
        return _of(answers, EMPTY_EMBEDDING).status == _BAD_REQUEST
    if engine is EngineKind.SGLANG:
        return _object(_of(answers, SGLANG_INFO)).get("is_generation") is False
    if engine is EngineKind.OLLAMA:
        abilities = _object(_of(answers, _shown(model))).get("capabilities")
        return isinstance(abilities, list) and "embedding" in abilities and "completion" not in abilities
    has_chat = _of(answers, CHAT_ROUTE).status != _NOT_FOUND
    return not has_chat and _of(answers, EMBEDDING_ROUTE).status == _METHOD_NOT_ALLOWED


def _of(answers: Answers, question: Question) -> Answer:
    return answers.get(question, SILENCE)


def _shown(model: str) -> Question:
    """What Ollama says of one of its models."""
    return Question("POST", "/api/show", msgspec.json.encode({"model": model}))


def _triton_model(name: str) -> Question:
    # A name of dots alone would be a step in the path.
    part = quote(name, safe="") if name.strip(".") else name.replace(".", "%2E")
    return Question("GET", f"/v2/models/{part}")


def _triton_models(answers: Answers) -> tuple[str, ...]:
    """Those models that can be asked with text: the parts of an ensemble take numbers."""
    ready = _ready(_of(answers, TRITON_INDEX))
    return tuple(name for name in ready if _takes_text(_of(answers, _triton_model(name))))


def _takes_text(answer: Answer) -> bool:
    try:
        inputs = msgspec.json.decode(answer.body, type=_TritonModel).inputs
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return answer.status == _OK and any(each.name == _TRITON_TEXT for each in inputs)


def _ready(index: Answer) -> tuple[str, ...]:
    if index.status != _OK:
        return ()
    try:
        return _taken(each.name for each in msgspec.json.decode(index.body, type=list[_Named]))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ()


def _owner(listed: Answer) -> str:
    cards = _cards(listed)
    return (cards[0].owned_by or "") if cards else ""


def _models(listed: Answer) -> tuple[str, ...]:
    return _taken(card.id for card in _cards(listed) or [])


def _taken(names: Iterable[str]) -> tuple[str, ...]:
    """Names once each, without those that no request could carry, and not without end."""
    known = [name for name in names if name.isprintable() and 0 < len(name) <= BACKEND_MODEL_LENGTH_MAX]
    return tuple(dict.fromkeys(known[:MODELS_MAX]))


def _cards(listed: Answer) -> list[_Card] | None:
    """The models of a list in OpenAI's shape; None when the answer is none."""
    if listed.status != _OK:
        return None
    try:
        return msgspec.json.decode(listed.body, type=_Cards).data
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _says_text(answer: Answer, member: str) -> bool:
    return isinstance(_object(answer).get(member), str)


def _object(answer: Answer) -> dict[str, Any]:
    """The JSON object of a good answer; an empty one for anything else."""
    if answer.status != _OK:
        return {}
    try:
        return msgspec.json.decode(answer.body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
